package swarm

import (
	"bytes"
	"sync/atomic"
	"testing"

	"teamtalk/core/pdu"
)

// BenchmarkCut measures cutting frames off a full read buffer.
func BenchmarkCut(b *testing.B) {
	n := 0
	c := detached(Options{}, &handler{frame: func(*Conn, pdu.Header, []byte) { n++ }})
	buf := bytes.Repeat(frame(1, make([]byte, 100)), 500)
	b.ReportAllocs()
	for b.Loop() {
		c.take(buf)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
}

// BenchmarkEcho measures frames of 100 bytes through 100 connections with 32 in flight
// each, to an echo server in the same process.
func BenchmarkEcho(b *testing.B) {
	const conns, window = 100, 32
	addr := listen(b, echo)
	s := newSwarm(b, Options{})
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	f := frame(1, make([]byte, 84))
	b.ReportAllocs()
	b.ResetTimer()
	for range conns {
		dial(s.Loops()[0], addr, &handler{
			open: func(c *Conn) {
				for range window {
					c.Write(f)
				}
			},
			frame: func(c *Conn, _ pdu.Header, _ []byte) {
				c.Write(f)
				if left.Add(-1) == 0 {
					close(done)
				}
			},
		})
	}
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}
