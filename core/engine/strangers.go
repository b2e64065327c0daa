package engine

import (
	"net/netip"
	"sync"
	"time"

	"teamtalk/core/opt"
	"teamtalk/core/origin"
	"teamtalk/core/rate"
)

// MaxStrangerFrame is the longest frame that a client may send before its login, in bytes.
// The longest of a stock client, a login, has a few hundred.
const MaxStrangerFrame = 64 << 10

// maxStrangerOutput bounds the output that waits for a client that has not logged in. Its
// answers are short, so a client that leaves so many unread does not read.
const maxStrangerOutput = 64 << 10

// StrangerOptions configure Strangers. Zero turns a bound off, except that of Reserved and
// Memory.
type StrangerOptions struct {
	// PerAddress bounds the strangers of one address, or of one IPv6 network of 64 bits.
	PerAddress int
	// Rate bounds the connections of one address per second, and Burst those at once.
	Rate, Burst float64
	// Reserved is the share of each port's connections that only clients with a login may
	// have, in percent. Required.
	Reserved int
	// Memory bounds the bytes that wait for the rest of a frame of a stranger, or for a
	// stranger to read them, over all ports. Required.
	Memory int64
	// Trusted are the networks to which PerAddress and Rate do not apply.
	Trusted origin.Networks
	// Now returns the time. Default time.Now.
	Now func() time.Time
}

// Strangers are the connections of a process whose clients have not logged in, over all of
// its client ports. When there is no room for a new connection, a stranger is closed: of
// those of the addresses with the most strangers, the one that waits longest. A client with a
// login is never closed for one without. Any goroutine.
//
// A stranger begins to wait when it connects, and once more with its first frame that is no
// heartbeat, which is the request to log in. No other frame makes it wait anew, so no client
// keeps its place by sending.
type Strangers struct {
	opt StrangerOptions

	mu     sync.Mutex
	ports  []*Server
	hold   queue // those with bytes, the one that has held them longest first
	memory int64
	addrs  map[netip.Addr]*address
	sweep  int // length of addrs at which those without a stranger are forgotten
}

// stranger is a connection without a login. With Strangers.mu held.
type stranger struct {
	cn     *conn
	server *Server
	addr   *address // nil: trusted
	places [kinds]place
	bytes  int64

	class     uint8 // origin.Class when it entered
	opened    bool  // on its loop
	asked     bool  // has sent a frame that is no heartbeat
	holds     bool  // in Strangers.hold
	gone      bool  // displaced, logged in or closed
	displaced bool  // another connection has its place
}

// address is the state of one address or IPv6 network.
type address struct {
	own    queue
	bucket rate.Bucket
}

// waiting are the strangers of a port by class.
type waiting struct {
	classes [origin.Classes]queue
	n       int
}

// first returns the stranger that is displaced first: that of the highest class, or the one of
// its address that waits longest. It returns nil when there is none.
func (w *waiting) first() *stranger {
	for class := origin.Classes - 1; class >= 0; class-- {
		x := w.classes[class].first
		if x == nil {
			continue
		}
		if x.addr != nil && x.addr.own.first.server == x.server {
			return x.addr.own.first
		}
		return x
	}
	return nil
}

// maxAddresses bounds the addresses without a stranger that Strangers remembers for the
// sake of Rate. Above it, it forgets them, and each starts with a full bucket.
const maxAddresses = 65536

// The reasons for a connection that is refused or displaced, in metrics.
const (
	becauseRate    = "address_rate"
	becauseAddress = "address_limit"
	becausePort    = "port_limit"
	becauseFiles   = "open_files"
	becauseMemory  = "memory"
	becauseStop    = "shutdown"
	becauseError   = "error"
)

// NewStrangers returns Strangers without connections.
func NewStrangers(o StrangerOptions) *Strangers {
	opt.Require("engine.StrangerOptions.Reserved", o.Reserved)
	opt.Require("engine.StrangerOptions.Memory", o.Memory)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Strangers{opt: o, hold: queue{kind: ofHold}, addrs: map[netip.Addr]*address{},
		sweep: maxAddresses}
}

// SetBounds replaces the bounds, but neither Trusted nor Now. It closes no connection: the bounds
// hold for new ones, and for bytes that arrive.
func (st *Strangers) SetBounds(o StrangerOptions) {
	opt.Require("engine.StrangerOptions.Reserved", o.Reserved)
	opt.Require("engine.StrangerOptions.Memory", o.Memory)
	st.mu.Lock()
	defer st.mu.Unlock()
	o.Trusted, o.Now = st.opt.Trusted, st.opt.Now
	st.opt = o
}

// Bytes returns the bytes that wait for strangers or for the rest of their frames.
func (st *Strangers) Bytes() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.memory
}

// join adds a port.
func (st *Strangers) join(s *Server) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ports = append(st.ports, s)
}

