// Package lockout bounds the guessing of passwords. It counts the different wrong passwords
// of each login name from each network, of each network for all names, and of each name
// from all networks. The counts are in the store, so that all db_proxies share them.
//
// A network is an IPv4 network of 24 bits or an IPv6 network of 64 bits. Networks from which
// a user has logged in are known. For the logins of that user from there only the first of
// the three counts matters. So neither guesses from elsewhere nor those of a colleague
// behind the same router at other names lock the user out.
//
// Repeating the same password does not count: a client that repeats its stored password is
// not guessing. Names without a user are counted like others, because a difference would
// show which names exist.
package lockout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/proto/pb"
)

// Reason says why a login is refused without a look at its password.
type Reason string

// The reasons.
const (
	Open    Reason = ""
	Name    Reason = "locked"             // wrong passwords for the name from this network
	Network Reason = "network_locked"     // wrong passwords from this network, for all names
	Spread  Reason = "locked_from_others" // wrong passwords for the name from all networks
)

// Text returns a log line that says what is locked.
func (r Reason) Text() string {
	switch r {
	case Name:
		return "login name locked for a network"
	case Network:
		return "network locked for names that have not logged in from it"
	case Spread:
		return "login name locked for networks from which it has not logged in"
	}
	return "open"
}

// Limits are how many different wrong passwords lock, and for how long a wrong password
// counts.
type Limits struct {
	// Attempts locks a name for one network, for Window. 0: names are never locked.
	Attempts int
	Window   time.Duration
	// NetworkAttempts locks a network for names that are not known there, for Window. 0:
	// networks are never locked.
	NetworkAttempts int
	// NameAttempts locks a name for all networks that are not known, for NameWindow. 0, or
	// with Attempts 0: never.
	NameAttempts int
	NameWindow   time.Duration
	// Known is for how long a network is known after a login.
	Known time.Duration
}

// Store is the part of im.LoginStore that a Guard needs.
type Store interface {
	NameKeys(ctx context.Context, names []string) ([]string, error)
	LoginMarks(ctx context.Context, keys []im.LoginMarkKey) ([][]im.LoginMark, error)
	ChangeLoginMarks(ctx context.Context, drops []im.LoginMarkDrop, puts []im.NewLoginMark) error
}

// Options configures a Guard.
type Options struct {
	Limits
	Store Store
	// Timeout bounds the wait for the store's counts, and for storing them.
	Timeout time.Duration
	// StoreNow is the time of the store, Now the time of this process.
	StoreNow, Now func() time.Time
	Log           *slog.Logger
	// Failed is called when the store does not answer.
	Failed func()
}

// Guard counts wrong passwords. While the store does not keep the counts, they are in the
// memory of this process. Any goroutine.
type Guard struct {
	opt    Options
	memory *Memory

	mu     sync.Mutex
	paused time.Time // until then the store is not asked
	often  obs.Often
}

const (
	// storePause is for how long logins are checked without the store's counts after it
	// has failed.
	storePause = 5 * time.Second
	// knownAge is the age at which a known network is noted again. Not every login writes.
	knownAge = 24 * time.Hour
)

// New returns a Guard.
func New(opt Options) *Guard { return &Guard{opt: opt, memory: NewMemory()} }

// Attempt is a login that is to be checked.
type Attempt struct {
	Name     string     // as the client sent it
	User     uint32     // the user with that name; 0: none
	Addr     netip.Addr // of the client; the zero value: unknown
	Password string     // as the client sent it
}

// AttemptOf returns the attempt of a request. user is the user with its name; 0: none.
func AttemptOf(m *pb.IMValidateReq, user uint32) Attempt {
	return Attempt{Name: m.GetUserName(), User: user, Addr: ClientAddr(m),
		Password: m.GetPassword()}
}

// ClientAddr returns the address of the client of a request; the zero value: it is unknown.
func ClientAddr(m *pb.IMValidateReq) netip.Addr {
	addr, _ := netip.AddrFromSlice(m.GetClientAddress())
	return addr
}

// Round is a number of logins that are checked together, in order.
type Round struct {
	g        *Guard
	now      uint32
	attempts []attempt
	keys     []im.LoginMarkKey
	marks    map[im.LoginMarkKey][]im.LoginMark
	local    bool // the marks are those of this process's memory
	drops    []im.LoginMarkDrop
	puts     []im.NewLoginMark
}

// attempt is an Attempt with its keys.
type attempt struct {
	name, network, user im.LoginMarkKey
	from                string // the network as a part of a mark
	mark                string // of the wrong password for the name
	networkMark         string // of the wrong password for the network
}

