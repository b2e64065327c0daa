package deploy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy carries connections to a server, and can cut them, delay them and hold them back.
// Any goroutine.
type Proxy struct {
	Kind string // of the role that it leads to

	target string
	listen net.Listener
	ctx    context.Context // ends with the proxy
	end    context.CancelFunc
	all    sync.WaitGroup

	mu    sync.Mutex // guards the following fields
	conns map[*carried]struct{}
	delay time.Duration
	open  chan struct{} // closed: bytes flow
}

// carried is a connection with both of its sides.
type carried struct{ client, server *net.TCPConn }

// NewProxy listens on a loopback port and connects each client to target.
func NewProxy(kind, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Kind: kind, target: target, listen: l, conns: map[*carried]struct{}{},
		open: make(chan struct{})}
	close(p.open)
	p.ctx, p.end = context.WithCancel(context.Background())
	p.all.Go(p.accept)
	return p, nil
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Close closes all connections and ends the proxy.
func (p *Proxy) Close() {
	p.end()
	_ = p.listen.Close()
	p.Cut()
	p.all.Wait()
}

// Cut resets all connections. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
}

// Slow delays all bytes by d, in each direction; 0: not any more.
func (p *Proxy) Slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hang lets no byte pass until Cut, as a network does that has failed without a word. New
// connections are accepted, and hang as well.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default: // hangs already
	}
}

// Resume ends a Hang: it resets the connections that hung, and lets new ones pass.
func (p *Proxy) Resume() {
	p.Cut()
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// accept carries connections until the proxy is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.all.Go(func() { p.carry(client.(*net.TCPConn)) })
	}
}

// carry connects a client to the target and copies until the connection ends.
func (p *Proxy) carry(client *net.TCPConn) {
	var d net.Dialer
	server, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := &carried{client, server.(*net.TCPConn)}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	if p.ctx.Err() != nil {
		c.reset() // Close may have missed it
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(c.server, c.client, c) })
	p.copy(c.client, c.server, c)
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.client.Close()
	_ = c.server.Close()
}

// proxyBuffer is the size of a read, in bytes.
const proxyBuffer = 32 << 10

// copy copies one direction of a connection. The end of the stream is passed on, an error
// resets the connection.
func (p *Proxy) copy(dst, src *net.TCPConn, c *carried) {
	b := make([]byte, proxyBuffer)
	for {
		n, err := src.Read(b)
		if n > 0 {
			p.wait()
			if _, err := dst.Write(b[:n]); err != nil {
				c.reset()
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			p.wait()
			_ = dst.CloseWrite() // fails when the other direction was reset
			return
		default:
			c.reset()
			return
		}
	}
}

// wait waits until bytes may pass. Bytes that waited while their connection was reset go
// nowhere.
func (p *Proxy) wait() {
	p.mu.Lock()
	open, delay := p.open, p.delay
	p.mu.Unlock()
	select {
	case <-open:
	case <-p.ctx.Done():
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-p.ctx.Done():
		}
	}
}

// reset ends a connection without a FIN, as the loss of a machine does.
func (c *carried) reset() {
	for _, side := range []*net.TCPConn{c.client, c.server} {
		_ = side.SetLinger(0) // fails when the side is closed
		_ = side.Close()
	}
}