// of returns the state of an address; nil when it is trusted. With mu held.
func (st *Strangers) of(a netip.Addr) *address {
	if st.opt.Trusted.Contains(a) {
		return nil
	}
	key := origin.Key(a)
	if known := st.addrs[key]; known != nil {
		return known
	}
	if len(st.addrs) >= st.sweep {
		for k, old := range st.addrs {
			if old.own.n == 0 {
				delete(st.addrs, k)
			}
		}
		st.sweep = max(maxAddresses, 2*len(st.addrs))
	}
	known := &address{own: queue{kind: ofAddress}}
	st.addrs[key] = known
	return known
}

// enter counts a connection of a port, and makes room for it. It returns the reason when
// there is none.
func (st *Strangers) enter(s *Server, cn *conn, from netip.Addr) (refused string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	a := st.of(from)
	if a != nil && st.opt.Rate > 0 && !a.bucket.Take(st.opt.Now(), st.opt.Rate, st.opt.Burst) {
		return becauseRate
	}
	if a != nil && st.opt.PerAddress > 0 && a.own.n >= st.opt.PerAddress {
		st.displace(a.own.first, becauseAddress)
	}
	most := s.mostConns()
	if s.waiting.n >= max(1, most-most*st.opt.Reserved/100) {
		st.displace(s.waiting.first(), becausePort)
	}
	for {
		refused = s.take()
		var next *stranger
		switch refused {
		case becausePort:
			next = s.waiting.first()
		case becauseFiles:
			next = st.first()
		}
		if !st.displace(next, refused) {
			break
		}
	}
	if refused == "" {
		st.add(&stranger{cn: cn, server: s, addr: a})
	}
	return refused
}

// first returns the stranger that is displaced first when the process is full: on the port
// with the most strangers. With mu held.
func (st *Strangers) first() *stranger {
	var most *Server
	for _, s := range st.ports {
		if most == nil || s.waiting.n > most.waiting.n {
			most = s
		}
	}
	return most.waiting.first()
}

// add puts x in the lists. With mu held.
func (st *Strangers) add(x *stranger) {
	if x.addr != nil {
		x.addr.own.push(x)
		x.class = uint8(origin.Class(x.addr.own.n))
	}
	x.server.waiting.classes[x.class].push(x)
	x.server.waiting.n++
	x.cn.stranger = x
}

// displace closes x and gives its place away. It returns false when x is nil. With mu held.
func (st *Strangers) displace(x *stranger, why string) bool {
	if x == nil {
		return false
	}
	st.remove(x)
	x.displaced = true
	x.server.leaving.Add(1)
	x.server.opt.Budget.Put()
	x.server.noteDisplaced(why)
	if x.opened { // otherwise OnOpen closes it
		x.cn.loop.Post(func() { x.end() })
	}
	return true
}

// remove takes x out of all lists. With mu held.
func (st *Strangers) remove(x *stranger) {
	x.gone = true
	x.server.waiting.classes[x.class].remove(x)
	x.server.waiting.n--
	if x.addr != nil {
		x.addr.own.remove(x)
	}
	if x.holds {
		st.hold.remove(x)
	}
	x.holds = false
	st.memory -= x.bytes
}

// opened records that x is on its loop. It returns false when x was displaced before.
func (st *Strangers) opened(x *stranger) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	x.opened = true
	return !x.displaced
}

// ask makes x wait anew, because its first frame that is no heartbeat has arrived.
func (st *Strangers) ask(x *stranger) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if x.gone || x.asked {
		return
	}
	x.asked = true
	q := &x.server.waiting.classes[x.class]
	q.remove(x)
	q.push(x)
	if x.addr != nil {
		x.addr.own.remove(x)
		x.addr.own.push(x)
	}
}

// heard counts the bytes that wait for x. Above the bound of memory it displaces the
// strangers that have held bytes longest.
func (st *Strangers) heard(x *stranger, bytes int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if x.gone {
		return
	}
	st.memory += int64(bytes) - x.bytes
	x.bytes = int64(bytes)
	switch {
	case bytes > 0 && !x.holds:
		st.hold.push(x)
	case bytes == 0 && x.holds:
		st.hold.remove(x)
	}
	x.holds = bytes > 0
	for st.memory > st.opt.Memory && st.displace(st.hold.first, becauseMemory) {
	}
}

// admit ends the state of x, whose client has logged in. When another connection has its
// place already, both stay.
func (st *Strangers) admit(x *stranger) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if x.displaced {
		x.displaced = false
		x.server.leaving.Add(-1)
		x.server.opt.Budget.Force()
		return
	}
	if !x.gone {
		st.remove(x)
	}
}

// leave ends the state of x, whose connection has ended. It returns true when another
// connection has the place.
func (st *Strangers) leave(x *stranger) (displaced bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !x.gone {
		st.remove(x)
	}
	return x.displaced
}
