package web

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"teamtalk/core/budget"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
	"teamtalk/core/proxyproto"
)

// Target is a message server in another process.
type Target struct {
	// Addr is the host:port of its port for WebSocket.
	Addr string
	// Connections is how many connections it has, Capacity how many it may have; 0: not known.
	Connections, Capacity int64
}

// DialOptions configure a Dialer.
type DialOptions struct {
	// Targets returns the message servers. Required.
	Targets func() []Target
	// TLS encrypts the connections. Its ServerName is set for each. Default: no TLS.
	TLS *tls.Config
	// Budget counts the connections. Required.
	Budget *budget.Budget
	// Timeout bounds an attempt. Default 3 s.
	Timeout time.Duration
	// Now returns the time. Default mono.Now.
	Now func() time.Time
}

// maxAttempts is how many message servers are tried for one page.
const maxAttempts = 3

// Times of a Dialer.
const (
	// avoidFor is how long a message server that did not answer is the last choice.
	avoidFor = 10 * time.Second
	// recentFor is how long a new connection counts on top of a server's own number, which is
	// seconds old.
	recentFor = 5 * time.Second
)

// Dialer connects pages to the message server with the most room. Any goroutine.
type Dialer struct {
	opt   DialOptions
	began time.Time

	mu      sync.Mutex
	servers map[string]*server // by address
}

// server is what a Dialer knows of a message server by itself.
type server struct {
	open        int
	dialled     [2]int // in this and in the last span of recentFor
	span        int64  // the number of this span
	avoidBefore time.Time
}

// recent returns how many connections were made lately. span is the number of the present span.
func (s *server) recent(span int64) int {
	switch span - s.span {
	case 0:
	case 1:
		s.dialled, s.span = [2]int{0, s.dialled[0]}, span
	default:
		s.dialled, s.span = [2]int{}, span
	}
	return s.dialled[0] + s.dialled[1]
}

// NewDialer returns a Dialer.
func NewDialer(o DialOptions) *Dialer {
	opt.Default(&o.Timeout, 3*time.Second)
	if o.Now == nil {
		o.Now = mono.Now
	}
	return &Dialer{opt: o, began: o.Now(), servers: map[string]*server{}}
}

var (
	errNoTarget = errors.New("no message server is known that takes pages")
	errNoFile   = errors.New("the process is short of file descriptors")
)

// Dial connects a client, see Options.Messages. The message server learns its address and whether
// it has TLS from a PROXY header.
func (d *Dialer) Dial(ctx context.Context, client netip.AddrPort, secure bool) (net.Conn, error) {
	if !d.opt.Budget.Take() {
		return nil, errNoFile
	}
	failed := errNoTarget
	for _, addr := range d.choose() {
		c, err := d.attempt(ctx, addr, client, secure)
		if err == nil {
			return &dialled{Conn: c, d: d, addr: addr}, nil
		}
		d.note(addr, func(s *server) { s.avoidBefore = d.opt.Now().Add(avoidFor) })
		failed = fmt.Errorf("connect to the message server %s: %w", addr, err)
	}
	d.opt.Budget.Put()
	return nil, failed
}

// span returns the number of the span of recentFor at a time.
func (d *Dialer) span(now time.Time) int64 { return int64(now.Sub(d.began) / recentFor) }

// To connects a client to the server at an address, as Dial does.
func (d *Dialer) To(ctx context.Context, addr string, client netip.AddrPort, secure bool) (
	net.Conn, error) {
	if !d.opt.Budget.Take() {
		return nil, errNoFile
	}
	c, err := d.connect(ctx, addr, client, secure)
	if err != nil {
		d.opt.Budget.Put()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return &dialled{Conn: c, d: d}, nil
}

// choose returns the message servers to try, the best one first.
func (d *Dialer) choose() []string {
	type choice struct {
		addr  string
		avoid bool
		used  float64 // the share of its connections
	}
	now, targets := d.opt.Now(), d.opt.Targets()
	span := d.span(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(targets, now, span)
	list := make([]choice, 0, len(targets))
	for _, t := range targets {
		s, n := d.servers[t.Addr], t.Connections
		avoid := false
		if s != nil {
			n = max(n+int64(s.recent(span)), int64(s.open))
			avoid = now.Before(s.avoidBefore)
		}
		list = append(list, choice{t.Addr, avoid, float64(n) / float64(cmp.Or(t.Capacity, 1<<30))})
	}
	slices.SortStableFunc(list, func(a, b choice) int {
		if a.avoid != b.avoid {
			if a.avoid {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.used, b.used)
	})
	var addrs []string
	for _, c := range list[:min(len(list), maxAttempts)] {
		addrs = append(addrs, c.addr)
	}
	return addrs
}

// forget drops servers that are no targets any more. With mu held.
func (d *Dialer) forget(targets []Target, now time.Time, span int64) {
	for addr, s := range d.servers {
		if s.open == 0 && s.recent(span) == 0 && !now.Before(s.avoidBefore) &&
			!slices.ContainsFunc(targets, func(t Target) bool { return t.Addr == addr }) {
			delete(d.servers, addr)
		}
	}
}

// note changes what is known of a server.
func (d *Dialer) note(addr string, change func(*server)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.servers[addr]
	if s == nil {
		s = &server{}
		d.servers[addr] = s
	}
	change(s)
}

// attempt connects to a message server.
func (d *Dialer) attempt(ctx context.Context, addr string, client netip.AddrPort, secure bool) (
	net.Conn, error) {
	c, err := d.connect(ctx, addr, client, secure)
	if err == nil {
		d.note(addr, func(s *server) {
			s.recent(d.span(d.opt.Now()))
			s.open++
			s.dialled[0]++
			s.avoidBefore = time.Time{}
		})
	}
	return c, err
}

// connect connects, and sends the PROXY header.
func (d *Dialer) connect(ctx context.Context, addr string, client netip.AddrPort, secure bool) (
	net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	until, _ := ctx.Deadline()
	_ = c.SetDeadline(until) // an error shows in the write
	to, _ := c.RemoteAddr().(*net.TCPAddr)
	h := proxyproto.Header{Source: client, Secure: secure}
	if _, err = c.Write(proxyproto.Append(nil, h, to.AddrPort())); err == nil && d.opt.TLS != nil {
		conf := d.opt.TLS.Clone()
		conf.ServerName, _, _ = net.SplitHostPort(addr) // it was dialled
		t := tls.Client(c, conf)
		err = t.HandshakeContext(ctx)
		c = t
	}
	if err != nil {
		_ = c.Close() // the first error is the cause
		return nil, err
	}
	_ = c.SetDeadline(time.Time{}) // an error shows in the next call
	return c, nil
}

// dialled is a connection that counts until it is closed.
type dialled struct {
	net.Conn
	d    *Dialer
	addr string // empty: not counted
	once sync.Once
}

// Close closes the connection.
func (c *dialled) Close() error {
	c.once.Do(func() {
		if c.addr != "" {
			c.d.note(c.addr, func(s *server) { s.open-- })
		}
		c.d.opt.Budget.Put()
	})
	return c.Conn.Close()
}

// CloseWrite sends the end of the stream.
func (c *dialled) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}
