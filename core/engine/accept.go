package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/panjf2000/gnet/v2"

	"teamtalk/core/proxyproto"
	"teamtalk/core/session"
)

// run accepts connections until the listener ends, and then ends the loops.
func (s *Server) run() {
	defer close(s.done)
	err := s.accept()
	if lost := s.lost.Load(); lost != nil {
		s.failure = *lost
	} else if !s.stopping.Load() || !errors.Is(err, net.ErrClosed) {
		s.failure = fmt.Errorf("accept: %w", err)
	}
	s.proxied.Close()
	s.attaching.Lock()
	s.unattachable = true
	s.attaching.Unlock()
	// A gnet.Client that has stopped does not answer, so it stops last. Nor does a loop that has
	// ended by itself: the process ends then, and waits for nothing.
	if s.lost.Load() == nil {
		s.enrolling.Wait()
	}
	s.waking.Lock()
	s.ending.Store(true)
	s.waking.Unlock()
	if err := s.engine.Stop(); err != nil && s.failure == nil {
		s.failure = err
	}
}

// accept accepts connections until the listener ends, and returns the reason. Without a listener
// it waits for endAccept.
func (s *Server) accept() error {
	if s.listener == nil {
		<-s.portless
		return net.ErrClosed
	}
	for {
		c, err := s.opt.Budget.Accept(s.listener)
		if err != nil {
			return err
		}
		if s.proxied.Take(c, func(h proxyproto.Header) { s.arrive(c, h) }) {
			continue
		}
		s.arrive(c, proxyproto.Header{})
	}
}

// endAccept ends run. Any goroutine.
func (s *Server) endAccept() {
	if s.listener == nil {
		s.portlessOnce.Do(func() { close(s.portless) })
		return
	}
	_ = s.listener.Close() // run reports the error of a listener that failed before
}

// arrive counts a connection, and gives it to a loop. h is the header of a proxy, if one
// forwards the connection. It returns the reason when there is no room.
func (s *Server) arrive(c net.Conn, h proxyproto.Header) (refused string) {
	cn := &conn{}
	if why := s.enter(cn, c, h); why != "" {
		s.noteRefused(why, nil)
		_ = c.Close() // the client gets no answer, so the error is of no use
		return why
	}
	s.pass(c, cn, arriving{header: h})
	return ""
}

// pass gives a connection that was counted to a loop.
func (s *Server) pass(c net.Conn, cn *conn, a arriving) {
	// gnet holds a second descriptor of the connection while a loop takes it. The
	// Budget bounds how many connections of the process are at this point. When all
	// loops are busy, this waits, and the next connections wait in the kernel.
	s.opt.Budget.Enroll()
	s.enrolling.Go(func() {
		defer s.opt.Budget.Enrolled()
		s.enroll(c, cn, a)
	})
}

// enter counts a connection. It returns the reason when the port has no room for it.
func (s *Server) enter(cn *conn, c net.Conn, h proxyproto.Header) (refused string) {
	if s.opt.Strangers == nil {
		return s.take()
	}
	if h.Source.IsValid() {
		return s.opt.Strangers.enter(s, cn, h.Source.Addr())
	}
	from, _ := c.RemoteAddr().(*net.TCPAddr)
	return s.opt.Strangers.enter(s, cn, from.AddrPort().Addr())
}

// take counts a connection when the bounds of the port and of the process allow it.
func (s *Server) take() (refused string) {
	n := s.open.Add(1) - s.leaving.Load()
	switch {
	case s.refusing.Load():
		refused = becauseStop
	case s.maxConns.Load() > 0 && n > s.maxConns.Load():
		refused = becausePort
	case !s.opt.Budget.Take():
		refused = becauseFiles
	default:
		return ""
	}
	s.open.Add(-1)
	return refused
}

// leave ends the count of a connection that enter counted.
func (s *Server) leave(cn *conn) {
	s.open.Add(-1)
	if x := cn.stranger; x != nil && s.opt.Strangers.leave(x) {
		s.leaving.Add(-1)
		return
	}
	s.opt.Budget.Put()
}

