package swarm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/porttest"
	"teamtalk/proto/pb"
)

// TestEcho writes on each connection of each loop. All bytes must return, whole and in
// order.
func TestEcho(t *testing.T) {
	const conns, frames = 50, 200
	addr := listen(t, echo)
	s := newSwarm(t, Options{Loops: 3})
	done := make(chan error, conns)
	for i := range conns {
		next := 0
		body := bytes.Repeat([]byte{byte(i)}, i*20)
		dial(s.Loops()[i%3], addr, &handler{
			open: func(c *Conn) {
				for n := range frames {
					c.Write(frame(uint16(n), body))
				}
			},
			frame: func(c *Conn, h pdu.Header, got []byte) {
				if int(h.Seq) != next || !bytes.Equal(got, body) || h.Command != pb.CmdP2PCmdMsg {
					done <- errors.New("the frame returned is another one")
				}
				if next++; next == frames {
					done <- nil
				}
			},
			close: func(_ *Conn, err error) { done <- err },
		})
	}
	for range conns {
		if err := wait(t, "all frames", done); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range s.Loops() {
		open := make(chan int, 1)
		l.Do(func() { open <- l.Open() })
		if n := wait(t, "count", open); n < conns/3 {
			t.Errorf("loop %d says it has %d connections", l.Index(), n)
		}
	}
}

// TestByteByByte receives frames one byte at a time. They must be assembled.
func TestByteByByte(t *testing.T) {
	sent := append(append(frame(1, []byte("one")), frame(2, nil)...),
		frame(3, bytes.Repeat([]byte("long"), 300))...)
	addr := listen(t, func(nc net.Conn) {
		for _, b := range sent {
			if _, err := nc.Write([]byte{b}); err != nil {
				return
			}
		}
	})
	var got []byte
	ended := make(chan error, 1)
	s := newSwarm(t, Options{})
	dial(s.Loops()[0], addr, &handler{
		frame: func(_ *Conn, h pdu.Header, body []byte) {
			got = append(got,
				frame(h.Seq, body)...)
		},
		close: func(_ *Conn, err error) { ended <- err },
	})
	if err := wait(t, "the end", ended); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("got %q", got)
	}
}

// TestLongBody receives a body longer than MaxBody. The handler gets its beginning, and
// the next frame is read correctly.
func TestLongBody(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1<<16)
	addr := listen(t, func(nc net.Conn) {
		_, _ = nc.Write(append(frame(1, body), frame(2, []byte("after"))...))
		_, _ = nc.Read(make([]byte, 1))
	})
	type got struct {
		h    pdu.Header
		body string
	}
	frames := make(chan got, 3)
	s := newSwarm(t, Options{MaxBody: 1000})
	dial(s.Loops()[0], addr, &handler{frame: func(_ *Conn, h pdu.Header,
		b []byte) {
		frames <- got{h, string(b)}
	}})
	if g := wait(t, "the long one", frames); g.h.Seq != 1 || g.body != string(body[:1000]) ||
		int(g.h.Length) != 16+len(body) {
		t.Errorf("%+v, %d bytes", g.h, len(g.body))
	}
	if g := wait(t, "the one after", frames); g.h.Seq != 2 || g.body != "after" {
		t.Errorf("%+v", g)
	}
}

// TestPartialWrites writes more than the sockets hold. The rest must be queued, and all
// of it must arrive.
func TestPartialWrites(t *testing.T) {
	const n, size = 200, 60 << 10 // more than the sockets hold
	read := make(chan struct{})
	ok := make(chan error, 1)
	addr := listen(t, func(nc net.Conn) {
		<-read
		r := bufio.NewReader(nc)
		for i := range n {
			b := make([]byte, pdu.HeaderLen+size)
			if _, err := io.ReadFull(r, b); err != nil {
				ok <- err
				return
			}
			if !bytes.Equal(b, frame(uint16(i), bytes.Repeat([]byte{byte(i)}, size))) {
				ok <- errors.New("changed on its way")
				return
			}
		}
		ok <- nil
	})
	s := newSwarm(t, Options{})
	waiting := make(chan int, 1)
	l := s.Loops()[0]
	dial(l, addr, &handler{
		open: func(c *Conn) {
			for i := range n {
				c.Write(frame(uint16(i), bytes.Repeat([]byte{byte(i)}, size)))
			}
			l.At(l.Now()+1, func(int64) int64 { waiting <- c.Waiting(); return 0 })
		},
		close: func(_ *Conn, err error) { ok <- err },
	})
	wait(t, "the first write", waiting)
	close(read)
	if err := wait(t, "everything", ok); err != nil {
		t.Error(err)
	}
}

