package tlsconn

import (
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/core/opt"
)

// handshakeBytes is what a handshake in progress holds, in bytes: a goroutine with a stack of
// 8 to 16 kB, and buffers.
const handshakeBytes = 32 << 10

// silentAfter is the silence after which the client of a handshake gives its place to another
// client. A client that computes and a slow network take less.
const silentAfter = 3 * time.Second

// Options configure Handshakes.
type Options struct {
	// Config is the server's configuration. Required, with a certificate.
	Config *tls.Config
	// Most bounds the handshakes in progress. Others wait. Default 1,024.
	Most int
	// Parallel bounds the handshakes that compute at the same time. The event loops need
	// the other processors. Default: half of the processors, at least one.
	Parallel int
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Metrics begins the names of the metrics. Default teamtalk_tls.
	Metrics string
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Handshakes bounds the handshakes of all listeners that share it. Any goroutine.
type Handshakes struct {
	opt    Options
	config *tls.Config
	slots  chan struct{}
	ended  *prometheus.CounterVec
	lends  bool // connections borrow the buffers of their loop

	mu       sync.Mutex
	running  list.List // of *handshake, the oldest first
	waiting  list.List // of *handshake, the oldest first
	watching bool      // a timer looks for silent clients
}

// The results of a handshake, in metrics.
const (
	resultDone   = "done"
	resultFailed = "failed"
	resultGone   = "gone"
	resultCrowd  = "displaced"
)

// NewHandshakes returns Handshakes without a connection. o.Config is not changed.
func NewHandshakes(o Options) *Handshakes {
	if o.Config == nil {
		panic("tlsconn: Options.Config is required")
	}
	opt.Default(&o.Most, 1024)
	opt.Default(&o.Parallel, max(1, runtime.GOMAXPROCS(0)/2))
	if o.Metrics == "" {
		o.Metrics = "teamtalk_tls"
	}
	if o.Now == nil {
		o.Now = mono.Now
	}
	p := &Handshakes{opt: o, config: o.Config.Clone(), slots: make(chan struct{}, o.Parallel),
		lends: rawInput != 0 && hand != 0}
	// Small first records save a round trip in a browser. Frames are short.
	p.config.DynamicRecordSizingDisabled = true
	p.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: o.Metrics + "_handshakes_total",
		Help: "TLS handshakes on the TCP ports, by result."},
		[]string{"result"})
	if o.Registerer != nil {
		o.Registerer.MustRegister(p.ended, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: o.Metrics + "_handshakes_waiting",
			Help: "Connections that wait until their TLS handshake begins.",
		}, func() float64 { return float64(p.queued()) }))
	}
	return p
}

// queued returns the number of handshakes that wait.
func (p *Handshakes) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.Len()
}

// handshake is a handshake in progress.
type handshake struct {
	c    *Conn
	pool *Handshakes
	slot bool          // holds one of pool.slots; goroutine only
	elem *list.Element // in pool.running or pool.waiting; with pool.mu held
	runs bool          // in pool.running; with pool.mu held

	mu     sync.Mutex
	cond   sync.Cond
	in     []byte
	record int // bytes of the current record that crypto/tls has not read
	failed error
	silent time.Time // since when it waits for its client; zero: it does not
}

func newHandshake(c *Conn) *handshake {
	h := &handshake{c: c, pool: c.pool}
	h.cond.L = &h.mu
	return h
}

// feed passes bytes of the client. Loop only.
func (h *handshake) feed(p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return nil
	}
	if len(h.in)+len(p) > maxHandshake {
		return ErrFlood
	}
	h.in = append(h.in, p...)
	h.silent = time.Time{}
	h.cond.Signal()
	return nil
}

// rest returns the bytes that the handshake has not used. Loop only.
func (h *handshake) rest() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.in
}

// end makes the handshake fail. One that waits for its turn never begins.
func (h *handshake) end(why error) {
	h.mu.Lock()
	if h.failed == nil {
		h.failed = why
	}
	h.cond.Signal()
	h.mu.Unlock()
	h.pool.forget(h)
}

