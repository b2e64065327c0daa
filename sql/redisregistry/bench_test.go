package redisregistry

import (
	"fmt"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/sql/dbtest"
)

// BenchmarkPoll reads a registry of so many nodes, one round trip each time.
func BenchmarkPoll(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := Open(options(server(dbtest.Redis(b))))
			defer r.Close()
			nodes := make([]registry.Node, n)
			for i := range nodes {
				nodes[i] = msg(fmt.Sprint("msg-", i))
			}
			for first := 0; first < n; first += 100 {
				if _, err := r.renew(b.Context(), nodes[first:min(n, first+100)]); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := r.poll(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