// TestSlow writes to a peer that never reads. The connection must be closed.
func TestSlow(t *testing.T) {
	never := make(chan struct{})
	addr := listen(t, func(net.Conn) { <-never })
	t.Cleanup(func() { close(never) })
	s := newSwarm(t, Options{MaxOut: 1 << 20})
	ended := make(chan error, 1)
	l := s.Loops()[0]
	dial(l, addr, &handler{
		open: func(c *Conn) {
			l.At(l.Now(), func(now int64) int64 {
				if !c.IsOpen() {
					return 0
				}
				c.Write(frame(1, make([]byte, 200<<10)))
				return now
			})
		},
		close: func(_ *Conn, err error) { ended <- err },
	})
	if err := wait(t, "the end", ended); !errors.Is(err, ErrSlow) {
		t.Errorf("ended with %v", err)
	}
}

func TestBrokenPeers(t *testing.T) {
	unused := netip.MustParseAddrPort(porttest.Reserve(t))
	for _, c := range []struct {
		name string
		addr netip.AddrPort
		want func(error) bool
	}{
		{"closes at once", listen(t, func(net.Conn) {}),
			func(err error) bool { return errors.Is(err, io.EOF) }},
		{"resets", listen(t, func(nc net.Conn) { _ = nc.(*net.TCPConn).SetLinger(0) }),
			func(err error) bool { return strings.Contains(err.Error(), "reset") }},
		{"sends an impossible length",
			listen(t, func(nc net.Conn) { _, _ = nc.Write(make([]byte, 20)) }),
			func(err error) bool { return errors.Is(err, pdu.ErrLength) }},
		{"closes in the middle of a frame",
			listen(t, func(nc net.Conn) { _, _ = nc.Write(frame(1, []byte("abc"))[:17]) }),
			func(err error) bool { return errors.Is(err, io.EOF) }},
		{"does not listen", unused, func(err error) bool {
			return strings.Contains(err.Error(),
				"refused")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSwarm(t, Options{})
			ended := make(chan error, 2)
			dial(s.Loops()[0], c.addr, &handler{close: func(_ *Conn, err error) { ended <- err }})
			if err := wait(t, "the end", ended); err == nil || !c.want(err) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestTimers(t *testing.T) {
	l := newSwarm(t, Options{}).Loops()[0]
	order := make(chan int, 100)
	l.Do(func() {
		now := l.Now()
		for _, n := range []int{5, 1, 4, 2, 3} {
			l.At(now+int64(n)*1e5, func(int64) int64 { order <- n; return 0 })
		}
		again := 0
		l.At(now+1e6, func(at int64) int64 {
			if at < now+1e6 {
				order <- -1
			}
			if again++; again == 3 {
				order <- 6
				return 0
			}
			return at
		})
	})
	for want := 1; want <= 6; want++ {
		if n := wait(t, "a timer", order); n != want {
			t.Errorf("timer %d fired as number %d", n, want)
		}
	}
}

// TestTimerBeforeRead checks that bytes read after a timer's time are handled after the
// timer, on a busy loop too.
func TestTimerBeforeRead(t *testing.T) {
	write, written := make(chan struct{}), make(chan struct{}, 2)
	addr := listen(t, func(nc net.Conn) {
		<-write
		_, _ = nc.Write(frame(1, nil))
		written <- struct{}{}
		_, _ = io.Copy(io.Discard, nc)
	})
	s := newSwarm(t, Options{})
	l := s.Loops()[0]
	events, opened := make(chan string, 3), make(chan struct{}, 2)
	frames := 0
	h := &handler{open: func(*Conn) { opened <- struct{}{} },
		frame: func(*Conn, pdu.Header, []byte) {
			events <- "frame"
			if frames++; frames > 1 {
				return
			}
			due := s.Now() + 1e6
			l.At(due, func(int64) int64 { events <- "timer"; return 0 })
			for s.Now() < due { // the other connection becomes readable meanwhile
			}
		}}
	dial(l, addr, h)
	dial(l, addr, h)
	wait(t, "first connection", opened)
	wait(t, "second connection", opened)
	l.Do(func() { // the loop sees both frames at once
		close(write)
		<-written
		<-written
	})
	for i, want := range []string{"frame", "timer", "frame"} {
		if got := wait(t, want, events); got != want {
			t.Errorf("event %d is a %s, want a %s", i, got, want)
		}
	}
}

func TestDo(t *testing.T) {
	s := newSwarm(t, Options{Loops: 2})
	var n atomic.Int64
	done := make(chan struct{})
	const each, from = 1000, 8
	for range from {
		go func() {
			for i := range each {
				s.Loops()[i%2].Do(func() {
					if n.Add(1) == each*from {
						close(done)
					}
				})
			}
		}()
	}
	wait(t, "all functions", done)
	s.Close()
	if s.Loops()[0].Do(func() { t.Error("ran after the end") }) {
		t.Error("Do accepts a function after the end")
	}
	s.Close() // a second call does nothing
}

// TestCloseWrites checks that Close writes the queued bytes and does not call the
// handler.
func TestCloseWrites(t *testing.T) {
	got := make(chan []byte, 1)
	addr := listen(t, func(nc net.Conn) {
		b, _ := io.ReadAll(nc)
		got <- b
	})
	s := newSwarm(t, Options{})
	dial(s.Loops()[0], addr, &handler{
		open: func(c *Conn) {
			c.Write(frame(7, []byte("bye")))
			c.Close()
			c.Close()
			c.Write(frame(8, nil)) // discarded
		},
		frame: func(*Conn, pdu.Header, []byte) { t.Error("a frame after the end") },
		close: func(_ *Conn, err error) { t.Errorf("Close called the handler: %v", err) },
	})
	if b := wait(t, "the last frame", got); !bytes.Equal(b, frame(7, []byte("bye"))) {
		t.Errorf("%q", b)
	}
}

// TestCloseUnderLoad closes a busy swarm. All connections must end, and no handler may be
// called after Close has returned.
func TestCloseUnderLoad(t *testing.T) {
	const conns = 50
	var ended sync.WaitGroup
	ended.Add(conns)
	addr := listen(t, func(nc net.Conn) {
		defer ended.Done()
		echo(nc)
	})
	s := newSwarm(t, Options{Loops: 2})
	var over atomic.Bool
	busy := make(chan struct{}, conns)
	for i := range conns {
		said := false
		dial(s.Loops()[i%2], addr, &handler{
			open: func(c *Conn) { c.Write(frame(1, make([]byte, 1000))) },
			frame: func(c *Conn, h pdu.Header, body []byte) {
				if over.Load() {
					t.Error("called after the end")
				}
				if !said {
					said = true
					busy <- struct{}{}
				}
				c.Write(frame(h.Seq+1, body))
			},
		})
	}
	for range conns {
		wait(t, "the first frame of each connection", busy)
	}
	s.Close()
	over.Store(true)
	gone := make(chan struct{})
	go func() { ended.Wait(); close(gone) }()
	wait(t, "the server to see all ends", gone)
}

// FuzzCut splits a stream in different ways. The frames must be the same, and the rest
// kept must be shorter than one frame.
func FuzzCut(f *testing.F) {
	f.Add(append(frame(1, []byte("hello")), frame(2, nil)...), 3, 10)
	f.Add(append(frame(1, make([]byte, 100)), frame(2, []byte("x"))...), 50, 10)
	f.Add([]byte{0, 0, 0, 15}, 1, 10)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, 2, 10)
	f.Fuzz(func(t *testing.T, stream []byte, chunk, maxBody int) {
		if chunk <= 0 || maxBody <= 0 || maxBody > 1<<16 {
			return
		}
		cut := func(size int) (frames []string, err error) {
			c := detached(Options{MaxBody: maxBody, MaxFrame: 1 << 20}, &handler{
				frame: func(_ *Conn, h pdu.Header, body []byte) {
					if len(body) != min(int(h.Length)-pdu.HeaderLen, maxBody) {
						t.Fatalf("frame of %d with a body of %d", h.Length, len(body))
					}
					frames = append(frames, string(frame(h.Seq, body)))
				},
				close: func(_ *Conn, e error) { err = e },
			})
			for b := stream; len(b) > 0 && c.state == opened; {
				n := min(size, len(b))
				c.take(append(append([]byte(nil), c.in...), b[:n]...))
				b = b[n:]
				if len(c.in) >= pdu.HeaderLen+maxBody {
					t.Fatalf("%d bytes kept", len(c.in))
				}
			}
			return frames, err
		}
		whole, err1 := cut(max(1, len(stream)))
		parts, err2 := cut(chunk)
		if strings.Join(whole, "|") != strings.Join(parts, "|") || (err1 == nil) != (err2 == nil) {
			t.Errorf("whole: %q %v, in parts of %d: %q %v", whole, err1, chunk, parts, err2)
		}
	})
}
