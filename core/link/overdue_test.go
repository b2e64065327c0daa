package link

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/proto/pb"
)

// TestOverdueAnswer checks that a late answer reaches the caller that waits for it, once,
// and that more than maxLate or old ones are given up.
func TestOverdueAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		callee := newRecorder()
		p, err := startLocal(LocalOptions{Callee: callee})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		late := make(chan pb.Message, maxLate+1)
		ask := func() got {
			p.Call(nil, 1, 0, statReq(1), func(_ pb.Message, err error) {
				var o *Overdue
				if !errors.As(err, &o) {
					t.Errorf("the call ended with %v", err)
					return
				}
				o.Then(func(m pb.Message) { late <- m })
			})
			return <-callee.msgs
		}
		answer := func(g got) {
			t.Helper()
			if err := g.s.Send(0, statRsp(g.m)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		g := ask()
		time.Sleep(11 * time.Second)
		answer(g)
		answer(g)
		if len(late) != 1 || testutil.ToFloat64(p.metrics.late) != 1 {
			t.Fatalf("%d answers, %v dropped; want 1 of each", len(late),
				testutil.ToFloat64(p.metrics.late))
		}
		if m := (<-late).(*pb.IMUsersStatRsp); m.GetUserId() != 1001 || m.HasAttachData() {
			t.Errorf("late answer %v", m)
		}
		var all []got
		for range maxLate + 1 {
			all = append(all, ask())
		}
		time.Sleep(11 * time.Second)
		answer(all[0])
		answer(all[1])
		if len(late) != 1 {
			t.Errorf("%d answers to the oldest two, want one", len(late))
		}
		time.Sleep(lateLimit)
		answer(all[maxLate])
		if len(late) != 1 || len(p.calls.late.open) != 0 {
			t.Errorf("%d calls are kept too long", len(p.calls.late.open))
		}
	})
}
