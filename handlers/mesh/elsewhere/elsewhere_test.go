package elsewhere

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"teamtalk/core/whereabouts"
)

// TestMap compares Map with a plain map.
func TestMap(t *testing.T) {
	var e Map
	plain := map[uint32]whereabouts.Node{}
	for i := range uint32(20_000) {
		user := i * 7919 % 300
		node := whereabouts.Node{Name: fmt.Sprintf("msg-%d", i%7), Epoch: uint64(i / 1000)}
		if i%3 == 0 {
			e.Remove(user)
			delete(plain, user)
		} else if e.Set(user, node, i%5 == 0) {
			plain[user] = node
		}
		if got, told := e.Get(user); got != plain[user] || i%15 == 5 && !told || i%3 == 0 && told {
			t.Fatalf("user %d is at %v (told: %v), want %v", user, got, told, plain[user])
		}
	}
	var users int
	for _, n := range plain {
		if !slices.Contains(nodesOf(&e), n) {
			t.Errorf("%v is missing", n)
		}
	}
	for _, n := range nodesOf(&e) {
		for _, user := range e.At(n) {
			if users++; plain[user] != n {
				t.Errorf("user %d is not at %v", user, n)
			}
		}
	}
	if users != len(plain) || len(e.nodes) > 300 {
		t.Errorf("%d users of %d, on %d nodes", users, len(plain), len(e.nodes))
	}
}

func nodesOf(e *Map) (list []whereabouts.Node) {
	for _, p := range e.nodes {
		if p.users > 0 {
			list = append(list, p.node)
		}
	}
	return list
}

// BenchmarkMap measures the memory of a user that has a PC on another message server.
func BenchmarkMap(b *testing.B) {
	for _, users := range []int{10_000, 100_000, Max} {
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			var before, after runtime.MemStats
			for range b.N {
				runtime.GC()
				runtime.ReadMemStats(&before)
				var e Map
				for i := range users {
					e.Set(uint32(i*7919), whereabouts.Node{Name: fmt.Sprintf("msg-%d", i%99),
						Epoch: uint64(i % 99)}, true)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(&e)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(users), "bytes/user")
		})
	}
}
