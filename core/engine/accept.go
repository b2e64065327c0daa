package engine

import (
	"errors"
	"fmt"
	"net"
)

// run accepts connections until the listener ends, and then ends the loops.
func (s *Server) run() {
	defer close(s.done)
	for {
		c, err := s.opt.Budget.Accept(s.listener)
		if err != nil {
			if !s.stopping.Load() || !errors.Is(err, net.ErrClosed) {
				s.failure = fmt.Errorf("accept: %w", err)
			}
			break
		}
		if why := s.enter(); why != "" {
			s.refused.Inc()
			s.log.Debug("connection refused", "err", why)
			_ = c.Close() // the client gets no answer, so the error is of no use
			continue
		}
		// gnet holds a second descriptor of the connection while a loop takes it. The
		// Budget bounds how many connections of the process are at this point. When all
		// loops are busy, this waits, and the next connections wait in the kernel.
		s.opt.Budget.Enroll()
		s.enrolling.Go(func() {
			defer s.opt.Budget.Enrolled()
			s.enroll(c)
		})
	}
	// A gnet.Client that has stopped does not answer, so it stops last.
	s.enrolling.Wait()
	if err := s.engine.Stop(); err != nil && s.failure == nil {
		s.failure = err
	}
}

// enter counts a connection. It returns the reason when the port has no room for it.
func (s *Server) enter() (refused string) {
	n := s.open.Add(1)
	switch {
	case s.refusing.Load():
		refused = "shutdown"
	case s.opt.MaxConns > 0 && n > int64(s.opt.MaxConns):
		refused = "limit of the port"
	case !s.opt.Budget.Take():
		refused = "limit of open files"
	default:
		return ""
	}
	s.open.Add(-1)
	return refused
}

// leave ends the count of a connection that enter counted.
func (s *Server) leave() {
	s.open.Add(-1)
	s.opt.Budget.Put()
}

// enroll gives a connection to one of gnet's loops, which calls OnOpen before it returns.
// gnet works on a duplicate of the descriptor and closes c.
func (s *Server) enroll(c *net.TCPConn) {
	// gnet keeps the bytes of a zone's name for other uses. Those of package net belong to
	// its own cache of names.
	for _, a := range []net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		if a, ok := a.(*net.TCPAddr); ok {
			a.Zone = ""
		}
	}
	cn := &conn{}
	_, err := s.engine.EnrollContext(c, cn)
	if cn.opened {
		return // OnClose calls leave
	}
	s.leave()
	s.refused.Inc()
	s.log.Debug("connection refused", "err", err)
}