// Begin reads the counts for some logins. The error is one of NameKeys.
func (g *Guard) Begin(ctx context.Context, attempts []Attempt) (*Round, error) {
	r := &Round{g: g, now: g.now(), attempts: make([]attempt, len(attempts))}
	if g.opt.Attempts <= 0 && g.opt.NetworkAttempts <= 0 {
		return r, nil
	}
	names := make([]string, len(attempts))
	for i, a := range attempts {
		names[i] = a.Name
	}
	keys, err := g.opt.Store.NameKeys(ctx, names)
	if err != nil {
		return nil, err
	}
	r.marks = map[im.LoginMarkKey][]im.LoginMark{}
	for i, a := range attempts {
		r.attempts[i] = newAttempt(a, keys[i])
		for _, k := range r.attempts[i].keys() {
			if _, there := r.marks[k]; !there {
				r.marks[k], r.keys = nil, append(r.keys, k)
			}
		}
	}
	r.read(ctx)
	return r, nil
}

// newAttempt returns the keys of an attempt. Names and passwords are hashed: people type a
// password in place of a name, and a wrong password is often nearly the right one. 16 bits
// of its hash tell passwords apart, and are too few to find one.
func newAttempt(a Attempt, name string) attempt {
	sum := sha256.Sum256([]byte(name + "\x00" + a.Password))
	from, text := network(a.Addr)
	key := nameKey(name)
	return attempt{name: key, from: from,
		network:     im.LoginMarkKey{Kind: im.FailuresOfNetwork, Key: text},
		user:        userKey(a.User),
		mark:        string(sum[:2]) + from,
		networkMark: string(sum[:2]) + key.Key[:8]}
}

// nameKey returns the key of the wrong passwords for a name with this key of the store.
func nameKey(name string) im.LoginMarkKey {
	sum := sha256.Sum256([]byte(name))
	return im.LoginMarkKey{Kind: im.FailuresOfName, Key: hex.EncodeToString(sum[:16])}
}

// userKey returns the key of the networks of a user.
func userKey(user uint32) im.LoginMarkKey {
	return im.LoginMarkKey{Kind: im.NetworksOfUser, Key: strconv.FormatUint(uint64(user), 10)}
}

// network returns the network of an address in binary form and as a text. Both are empty
// for the zero value.
func network(a netip.Addr) (binary, text string) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return "", ""
	}
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // fails only for other numbers of bits
	return string(p.Addr().AsSlice()[:bits/8]), p.String()
}

// networkText returns the text of a network in binary form.
func networkText(binary string) string {
	switch len(binary) {
	case 3:
		_, text := network(netip.AddrFrom4([4]byte([]byte(binary + "\x00"))))
		return text
	case 8:
		var a [16]byte
		copy(a[:], binary)
		_, text := network(netip.AddrFrom16(a))
		return text
	}
	return ""
}

// keys returns the keys under which the counts of an attempt are.
func (a *attempt) keys() []im.LoginMarkKey {
	keys := []im.LoginMarkKey{a.name, a.user}
	if a.from != "" {
		keys = append(keys, a.network)
	}
	return keys
}

// now returns the store's time, in unix seconds.
func (g *Guard) now() uint32 { return uint32(g.opt.StoreNow().Unix()) }

// read fills the marks of a round.
func (r *Round) read(ctx context.Context) {
	var lists [][]im.LoginMark
	r.local = !r.g.try(ctx, func(ctx context.Context) (err error) {
		lists, err = r.g.opt.Store.LoginMarks(ctx, r.keys)
		return err
	})
	if r.local {
		lists, _ = r.g.memory.LoginMarks(ctx, r.keys)
	}
	for i, k := range r.keys {
		r.marks[k] = lists[i]
	}
}