// read waits for bytes of the client. It passes crypto/tls no byte of a record before the
// one before is read: what follows the handshake stays here. Goroutine of the handshake only.
func (h *handshake) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.failed == nil && (len(h.in) == 0 || h.record == 0 && len(h.in) < headerLen) {
		if h.slot {
			<-h.pool.slots // another handshake computes meanwhile
			h.slot = false
		}
		if h.silent.IsZero() {
			h.silent = h.pool.opt.Now()
		}
		h.cond.Wait()
	}
	if h.failed != nil {
		return 0, io.ErrUnexpectedEOF
	}
	if !h.slot {
		h.mu.Unlock()
		h.pool.slots <- struct{}{}
		h.mu.Lock()
		h.slot = true
	}
	if h.record == 0 {
		h.record = headerLen + length(h.in)
	}
	n := copy(p, h.in[:min(len(h.in), h.record)])
	h.record -= n
	if h.in = h.in[n:]; len(h.in) == 0 {
		h.in = nil
	}
	return n, nil
}

// run makes the handshake.
func (h *handshake) run() {
	h.pool.slots <- struct{}{}
	h.slot = true
	err := h.c.tls.Handshake()
	if t, ok := h.c.t.(Refuser); ok && err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Refused(err)
	}
	if h.slot {
		<-h.pool.slots
	}
	h.mu.Lock()
	result := resultDone
	switch {
	case h.failed == ErrCrowd:
		result, err = resultCrowd, h.failed
	case h.failed == io.EOF && err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		result = resultFailed // the other side has left because of it
	case h.failed != nil:
		result, err = resultGone, h.failed
	case err != nil:
		result = resultFailed
	}
	h.mu.Unlock()
	h.pool.ended.WithLabelValues(result).Inc()
	h.pool.done(h)
	h.c.t.Post(func() { h.c.finish(h, err) })
}

// begin starts a handshake, at once or when there is room.
func (p *Handshakes) begin(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.elem = p.waiting.PushBack(h)
	p.grant()
}

// done frees the place of a handshake.
func (p *Handshakes) done(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.elem != nil {
		p.running.Remove(h.elem)
		h.elem = nil
	}
	p.grant()
}

// forget removes a handshake that waits for its turn.
func (p *Handshakes) forget(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.elem != nil && !h.runs {
		p.waiting.Remove(h.elem)
		h.elem = nil
		p.ended.WithLabelValues(resultGone).Inc()
	}
}

// grant starts as many of the waiting handshakes as there is room for. With mu held.
func (p *Handshakes) grant() {
	for p.waiting.Len() > 0 && p.running.Len() < p.opt.Most {
		h := p.waiting.Remove(p.waiting.Front()).(*handshake)
		h.elem, h.runs = p.running.PushBack(h), true
		go h.run()
	}
	if p.waiting.Len() > 0 && !p.watching {
		p.watching = true
		time.AfterFunc(silentAfter/10, p.watch)
	}
}

// watch makes room while handshakes wait: those whose clients have been silent for too long
// end.
func (p *Handshakes) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = false
	for n := p.waiting.Len(); n > 0 && p.displace(); n-- {
	}
	p.grant()
}

// displace ends the oldest handshake whose client is silent. It returns false when there is
// none. With mu held.
func (p *Handshakes) displace() bool {
	now := p.opt.Now()
	for e := p.running.Front(); e != nil; e = e.Next() {
		h := e.Value.(*handshake)
		h.mu.Lock()
		silent := h.failed == nil && !h.silent.IsZero() && now.Sub(h.silent) >= silentAfter
		if silent {
			h.failed = ErrCrowd
			h.cond.Signal()
		}
		h.mu.Unlock()
		if silent {
			p.running.Remove(e)
			h.elem = nil
			return true
		}
	}
	return false
}
