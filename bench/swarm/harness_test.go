package swarm

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// patience bounds each wait of a test.
const patience = 4 * time.Minute

// handler is a Handler made of functions. A nil function does nothing.
type handler struct {
	open  func(c *Conn)
	frame func(c *Conn, h pdu.Header, body []byte)
	close func(c *Conn, err error)
}

func (h *handler) Open(c *Conn) {
	if h.open != nil {
		h.open(c)
	}
}

func (h *handler) Frame(c *Conn, head pdu.Header, body []byte) {
	if h.frame != nil {
		h.frame(c, head, body)
	}
}

func (h *handler) Close(c *Conn, err error) {
	if h.close != nil {
		h.close(c, err)
	}
}

// frame returns a frame with a body.
func frame(seq uint16, body []byte) []byte {
	b := pdu.AppendHeader(nil, pb.CmdP2PCmdMsg, seq)
	binary.BigEndian.PutUint32(b, uint32(len(b)+len(body)))
	return append(b, body...)
}

func newSwarm(t testing.TB, opt Options) *Swarm {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// listen serves each connection with serve, and returns the address.
func listen(t testing.TB, serve func(nc net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				serve(nc)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(nc net.Conn) { _, _ = io.Copy(nc, nc) }

// dial opens a connection on a loop, from another goroutine.
func dial(l *Loop, addr netip.AddrPort, h Handler) { l.Do(func() { l.Dial(addr, h) }) }

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for: %s", patience, what)
		panic("not reached")
	}
}

// detached returns a connection without a socket, to test the cutting of frames.
func detached(opt Options, h Handler) *Conn {
	s := &Swarm{opt: opt.withDefaults()}
	return &Conn{loop: &Loop{swarm: s}, handler: h, state: opened, sys: noSocket}
}
