package msfs

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/origin"
	"teamtalk/core/rate"
)

// Budget bounds the bytes that one address uploads, or one user with tickets. An IPv6 network
// of 64 bits counts as one address. Each file counts with at least 16 KiB.
type Budget struct {
	// Rate is the number of bytes a second. 0: no bound.
	Rate int64
	// Burst is the number of bytes that an address may upload at once after a pause. Required
	// with Rate; at least MaxSize.
	Burst int64
	// Trusted are the networks without a bound.
	Trusted origin.Networks
}

// fileCost is the smallest cost of a file, in bytes. File systems have about one inode for
// 16 KiB, so an address uses up the inodes of a disk no sooner than its bytes.
const fileCost = 16 << 10

// maxUploaders bounds the addresses and users whose budgets are remembered. Above it, the one
// that has uploaded nothing for the longest time is forgotten, so it has its whole budget again.
const maxUploaders = 1 << 16

// errBudget is the error of an upload without a length that uses up its budget.
var errBudget = errors.New("the budget is used up")

// uploader is the key under which uploads count: a user, or an address.
type uploader struct {
	addr  netip.Addr
	user  uint32 // 0: addr counts
	bound bool
}

// unbounded is the uploader of trusted networks and of servers.
var unbounded uploader

// address returns the uploader of a request without a ticket.
func (s *Server) address(r *http.Request) uploader {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // all that are not valid count together
	if s.opt.Budget.Trusted.Contains(peer.Addr()) {
		return unbounded
	}
	return uploader{addr: origin.Key(peer.Addr()), bound: true}
}

// slots are the places for uploads in progress. Any goroutine.
type slots struct {
	mu   sync.Mutex // held for a few operations
	free int
	held map[uploader]int
}

func newSlots(n int) *slots { return &slots{free: n, held: map[uploader]int{}} }

// take takes a slot, and returns why an uploader gets none. An uploader that has as many as
// are free gets none, so one leaves half of them to others, two leave a third, and so on.
// leave must follow a slot that was taken.
func (s *slots) take(u uploader) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.free == 0:
		return noSlot
	case u != unbounded && s.held[u] >= s.free:
		return overShare
	}
	s.free--
	s.held[u]++
	return nil
}

// leave returns a slot.
func (s *slots) leave(u uploader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	if s.held[u]--; s.held[u] == 0 {
		delete(s.held, u)
	}
}

// budgets are the budgets of all uploaders. Any goroutine.
type budgets struct {
	opt Budget
	now func() time.Time

	mu sync.Mutex // held for a few operations
	of *simplelru.LRU[uploader, *rate.Bucket]
}

func newBudgets(opt Budget, now func() time.Time) *budgets {
	b := &budgets{opt: opt, now: now}
	// NewLRU fails only when the size is not positive.
	b.of, _ = simplelru.NewLRU[uploader, *rate.Bucket](maxUploaders, nil)
	return b
}

// set replaces the rate and the burst.
func (b *budgets) set(rate, burst int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opt.Rate, b.opt.Burst = rate, burst
}

// begin takes the bytes of an upload from the budget of its uploader. length is that of the
// request, or -1. It returns false when the budget has too few bytes. end must follow.
func (b *budgets) begin(u uploader, length int64) (c *charge, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opt.Rate == 0 || u == unbounded {
		return &charge{}, true
	}
	c = &charge{from: b, paid: max(length, fileCost)}
	if c.bucket, ok = b.of.Get(u); !ok {
		c.bucket = new(rate.Bucket)
		b.of.Add(u, c.bucket)
	}
	return c, c.take(c.paid)
}

// charge is what an upload costs. The zero value costs nothing.
type charge struct {
	from       *budgets // nil: nothing is charged
	bucket     *rate.Bucket
	paid, used int64 // bytes
}

// take takes n bytes from the budget. The caller holds the lock.
func (c *charge) take(n int64) bool {
	return c.bucket.TakeN(c.from.now(), float64(n), float64(c.from.opt.Rate),
		float64(c.from.opt.Burst))
}

// use counts n bytes that have arrived, and takes those from the budget that begin did not
// know of.
func (c *charge) use(n int64) error {
	if c.from == nil {
		return nil
	}
	c.used += n
	if c.used <= c.paid {
		return nil
	}
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	if !c.take(c.used - c.paid) {
		return errBudget
	}
	c.paid = c.used
	return nil
}

// end returns what was taken for bytes that have not arrived.
func (c *charge) end() {
	if c.from == nil {
		return
	}
	cost := c.used
	if cost > 0 {
		cost = max(cost, fileCost)
	}
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	c.bucket.Spend(float64(cost - c.paid))
}

// charged is a reader whose bytes are charged.
type charged struct {
	r io.Reader
	c *charge
}

func (c charged) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if over := c.c.use(int64(n)); over != nil {
		return 0, over
	}
	return n, err
}
