// Package passwords checks the passwords of logins at a bounded cost, and moves rows from
// md5 to argon2id.
//
// # Cost
//
// A check of an md5 row takes a microsecond. A check of an argon2id row is a derivation,
// which takes milliseconds and megabytes. A Checker runs a bounded number at a time, on
// goroutines of its own, and bounds the wait for them: a login that would wait for too long
// is refused as busy. Logins from networks from which their user has logged in before have
// three of four turns, so that an attacker with many addresses delays other strangers, and
// not the users. In both classes a network with many waiting logins leaves places to
// others, and equal logins that wait share one derivation.
//
// # Memory
//
// When a message server restarts, all its clients log in again with the passwords that
// they had. So a Checker remembers for a while which passwords were right, and, for a
// shorter time, which were wrong: a client that repeats a wrong password costs one
// derivation. It keeps no password, but an HMAC of user, password and stored row with a
// random key of this process. A changed row has another HMAC, so that nothing has to be
// removed. A reader of this process's memory has the key, and can then try passwords as
// fast as with md5 rows. The same reader sees the passwords of all logins as they arrive.
//
// # Time
//
// The time of an answer must not tell whether a name exists, or how its row is stored. So
// every wrong password takes the time of a derivation as soon as some row has that form:
// that of a name without a user, and that of an md5 row.
package passwords

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/kdf"
	"teamtalk/core/obs"
)

// Store is the part of im.UserStore that a Checker needs.
type Store interface {
	ReplacePassword(ctx context.Context, id uint32, old, now im.StoredPassword) (bool, error)
}

// Settings say how passwords are stored, and what their checks may cost.
type Settings struct {
	// Policy says how passwords should be stored. Rows that it would store with higher
	// costs are moved at the next login of their users.
	Policy im.PasswordPolicy
	// Workers is the number of derivations at a time. 0: half of GOMAXPROCS, at least one.
	Workers int
	// Remember is for how long a right password is remembered after its last login. 0: not
	// at all.
	Remember time.Duration
}

