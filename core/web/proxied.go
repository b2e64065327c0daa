package web

import (
	"net"
	"sync"

	"teamtalk/core/proxyproto"
)

// accepting returns the listener that net/http accepts from.
func (s *Server) accepting(l *net.TCPListener) net.Listener {
	b := bounded{l, s}
	if s.opt.Proxies == nil {
		return b
	}
	p := &proxied{bounded: b, port: s.opt.Proxies.Port(s.opt.Name), ready: make(chan net.Conn),
		ended: make(chan struct{})}
	go p.run()
	return p
}

// proxied is a listener whose connections may begin with the header of a proxy. One that
// waits for its header holds up no other.
type proxied struct {
	bounded
	port  *proxyproto.Port
	ready chan net.Conn
	ended chan struct{} // closed when nobody accepts any more
	once  sync.Once
	err   error // why accepting ended; valid when ready is closed
}

// run accepts until the listener ends.
func (p *proxied) run() {
	for {
		tcp, err := p.next()
		if err != nil {
			p.err = err
			break
		}
		if !p.port.Take(tcp, func(h proxyproto.Header) { p.pass(tcp, h) }) {
			p.pass(tcp, proxyproto.Header{})
		}
	}
	p.port.Close()
	close(p.ready)
}

// pass gives a connection to Accept.
func (p *proxied) pass(tcp *net.TCPConn, h proxyproto.Header) {
	c := p.s.arrive(tcp, h)
	if c == nil {
		return
	}
	select {
	case p.ready <- c:
	case <-p.ended:
		_ = c.Close() // the client gets no answer, so the error is of no use
	}
}

// Accept returns the next connection.
func (p *proxied) Accept() (net.Conn, error) {
	if c, ok := <-p.ready; ok {
		return c, nil
	}
	return nil, p.err
}

// Close closes the listener. net/http accepts no more.
func (p *proxied) Close() error {
	p.once.Do(func() { close(p.ended) })
	return p.bounded.Close()
}
