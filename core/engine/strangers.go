package engine

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"teamtalk/core/opt"
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
	Trusted []netip.Prefix
	// Now returns the time. Default time.Now.
	Now func() time.Time
}

// Strangers are the connections of a process whose clients have not logged in, over all of
// its client ports. When there is no room for a new connection, the stranger that has been
// silent longest is closed. A client with a login is never closed for one without. Any
// goroutine.
type Strangers struct {
	opt StrangerOptions

	mu     sync.Mutex
	all    list.List // of *stranger, the one that has been silent longest first
	hold   list.List // of *stranger, those with bytes, the one that has held them longest first
	memory int64
	addrs  map[netip.Addr]*address
	sweep  int // length of addrs at which those without a stranger are forgotten
}

// stranger is a connection without a login. With Strangers.mu held.
type stranger struct {
	cn     *conn
	server *Server
	addr   *address // nil: trusted
	bytes  int64
	loop   *loop // nil until OnOpen

	all, port, same, hold *list.Element // places in the lists; nil: not in it
	gone                  bool          // displaced, logged in or closed
	displaced             bool          // another connection has its place
}

// address is the state of one address or IPv6 network.
type address struct {
	key    netip.Addr
	own    list.List // of *stranger, the one that has been silent longest first
	bucket rate.Bucket
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
	return &Strangers{opt: o, addrs: map[netip.Addr]*address{}, sweep: maxAddresses}
}

// Bytes returns the bytes that wait for strangers or for the rest of their frames.
func (st *Strangers) Bytes() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.memory
}

// network returns the key of an address: itself, or its IPv6 network of 64 bits.
func network(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	if p, err := a.WithZone("").Prefix(64); err == nil {
		return p.Addr()
	}
	return a
}

// trusted reports whether the bounds of an address do not apply to a.
func (st *Strangers) trusted(a netip.Addr) bool {
	for _, p := range st.opt.Trusted {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// of returns the state of an address; nil when it is trusted. With mu held.
func (st *Strangers) of(a netip.Addr) *address {
	if st.trusted(a) {
		return nil
	}
	key := network(a)
	if known := st.addrs[key]; known != nil {
		return known
	}
	if len(st.addrs) >= st.sweep {
		for k, old := range st.addrs {
			if old.own.Len() == 0 {
				delete(st.addrs, k)
			}
		}
		st.sweep = max(maxAddresses, 2*len(st.addrs))
	}
	known := &address{key: key}
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
	if a != nil && st.opt.PerAddress > 0 && a.own.Len() >= st.opt.PerAddress {
		st.displace(&a.own, becauseAddress)
	}
	most := s.mostConns()
	if s.strangers.Len() >= max(1, most-most*st.opt.Reserved/100) {
		st.displace(&s.strangers, becausePort)
	}
	for {
		refused = s.take()
		more := &st.all
		if refused == becausePort {
			more = &s.strangers
		}
		if refused == "" || refused == becauseStop || !st.displace(more, refused) {
			break
		}
	}
	if refused != "" {
		return refused
	}
	x := &stranger{cn: cn, server: s, addr: a}
	x.all, x.port = st.all.PushBack(x), s.strangers.PushBack(x)
	if a != nil {
		x.same = a.own.PushBack(x)
	}
	cn.stranger = x
	return ""
}

// displace closes the first stranger of a list and gives its place away. It returns false
// when the list is empty. With mu held.
func (st *Strangers) displace(l *list.List, why string) bool {
	e := l.Front()
	if e == nil {
		return false
	}
	x := e.Value.(*stranger)
	st.remove(x)
	x.displaced = true
	x.server.leaving.Add(1)
	x.server.opt.Budget.Put()
	x.server.noteDisplaced(why)
	if x.loop != nil { // otherwise OnOpen closes it
		x.loop.Post(func() { x.end() })
	}
	return true
}

// remove takes x out of all lists. With mu held.
func (st *Strangers) remove(x *stranger) {
	x.gone = true
	st.all.Remove(x.all)
	x.server.strangers.Remove(x.port)
	if x.same != nil {
		x.addr.own.Remove(x.same)
	}
	if x.hold != nil {
		st.hold.Remove(x.hold)
		x.hold = nil
	}
	st.memory -= x.bytes
}

// opened tells a stranger its loop. It returns false when the stranger was displaced before.
func (st *Strangers) opened(x *stranger, l *loop) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	x.loop = l
	return !x.displaced
}

// touch makes x the stranger that was heard last, because a whole frame has arrived.
func (st *Strangers) touch(x *stranger) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if x.gone {
		return
	}
	st.all.MoveToBack(x.all)
	x.server.strangers.MoveToBack(x.port)
	if x.same != nil {
		x.addr.own.MoveToBack(x.same)
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
	case bytes > 0 && x.hold == nil:
		x.hold = st.hold.PushBack(x)
	case bytes == 0 && x.hold != nil:
		st.hold.Remove(x.hold)
		x.hold = nil
	}
	for st.memory > st.opt.Memory && st.displace(&st.hold, becauseMemory) {
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
