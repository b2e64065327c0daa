package proxyproto

import (
	"container/list"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/origin"
)

// Options configure Proxies.
type Options struct {
	// Networks are those of the proxies. Each connection from them must begin with a header.
	Networks origin.Networks
	// Timeout bounds the arrival of a header. Proxies send it at once. Default 5 s.
	Timeout time.Duration
	// Most bounds the connections of a port that wait for their header. Above it the one that
	// has been waiting longest is closed: a proxy sends the header at once. Default 1,024.
	Most int
	// Log gets the connections that are closed. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metric. Default: none.
	Registerer prometheus.Registerer
}

// Proxies are the proxies that a process trusts to name the clients whose connections they
// forward. Methods of nil Proxies find no proxy. Any goroutine.
type Proxies struct {
	opt     Options
	headers *prometheus.CounterVec // by listener and result
}

// The results of a header, in metrics.
const (
	resultRead      = "read"      // with the address of a client
	resultLocal     = "local"     // of the proxy itself, or without an address
	resultMissing   = "missing"   // other bytes
	resultMalformed = "malformed" // or of a kind that is not understood
	resultTimeout   = "timeout"
	resultClosed    = "closed" // the connection ended before, as some health checks do
	resultCrowd     = "crowd"  // closed to make room: too many waited for their header
)

// New returns Proxies; nil when no networks are given.
func New(o Options) *Proxies {
	if len(o.Networks) == 0 {
		return nil
	}
	opt.Default(&o.Timeout, 5*time.Second)
	opt.Default(&o.Most, 1024)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxies{opt: o, headers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_proxy_headers_total",
		Help: "Connections from proxy.networks, by listener and by what became of their PROXY " +
			"header: read, local (of the proxy itself, or without an address), missing, " +
			"malformed, timeout, closed (the connection ended before), crowd (too many waited, " +
			"and this one longest).",
	}, []string{"listener", "result"})}
	if o.Registerer != nil {
		o.Registerer.MustRegister(p.headers)
	}
	return p
}

// Port returns the state of a listener.
func (p *Proxies) Port(name string) *Port {
	if p == nil {
		return nil
	}
	return &Port{proxies: p, name: name, log: p.opt.Log.With("listener", name),
		waiting: map[*net.TCPConn]*list.Element{}}
}

// Port reads the headers of the connections of a listener. A nil Port takes none.
type Port struct {
	proxies *Proxies
	name    string
	log     *slog.Logger
	often   obs.Often

	mu      sync.Mutex
	waiting map[*net.TCPConn]*list.Element // in oldest, those that wait for their header
	oldest  list.List                      // of *net.TCPConn, the one that waits longest first
	closed  bool
	reading sync.WaitGroup
}

// Take reports whether c is a connection of a proxy. If so, it takes c over: once the header
// has arrived it calls ready, on another goroutine, and closes c when there is none.
func (p *Port) Take(c *net.TCPConn, ready func(Header)) bool {
	if p == nil || !p.proxies.opt.Networks.Contains(peer(c)) {
		return false
	}
	if !p.wait(c) {
		_ = c.Close() // the peer gets no answer, so the error is of no use
		return true
	}
	p.reading.Go(func() { p.read(c, ready) })
	return true
}

// peer returns the address at the other end of c.
func peer(c *net.TCPConn) netip.Addr {
	a, _ := c.RemoteAddr().(*net.TCPAddr)
	return a.AddrPort().Addr()
}

// wait counts a connection that waits for its header, and makes room for it. It returns false
// when the port is closed.
func (p *Port) wait(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if len(p.waiting) >= p.proxies.opt.Most {
		longest := p.oldest.Front().Value.(*net.TCPConn)
		p.leave(longest)
		_ = longest.Close() // its read fails
	}
	p.waiting[c] = p.oldest.PushBack(c)
	return true
}

// leave ends the wait of a connection. It returns false when another one has its place. With mu
// held.
func (p *Port) leave(c *net.TCPConn) bool {
	e := p.waiting[c]
	if e == nil {
		return false
	}
	p.oldest.Remove(e)
	delete(p.waiting, c)
	return true
}

// read reads a header.
func (p *Port) read(c *net.TCPConn, ready func(Header)) {
	// An error shows in the next call: the connection is closed.
	_ = c.SetReadDeadline(time.Now().Add(p.proxies.opt.Timeout))
	h, err := Read(c)
	_ = c.SetReadDeadline(time.Time{})
	p.mu.Lock()
	kept := p.leave(c)
	p.mu.Unlock()
	if !kept {
		p.end(c, resultCrowd, nil)
		return
	}
	if err != nil {
		p.end(c, resultOf(err), err)
		return
	}
	result := resultRead
	if !h.Source.IsValid() {
		result = resultLocal
	}
	p.proxies.headers.WithLabelValues(p.name, result).Inc()
	ready(h)
}

// resultOf returns the result of a header that could not be read.
func resultOf(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, ErrMissing):
		return resultMissing
	case errors.Is(err, ErrMalformed):
		return resultMalformed
	case errors.Is(err, io.EOF):
		return resultClosed
	case errors.As(err, &network) && network.Timeout():
		return resultTimeout
	case errors.Is(err, io.ErrUnexpectedEOF):
		return resultMissing
	}
	return resultClosed
}

// end closes a connection without a header.
func (p *Port) end(c *net.TCPConn, result string, err error) {
	p.proxies.headers.WithLabelValues(p.name, result).Inc()
	if result != resultClosed {
		p.often.Warn(p.log, mono.Now(), "connection of a proxy closed: no PROXY header",
			"from", peer(c).Unmap().String(), "reason", result, "err", err)
	}
	_ = c.Close() // the peer gets no answer, so the error is of no use
}

// Close closes the connections that wait for their header, and waits until the calls of ready
// have returned. The listener is closed.
func (p *Port) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	for c := range p.waiting {
		_ = c.Close() // its read fails
	}
	p.mu.Unlock()
	p.reading.Wait()
}