// mostConns returns the bound of the port's connections.
func (s *Server) mostConns() int {
	if most := int(s.maxConns.Load()); most > 0 {
		return min(most, s.opt.Budget.Limit())
	}
	return s.opt.Budget.Limit()
}

// SetMaxConns replaces Options.MaxConns. Connections that are open stay open, also those beyond a
// lower bound. Any goroutine.
func (s *Server) SetMaxConns(n int) { s.maxConns.Store(int64(n)) }

// noteRefused counts and logs a refused connection. A crowd makes one line a second.
func (s *Server) noteRefused(why string, err error) {
	s.refused.WithLabelValues(why).Inc()
	if why == becauseStop {
		return
	}
	s.often.Warn(s.log, s.now(), "connections refused", "reason", why, "err", err)
}

// noteDisplaced counts and logs a connection that was closed to make room.
func (s *Server) noteDisplaced(why string) {
	s.displaced.WithLabelValues(why).Inc()
	s.often.Warn(s.log, s.now(), "connections without a login closed to make room", "reason", why)
}

func (s *Server) now() time.Time {
	if s.opt.Now != nil {
		return s.opt.Now()
	}
	return time.Now()
}

// end closes a displaced connection. Loop only.
func (x *stranger) end() {
	if cn := x.cn; cn.stranger == x && !cn.closed { // otherwise it has logged in or ended
		cn.s.Close(session.ErrDisplaced)
		cn.Close()
	}
}

// Admitted ends the bounds of a connection whose client has logged in. Loop only.
func (cn *conn) Admitted() {
	if x := cn.stranger; x != nil {
		cn.stranger = nil
		cn.loop.server.opt.Strangers.admit(x)
	}
}

// heard counts what waits for a connection without a login, and closes one that does not
// read. Loop only.
func (cn *conn) heard(st *Strangers) {
	if cn.closed {
		return
	}
	out := cn.c.OutboundBuffered()
	if out > maxStrangerOutput {
		cn.s.Close(session.ErrSlow)
		cn.Close()
		return
	}
	held := cn.c.InboundBuffered() + out
	if cn.tls != nil {
		held += cn.tls.held()
	}
	if cn.ws != nil {
		held += cn.ws.in.Held() + len(cn.ws.rest)
	}
	st.heard(cn.stranger, held)
}

// arriving is what a loop must know of a connection when it opens it. A conn does not keep it,
// since most have nothing of it.
type arriving struct {
	cn     *conn
	header proxyproto.Header // of its proxy
	taken  *Taken            // nil: it arrived at this port
}

// arrival returns a connection that its loop opens, and what came with it.
func arrival(c gnet.Conn) (*conn, arriving) {
	if a, ok := c.Context().(*arriving); ok {
		c.SetContext(a.cn)
		return a.cn, *a
	}
	return c.Context().(*conn), arriving{}
}

// enroll gives a connection to one of gnet's loops, which calls OnOpen before it returns.
// gnet works on a duplicate of the descriptor and closes c.
func (s *Server) enroll(c net.Conn, cn *conn, came arriving) {
	// gnet keeps the bytes of a zone's name for other uses. Those of package net belong to
	// its own cache of names.
	for _, a := range []net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		if a, ok := a.(*net.TCPAddr); ok {
			a.Zone = ""
		}
	}
	context := any(cn)
	if came.header.Source.IsValid() || came.taken != nil {
		came.cn = cn
		context = &came
	}
	var err error
	enrollers.With(func() { _, err = s.engine.EnrollContext(c, context) })
	if cn.opened {
		return // OnClose calls leave
	}
	s.leave(cn)
	s.noteRefused(becauseError, err)
}

// remote returns the address of the peer, and lets go of the forms of both addresses that
// package net keeps, up to 128 bytes. gnet holds them until the connection ends, and reads
// only their zones.
func remote(c gnet.Conn) (peer netip.AddrPort) {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		peer = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		a.IP = nil
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		a.IP = nil
	}
	return peer
}
