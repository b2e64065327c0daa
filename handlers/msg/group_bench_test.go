package msg

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// sink is a connection that takes everything.
type sink struct{ s *session.Client }

func (*sink) Write([]byte) error { return nil }
func (*sink) Buffered() int      { return 0 }
func (*sink) Close()             {}

// benchLoop drives a loop without sockets.
type benchLoop struct {
	*session.Loop
	wake  chan struct{}
	sinks []*sink
}

func newBenchLoop(b *testing.B, h *Server) *benchLoop {
	l := &benchLoop{wake: make(chan struct{}, 1)}
	l.Loop = session.NewLoop(session.LoopOptions{Clients: h,
		Wake: func(*session.Loop, bool) { l.wake <- struct{}{} }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range l.wake {
			l.Turn()
		}
	}()
	b.Cleanup(func() { close(l.wake); <-done })
	return l
}

// do runs f on the loop, behind what was posted before, and waits for it.
func (l *benchLoop) do(f func()) {
	var wg sync.WaitGroup
	wg.Add(1)
	l.Post(func() { defer wg.Done(); f() })
	wg.Wait()
}

// BenchmarkGroup delivers stored messages of 64 bytes to a group whose members are all
// connected here, over two loops: from db_proxy's answer to the write to each connection,
// without the kernel; and with acks, back again to the answer of each. Messages come as
// from many senders at once: 16 before the loops are waited for.
func BenchmarkGroup(b *testing.B) {
	for _, members := range []int{20, 200, 2000} {
		for _, acks := range []bool{false, true} {
			b.Run(fmt.Sprintf("members=%d/acks=%v", members, acks),
				func(b *testing.B) { benchGroup(b, members, acks) })
		}
	}
}

func benchGroup(b *testing.B, members int, acks bool) {
	h, err := New(filled(Options{RedeliverAfter: -1}))
	if err != nil {
		b.Fatal(err)
	}
	loops := []*benchLoop{newBenchLoop(b, h), newBenchLoop(b, h)}
	users := make([]uint32, members)
	for i := range users {
		users[i] = uint32(i + 1)
		l := loops[i%2]
		l.do(func() {
			c := &sink{}
			c.s = l.AddClient(netip.AddrPort{}, c)
			l.sinks = append(l.sinks, c)
			if err := h.Open(c.s); err != nil {
				b.Error(err)
			}
			c.s.SetLoggedIn(users[i], win)
			h.online.Add(c.s)
		})
	}
	if err := h.groups.HandleRoutedChange(nil, 0, notify(7, 1, users)); err != nil {
		b.Fatal(err)
	}
	const burst = 16
	next := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		first := next
		for range burst {
			next++
			h.groups.Deliver(&pb.MsgData{FromUserID: 1, ToSessionID: 7, MsgID: next,
				CreateTime: 1, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: make([]byte, 64),
				GroupVersion: 1, HasGroupVersion: true}, nil, false)
		}
		var wg sync.WaitGroup
		for _, l := range loops {
			wg.Go(func() {
				l.do(func() {
					for id := first + 1; acks && id <= next; id++ {
						l.answer(b, id)
					}
				})
			})
		}
		wg.Wait()
	}
	n := float64(b.N) * burst * float64(members)
	b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/delivery")
}

// answer has every client of the loop acknowledge a message of the group.
func (l *benchLoop) answer(b *testing.B, id uint32) {
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(1)
	ack.SetSessionId(7)
	ack.SetMsgId(id)
	ack.SetSessionType(pb.SessionType_SESSION_TYPE_GROUP)
	frame, err := pdu.Append(nil, 0, ack)
	if err != nil {
		b.Fatal(err)
	}
	h := pdu.ParseHeader(frame)
	for _, c := range l.sinks {
		l.Deliver(&c.s.Conn, h, frame[pdu.HeaderLen:])
	}
}
