package marks

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// noDB answers nothing.
type noDB struct{}

// Call does nothing.
func (noDB) Call(*session.Loop, uint64, uint16, pb.Attachment, func(pb.Message, error)) {}

// BenchmarkUser measures the time and the memory that a user in 100 of 10,000 groups takes.
func BenchmarkUser(b *testing.B) {
	for _, groups := range []int{10, 100} {
		b.Run(fmt.Sprint(groups, "groups"), func(b *testing.B) {
			i := New(Options{Store: whereaboutstest.NewMemory(),
				Self:  func() whereabouts.Node { return whereabouts.Node{} },
				Ended: func(whereabouts.Node) bool { return false },
				Begun: func([]uint32) {}, Written: func() {}})
			i.Connect(noDB{})
			lists := make([]*pb.IMNormalGroupListRsp, b.N)
			random := rand.New(rand.NewPCG(1, 2))
			for n := range lists {
				lists[n] = listOf(groups, random)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			b.ResetTimer()
			for n := range b.N {
				id := uint32(n + 1)
				i.Come(id, func() {})
				u, number := i.next()
				i.listed(u, number, lists[n], nil)
				i.mu.Lock()
				i.release(nil, i.all)
				for _, m := range i.dirty { // they are written
					m.written, m.dirty, m.waits = true, false, nil
				}
				i.dirty, u.login, i.waiting = nil, nil, nil
				i.mu.Unlock()
			}
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "B/user")
			runtime.KeepAlive(lists)
			runtime.KeepAlive(i)
		})
	}
}

// listOf returns the answer for a user in so many of 10,000 groups.
func listOf(groups int, random *rand.Rand) *pb.IMNormalGroupListRsp {
	rsp := &pb.IMNormalGroupListRsp{}
	rsp.SetEveryType(true)
	for range groups {
		v := &pb.GroupVersionInfo{}
		v.SetGroupId(1 + random.Uint32N(10_000))
		v.SetVersion(1)
		rsp.SetGroupVersionList(append(rsp.GetGroupVersionList(), v))
	}
	return rsp
}
