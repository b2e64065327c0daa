package link

import (
	"strings"
	"sync"
	"testing"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// payload is the body of the messages of the benchmarks.
var payload = strings.Repeat("0123456789abcdef", 4)

// benchCalls keeps 256 calls open while the peer answers at once.
func benchCalls(b *testing.B, p Peer) {
	l := newLoop(b)
	open := make(chan struct{}, 256)
	var wg sync.WaitGroup
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		open <- struct{}{}
		wg.Add(1)
		p.Call(l, i, 0, text(1, payload), func(_ pb.Message, err error) {
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
	h.message = func(s *session.Link, seq uint16, m pb.Message) { _ = s.Send(seq, m) }
	return h
}

// BenchmarkLocalCall measures a call and its answer within the process, 256 open at a
// time.
func BenchmarkLocalCall(b *testing.B) {
	p, err := startLocal(LocalOptions{Callee: answering()})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	benchCalls(b, p)
}

// BenchmarkRemoteCall measures the same over TCP on the loopback. The peer writes each
// answer separately, and this takes most of the time.
func BenchmarkRemoteCall(b *testing.B) {
	r := newRig(b)
	h := newRecorder()
	p := dial(b, Options{Addr: r.addr(), Handler: h})
	go serveTCP((<-r.conns).nc, answering())
	<-h.opened
	benchCalls(b, p)
}

// BenchmarkRemoteSend measures messages in one direction, as a flood slowed by the
// queue's bound.
func BenchmarkRemoteSend(b *testing.B) {
	r := newRig(b)
	h := newRecorder()
	p := dial(b, Options{Addr: r.addr(), Handler: h})
	go func() {
		w := <-r.conns
		w.waitClosed()
	}()
	<-h.opened
	m := text(1, payload)
	b.ReportAllocs()
	for b.Loop() {
		for p.Send(1, 0, m) != nil {
		}
	}
}
