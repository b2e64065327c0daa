package engine

import (
	"io"
	"runtime"
	"testing"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// BenchmarkWebSocketEcho compares the echo of a text over TCP with that over WebSocket. cpu-ns
// counts the client too, which sends bytes that are ready.
func BenchmarkWebSocketEcho(b *testing.B) {
	text := frameOf(pb.CmdMsgData, 1, make([]byte, 112))
	framed := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(append([]byte(nil), text...))))
	b.Run("TCP", func(b *testing.B) {
		c := dial(b, start(b, Options{Clients: newRole(), Loops: 1}))
		echoes(b, c, text, len(text))
	})
	b.Run("WebSocket", func(b *testing.B) {
		c := openPage(b, webSocket(b, Options{Clients: newRole(), Loops: 1}))
		echoes(b, c.client, framed, len(text)+4)
	})
}

// echoes sends p, and reads n bytes, again and again.
func echoes(b *testing.B, c *client, p []byte, n int) {
	got := make([]byte, n)
	before := processorTime()
	b.ReportAllocs()
	for b.Loop() {
		c.send(p)
		if _, err := io.ReadFull(c, got); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

// processorTime returns the processor time that this process has used, in nanoseconds.
func processorTime() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkWebSocketIdle compares the memory of idle connections: heap-B/conn is that of both
// ends, and the ends of clients are the same.
func BenchmarkWebSocketIdle(b *testing.B) {
	const conns = 1000
	for name, opt := range map[string]Options{
		"TCP": {}, "WebSocket": {WebSocket: &WebSocket{}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := newRole()
				opt.Clients = r
				s := start(b, opt)
				before := heap()
				var all []*client
				for range conns {
					c := dial(b, s)
					if opt.WebSocket != nil {
						p := opened(c)
						p.message(hello)
						p.wantMessage(hello)
					} else {
						c.echo(hello)
					}
					all = append(all, c)
				}
				b.ReportMetric(float64(heap()-before)/conns, "heap-B/conn")
				for _, c := range all {
					c.Close()
				}
				for range conns {
					<-r.closed
				}
			}
		})
	}
}

// heap returns the bytes of the heap that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

var _ session.Farewell = (*conn)(nil)
