package link

import (
	"sync"
	"testing"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// benchCalls keeps a number of calls open at a time, the peer answering at once.
func benchCalls(b *testing.B, p Peer) {
	l := newLoop(b)
	open := make(chan struct{}, 256)
	var wg sync.WaitGroup
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		open <- struct{}{}
		wg.Add(1)
		p.Call(l, i, 0, text(1, "0123456789012345678901234567890123456789012345678901234567890123"), func(_ pb.Message, err error) {
			if err != nil {
				b.Error(err)
			}
			<-open
			wg.Done()
		})
	}
	wg.Wait()
}

func answering() *recorder {
	h := newRecorder()
	h.message = func(s *session.Session, seq uint16, m pb.Message) { _ = s.Push(seq, m) }
	return h
}

// BenchmarkLocalCall is a call and its answer within the process, 256 open at a time.
func BenchmarkLocalCall(b *testing.B) {
	p, err := Local(LocalOptions{Callee: answering()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	benchCalls(b, p)
}

// BenchmarkRemoteCall is the same over TCP on the loopback; the peer writes each answer by itself, so most of the time is its.
func BenchmarkRemoteCall(b *testing.B) {
	r := newRig(b)
	h := newRecorder()
	p := dial(b, Options{Addr: r.addr(), Handler: h})
	go serveTCP((<-r.conns).nc, answering())
	<-h.opened
	benchCalls(b, p)
}

// BenchmarkRemoteSend is one way, as a flood that the queue's bound slows down.
func BenchmarkRemoteSend(b *testing.B) {
	r := newRig(b)
	h := newRecorder()
	p := dial(b, Options{Addr: r.addr(), Handler: h})
	go func() {
		w := <-r.conns
		w.waitClosed()
	}()
	<-h.opened
	m := text(1, "0123456789012345678901234567890123456789012345678901234567890123")
	b.ReportAllocs()
	for b.Loop() {
		for p.Send(1, 0, m) != nil {
		}
	}
}
