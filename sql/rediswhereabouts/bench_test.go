package rediswhereabouts

import (
	"fmt"
	"testing"

	"teamtalk/core/whereabouts"
	"teamtalk/sql/dbtest"
)

// BenchmarkApply writes so many users in one pipeline. Each has a device on another node.
func BenchmarkApply(b *testing.B) {
	each(b, func(s *Store, u []uint32) error { return write(b, s, u) })
}

// BenchmarkLookup looks so many users up in one pipeline.
func BenchmarkLookup(b *testing.B) {
	each(b, func(s *Store, users []uint32) error {
		for _, f := range s.Lookup(b.Context(), users) {
			if f.Err != nil {
				return f.Err
			}
		}
		return nil
	})
}

// write writes a device of each user.
func write(b *testing.B, s *Store, users []uint32) error {
	for _, r := range s.Apply(b.Context(), node, updates(users...)) {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// each measures do for 1, 32 and 1,000 users.
func each(b *testing.B, do func(s *Store, users []uint32) error) {
	s := open(b, options(single(dbtest.Redis(b))))
	for _, n := range []int{1, 32, 1000} {
		users := make([]uint32, n)
		for i := range users {
			users[i] = uint32(i)
		}
		for _, r := range s.Apply(b.Context(), whereabouts.Node{Name: "b", Epoch: 1},
			updates(users...)) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := do(s, users); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