// try calls f, unless the store is not to be asked, and reports whether it did its work.
func (g *Guard) try(ctx context.Context, f func(ctx context.Context) error) bool {
	g.mu.Lock()
	paused := g.opt.Now().Before(g.paused)
	g.mu.Unlock()
	if paused {
		return false
	}
	within, cancel := context.WithTimeout(ctx, g.opt.Timeout)
	defer cancel()
	err := f(within)
	if err == nil {
		return true
	}
	if ctx.Err() != nil { // the request has waited too long, whatever the store does
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = g.opt.Now().Add(storePause)
	g.opt.Failed()
	g.often.Warn(g.opt.Log, g.opt.Now(), "wrong passwords are counted in this process only: "+
		"the store does not keep the counts", "role", "dbproxy", "err", err)
	return false
}

// Locked returns why login i is refused.
func (r *Round) Locked(i int) Reason {
	if r.marks == nil {
		return Open
	}
	c, a, limits := r.count(i), &r.attempts[i], &r.g.opt.Limits
	switch {
	case reached(c.pair, limits.Attempts):
		return Name
	case c.known:
		return Open
	case a.from != "" && reached(c.network, limits.NetworkAttempts):
		return Network
	case limits.Attempts > 0 && reached(c.spread, limits.NameAttempts):
		return Spread
	}
	return Open
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// counts are the wrong passwords that matter for one login.
type counts struct {
	pair, network, spread int
	known                 bool
}

// count counts for login i.
func (r *Round) count(i int) counts {
	a, limits := &r.attempts[i], &r.g.opt.Limits
	known := knownNetworks(r.marks[a.user], r.now, limits)
	c := counts{known: known[a.from]}
	spread := map[string]bool{}
	for _, m := range r.marks[a.name] {
		if len(m.Value) < 2 {
			continue
		}
		password, from := m.Value[:2], m.Value[2:]
		if from == a.from && within(m, r.now, limits.Window) {
			c.pair++
		}
		if !known[from] && within(m, r.now, limits.NameWindow) {
			spread[password] = true
		}
	}
	c.spread = len(spread)
	for _, m := range r.marks[a.network] {
		if within(m, r.now, limits.Window) {
			c.network++
		}
	}
	return c
}

// knownNetworks returns the networks that marks of a user name.
func knownNetworks(marks []im.LoginMark, now uint32, limits *Limits) map[string]bool {
	known := map[string]bool{}
	for _, m := range marks {
		if within(m, now, limits.Known) {
			known[fromMark(m)] = true
		}
	}
	return known
}

// A mark of a network begins with a letter, because it may be empty.
const networkMark = "n"

// fromMark returns the network of a mark of a user, in binary form.
func fromMark(m im.LoginMark) string {
	if m.Value == "" {
		return ""
	}
	return m.Value[len(networkMark):]
}

// within reports whether a mark still counts. A mark from another process may be a little
// later than now.
func within(m im.LoginMark, now uint32, window time.Duration) bool {
	return int64(now)-int64(m.At) < int64(window/time.Second)
}

// Failed counts the wrong password of login i, which was not locked. It returns what is
// locked by it.
func (r *Round) Failed(i int) Reason {
	if r.marks == nil {
		return Open
	}
	a, limits := &r.attempts[i], &r.g.opt.Limits
	before := r.count(i)
	r.put(a.name, a.mark, max(limits.Window, limits.NameWindow))
	if a.from != "" && !before.known {
		r.put(a.network, a.networkMark, limits.Window)
	}
	after := r.count(i)
	switch {
	case reached(after.pair, limits.Attempts) && !reached(before.pair, limits.Attempts):
		return Name
	case before.known:
		return Open
	case reached(after.network, limits.NetworkAttempts) &&
		!reached(before.network, limits.NetworkAttempts):
		return Network
	case limits.Attempts > 0 && reached(after.spread, limits.NameAttempts) &&
		!reached(before.spread, limits.NameAttempts):
		return Spread
	}
	return Open
}

// Passed records that login i was good: its wrong passwords from the same network are
// forgotten, and the network is known.
func (r *Round) Passed(i int) {
	if r.marks == nil {
		return
	}
	a := &r.attempts[i]
	drop := im.LoginMarkDrop{LoginMarkKey: a.name}
	kept := make([]im.LoginMark, 0, len(r.marks[a.name]))
	for _, m := range r.marks[a.name] {
		if len(m.Value) >= 2 && m.Value[2:] == a.from {
			drop.Values = append(drop.Values, m.Value)
		} else {
			kept = append(kept, m)
		}
	}
	if len(drop.Values) > 0 {
		r.marks[a.name] = kept
		r.unput(&drop)
	}
	for _, m := range r.marks[a.user] {
		if fromMark(m) == a.from && within(m, r.now, knownAge) {
			return
		}
	}
	r.put(a.user, networkMark+a.from, r.g.opt.Known)
}

// unput removes marks, also those that the round was to put.
func (r *Round) unput(drop *im.LoginMarkDrop) {
	gone := map[string]bool{}
	for _, v := range drop.Values {
		gone[v] = true
	}
	var puts []im.NewLoginMark
	for _, p := range r.puts {
		if p.LoginMarkKey != drop.LoginMarkKey || !gone[p.Value] {
			puts = append(puts, p)
		}
	}
	r.puts, r.drops = puts, append(r.drops, *drop)
}

// put puts a mark.
func (r *Round) put(key im.LoginMarkKey, value string, keep time.Duration) {
	m := im.LoginMark{Value: value, At: r.now}
	list := r.marks[key]
	for i := range list {
		// An older mark that does not count any more is put anew.
		if list[i].Value == value && (key.Kind.Renews() || !within(list[i], r.now, keep)) {
			list[i].At = r.now
			r.puts = append(r.puts, im.NewLoginMark{LoginMarkKey: key, LoginMark: m, Keep: keep})
			return
		} else if list[i].Value == value {
			return
		}
	}
	r.marks[key] = append(list, m)
	r.puts = append(r.puts, im.NewLoginMark{LoginMarkKey: key, LoginMark: m, Keep: keep})
}

// End stores what the round has counted. Call it before the logins are answered, so that
// the next login of the same client is counted on.
func (r *Round) End(ctx context.Context) {
	if len(r.drops) == 0 && len(r.puts) == 0 {
		return
	}
	if !r.local && r.g.try(ctx, func(ctx context.Context) error {
		return r.g.opt.Store.ChangeLoginMarks(ctx, r.drops, r.puts)
	}) {
		return
	}
	_ = r.g.memory.ChangeLoginMarks(ctx, r.drops, r.puts) // never fails
}
