package route

import (
	"fmt"
	"sync/atomic"
	"testing"

	"teamtalk/proto/pb"
)

// BenchmarkTable compares one lock for all users with many locks, on all cores. One
// operation in ten is a change, the others are lookups.
func BenchmarkTable(b *testing.B) {
	for _, shards := range []int{1, 16, tableShards} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			t := newTable(shards)
			for user := range uint32(100_000) {
				t.Add(Node(1+user%4), user, pb.ClientType_CLIENT_TYPE_WINDOWS)
			}
			var seed atomic.Uint32
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				user := seed.Add(1) * 7919
				for i := 0; p.Next(); i++ {
					user = (user*1664525 + 1013904223)
					u := user % 100_000
					if i%10 == 0 {
						t.Add(9, u, pb.ClientType_CLIENT_TYPE_IOS)
						t.Remove(9, u, pb.ClientType_CLIENT_TYPE_IOS)
						continue
					}
					t.Holders(u)
				}
			})
		})
	}
}