// Options configures a Checker.
type Options struct {
	Settings
	// Wait is the longest time that a login waits for its derivation.
	Wait time.Duration
	// Store takes the rows that are moved; Timeout bounds each of these calls.
	Store   Store
	Timeout time.Duration
	// StoreNow is the time of the store, Now the time of this process.
	StoreNow, Now func() time.Time
	// Stopped ends the moving of rows when it is closed.
	Stopped    <-chan struct{}
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

const (
	// maxRight and maxWrong are the numbers of passwords that are remembered, of 48 bytes
	// or so each.
	maxRight = 1 << 17
	maxWrong = 1 << 14
	// wrongFor is for how long a wrong password is remembered.
	wrongFor = 10 * time.Minute
)

// Checker checks passwords. Any goroutine.
type Checker struct {
	opt          Options
	workers      int
	key          []byte // of the HMACs
	right, wrong *memory
	metrics      *metrics
	often        obs.Often
	derive       func(kdf.Form, string) bool // Form.Matches, or that of a test

	// nobody is derived in place of a row that has no form to derive. nil: no row is known
	// to have one, and wrong passwords cost nothing.
	nobody atomic.Pointer[kdf.Form]

	mu     sync.Mutex
	queues [classes]queue
	active int // workers that run
	turn   int
	mean   time.Duration // of a derivation

	moves moves
}

// New returns a Checker.
func New(opt Options) *Checker {
	c := &Checker{opt: opt, workers: opt.Workers, key: make([]byte, sha256.Size),
		right:  newMemory(maxRight, opt.Remember, opt.Now),
		wrong:  newMemory(maxWrong, wrongFor, opt.Now),
		derive: kdf.Form.Matches, moves: moves{queued: map[uint32]bool{}}}
	rand.Read(c.key) // never fails
	if c.workers <= 0 {
		c.workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	c.metrics = newMetrics(opt.Registerer, c.waiting)
	for i := range c.queues {
		c.queues[i].open, c.queues[i].held = map[Key]*job{}, map[holder]int{}
	}
	if opt.Policy.UsesKDF() {
		c.expect(opt.Policy.KDF)
	}
	return c
}

// expect makes wrong passwords cost a derivation from now on.
func (c *Checker) expect(p kdf.Params) {
	form, err := kdf.Parse(kdf.New(p, rand.Text()))
	if err == nil {
		c.nobody.CompareAndSwap(nil, &form)
	}
}

// Login is a login whose password is to be checked.
type Login struct {
	Account *im.Account // that of the name; its ID is 0 when there is none
	Name    string      // as the client sent it
	Sent    string      // the password, as the client sent it
	// Network is that of the client, empty if it is unknown. Known: the user has logged in
	// from it before.
	Network string
	Known   bool
}

// Verdict is the result of a check.
type Verdict uint8

// The verdicts. Pending: the check needs a derivation, see Ask.
const (
	Pending Verdict = iota
	Right
	Wrong
)

// result returns the label of a verdict other than Pending in metrics.
func (v Verdict) result() string {
	if v == Right {
		return "right"
	}
	return "wrong"
}

// Key identifies a password together with the row that it was compared with. The zero value
// is none.
type Key [sha256.Size]byte

// Answer is what Ask found. It holds for the row that it was compared with.
type Answer struct {
	key   Key
	right bool
}

// noAccount is checked in place of the account of a name without one, so that this takes
// the same time. No password has this hash.
var noAccount = im.Account{Password: strings.Repeat("-", 32), Salt: "none"}

// Look checks a password without a derivation, if it can. earlier is the answer to an
// earlier Ask of the same login, or the zero value.
func (c *Checker) Look(l *Login, earlier Answer) Verdict {
	a := l.Account
	if a.ID == 0 {
		a = &noAccount
	}
	stored := a.Stored()
	switch {
	case stored.IsKDF():
		if form, err := kdf.Parse(stored.Hash); err == nil && c.nobody.Load() == nil {
			c.expect(form.Params)
		}
	case stored.Check(l.Sent) && a.Status == im.StatusOK:
		return Right
	case c.nobody.Load() == nil:
		return quick(stored.Check(l.Sent))
	}
	key := c.keyOf(l, stored)
	if earlier.key == key {
		return quick(earlier.right)
	}
	v := c.recall(key)
	if v != Pending {
		c.metrics.remembered.WithLabelValues(v.result()).Inc()
	}
	return v
}

// recall returns what is remembered of a key.
func (c *Checker) recall(key Key) Verdict {
	switch {
	case c.right.has(key):
		return Right
	case c.wrong.has(key):
		return Wrong
	}
	return Pending
}

func quick(right bool) Verdict {
	if right {
		return Right
	}
	return Wrong
}

// keyOf returns the key of a login's password and a row.
func (c *Checker) keyOf(l *Login, stored im.StoredPassword) Key {
	h := hmac.New(sha256.New, c.key)
	var id [4]byte
	binary.BigEndian.PutUint32(id[:], l.Account.ID)
	h.Write(id[:])
	name := ""
	if l.Account.ID == 0 {
		name = l.Name
	}
	for _, part := range []string{name, stored.Hash, stored.Salt, l.Sent} {
		binary.BigEndian.PutUint32(id[:], uint32(len(part)))
		h.Write(id[:])
		h.Write([]byte(part))
	}
	return Key(h.Sum(nil))
}

// check runs the derivation of a login, and remembers its result.
func (c *Checker) check(j *job) bool {
	stored := j.login.Account.Stored()
	form, err := kdf.Parse(stored.Hash)
	if j.login.Account.ID == 0 || err != nil {
		form = *c.nobody.Load() // its result is ignored
	}
	right := c.derive(form, j.login.Sent) && err == nil
	if !stored.IsKDF() {
		right = stored.Check(j.login.Sent)
	}
	if right = right && j.login.Account.ID != 0; right {
		c.right.add(j.key)
	} else {
		c.wrong.add(j.key)
	}
	return right
}
