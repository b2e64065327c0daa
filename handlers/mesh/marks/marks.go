// Package marks keeps in a store which groups have a member online at the message server of this
// process, so that others send it the messages of these groups alone.
//
// An Index knows the groups of the local users. Before a login is answered, db_proxy is asked for
// the groups of the user, and those that no user here was in are marked. A mark is removed some
// minutes after the last member has left, and after db_proxy was asked whether it was the last
// one. While the groups of a user are not known, this message server gets the messages of all
// groups: it has a mark of group 0.
//
// handlers/mesh/DESIGN.md has the argument why no text is missed.
package marks

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// Everything is the group whose marks are those of message servers that get the messages of all
// groups.
const Everything = 0

// DB is the db_proxy that knows the groups.
type DB interface {
	// Call sends req and calls done, which must not wait, with the answer or an error.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Options configures an Index. Store, Self, Ended, Begun and Written must be set. Zero values of
// the others mean the defaults.
type Options struct {
	Store whereabouts.Store
	// Self returns this process. With Epoch 0 nothing is written yet.
	Self func() whereabouts.Node
	// Ended reports whether the process of a node has ended.
	Ended func(whereabouts.Node) bool
	// Begun is called with groups that this message server has not followed until now. Written
	// is called when all marks are written. Both without locks.
	Begun   func(groups []uint32)
	Written func()
	// Timeout bounds a call to the store. Default 2 s.
	Timeout time.Duration
	// ListWait is the longest time that a login waits for the groups of its user. Default 1 s.
	ListWait time.Duration
	// Linger is the time after which a group without a member here loses its mark. Default 5
	// minutes.
	Linger time.Duration
	// Now returns the time. Default time.Now.
	Now func() time.Time
	// Turn is waited for by the goroutines of the Index before they work. Default: none.
	Turn mono.Turn
	// Log receives failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Bounds of an Index. Users beyond maxMemberships count as users whose groups are not known.
const (
	maxMemberships = 1 << 24
	maxOfUser      = 1 << 14
	maxUnused      = 1 << 16 // groups without a member here
)

// Index is the groups of the users here. Any goroutine. Run must run while it is used.
type Index struct {
	opt     Options
	metrics *metrics
	often   obs.Often
	wakes   struct{ write, ask, check, mend chan struct{} }
	slots   struct{ check, mend chan struct{} }

	mu    sync.Mutex
	db    DB
	users map[uint32]*user
	marks map[uint32]*mark
	all   *mark // of Everything
	// memberships is the sum of the groups of all users.
	memberships int
	dirty       []*mark // to be written or removed
	busy        int     // marks that are being written
	urgent      []*user // to be asked for, because a login waits
	asks        []*user // to be asked for
	asking      int     // requests for groups without an answer
	waiting     []*user // with a login, in the order in which they came
	retry       []*user // whose request failed
	retryAt     time.Time
	unused      []*mark // without a user, in the order of since
	mends       mends
	checks      []*mark // to be checked
}

// user is a user that is online here, or about to be.
type user struct {
	id     uint32
	state  state
	inAll  bool   // it counts for Everything
	number uint32 // of the latest request
	groups []uint32
	*login // nil: no login waits
}

// login is a login that waits for marks.
type login struct {
	since time.Time
	left  int // marks that are to be written
	done  []func()
}

// state says what is known of the groups of a user.
type state uint8

const (
	unknown state = iota
	asked
	known
	tooMany // they are not kept
)

// mark is a group, with a mark or about to have one.
type mark struct {
	id      uint32
	users   int32
	written bool // the store has the mark, as far as this process knows
	dirty   bool // it is to be written, or removed with gone set
	writing bool // it is being written
	begun   bool // it is told when it is written
	queued  bool // it is in Index.unused
	// gone says that the mark is to be removed, unless the group has a later version.
	gone  *uint32
	since time.Time // without users since then
	waits []*user
}

// New returns an index without users.
func New(o Options) *Index {
	opt.Default(&o.Timeout, 2*time.Second)
	opt.Default(&o.ListWait, time.Second)
	opt.Default(&o.Linger, 5*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	i := &Index{opt: o, users: map[uint32]*user{}, all: &mark{id: Everything}}
	i.marks = map[uint32]*mark{Everything: i.all}
	i.mends.due = map[uint32]time.Time{}
	for _, c := range []*chan struct{}{&i.wakes.write, &i.wakes.ask, &i.wakes.check,
		&i.wakes.mend} {
		*c = make(chan struct{}, 1)
	}
	i.slots.check, i.slots.mend = make(chan struct{}, maxChecks), make(chan struct{}, maxMending)
	i.metrics = newMetrics(o.Registerer, i)
	return i
}

// Connect sets the db_proxy.
func (i *Index) Connect(db DB) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.db = db
}

// Run serves until ctx ends.
func (i *Index) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){i.write, i.ask, i.check, i.mend} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

// wake makes the holder of a channel look at what there is to do.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it holds a token already
	}
}

// Come says that the store has the whereabouts of a user. It reports whether all groups of the user
// are marked. Otherwise it calls done, unless that is nil, when they are: without locks, and never
// if the user is gone before.
func (i *Index) Come(id uint32, done func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := i.users[id]
	if u == nil {
		u = &user{id: id}
		i.users[id] = u
	}
	if u.state == unknown {
		i.wantList(u, done != nil)
	}
	if u.login == nil && (done == nil && u.state == asked) {
		i.inAll(u) // nothing keeps the client from reading its history meanwhile
	}
	if u.login == nil && (u.state >= known || u.inAll) && (!u.inAll || i.all.written) {
		return true
	}
	if done == nil {
		return false
	}
	if u.login == nil {
		u.login = &login{since: i.opt.Now()}
		i.waiting = append(i.waiting, u)
		wake(i.wakes.ask) // which ticks more often while users wait
		if u.inAll {
			i.await(i.all, u)
		}
	}
	u.done = append(u.done, done)
	return false
}

// Gone says that a user is about to leave the store.
func (i *Index) Gone(id uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := i.users[id]
	if u == nil {
		return
	}
	delete(i.users, id)
	i.outOfAll(u)
	i.setGroups(u, nil)
	u.login = nil
}

// Change records that users have become members of a group, or that they have left it.
func (i *Index) Change(group uint32, added bool, users []uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, id := range users {
		if u := i.users[id]; u != nil && u.state == known && added {
			i.join(u, group)
		} else if u != nil && u.state == known {
			i.leave(u, group)
		}
	}
}

// Heard records that a message of a group has come from another message server. If no user here
// is known to be a member, the mark is perhaps one too many, or the membership is not known.
func (i *Index) Heard(group uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.marks[group] == nil && i.all.users == 0 && len(i.unused) < maxUnused {
		i.unuse(i.mark(group))
	}
}

// Rewrite makes all marks be written again, because the store has lost them, and the groups of all
// users be asked for again when they come. Until then this message server gets everything.
func (i *Index) Rewrite() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range i.marks {
		m.written, m.waits = false, nil
	}
	i.urgent, i.asks, i.retry = nil, nil, nil
	for _, id := range slices.Sorted(maps.Keys(i.users)) {
		u := i.users[id]
		u.state = unknown
		u.number++
		if u.login != nil {
			u.left = 0
		}
		i.inAll(u)
	}
	i.rewrite(i.all)
	for _, group := range slices.Sorted(maps.Keys(i.marks)) {
		i.rewrite(i.marks[group])
	}
}

// rewrite makes a mark be written again, unless it is about to be removed.
func (i *Index) rewrite(m *mark) {
	if m != i.all || m.users > 0 {
		m.gone = nil
		i.touch(m)
	}
}

// Pending reports whether marks wait to be written.
func (i *Index) Pending() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.dirty)+i.busy > 0
}

// mark returns a group.
func (i *Index) mark(group uint32) *mark {
	m := i.marks[group]
	if m == nil {
		m = &mark{id: group}
		i.marks[group] = m
	}
	return m
}

// touch makes a mark be written, or removed.
func (i *Index) touch(m *mark) {
	if !m.dirty {
		m.dirty = true
		i.dirty = append(i.dirty, m)
	}
	wake(i.wakes.write)
}

// use counts a user for a group, whose mark is written if it is not. A login of the user waits for
// that.
func (i *Index) use(m *mark, u *user) {
	m.users++
	m.gone = nil
	if !m.written {
		m.begun = m.begun || m.users == 1
		if !m.writing {
			i.touch(m)
		}
		i.await(m, u)
	}
}

// await makes a login wait until a mark is written.
func (i *Index) await(m *mark, u *user) {
	if u.login != nil {
		m.waits = append(m.waits, u)
		u.left++
	}
}

// disuse ends what use began.
func (i *Index) disuse(m *mark) {
	if m.users--; m.users == 0 {
		i.unuse(m)
	}
}

// unuse makes a mark be looked at later.
func (i *Index) unuse(m *mark) {
	m.since = i.opt.Now()
	if !m.queued && m != i.all {
		m.queued = true
		i.unused = append(i.unused, m)
	}
}

// inAll makes this message server get everything because of a user.
func (i *Index) inAll(u *user) {
	if u.inAll {
		if !i.all.written && u.login != nil && u.left == 0 {
			i.await(i.all, u)
		}
		return
	}
	u.inAll = true
	i.use(i.all, u)
}

// outOfAll ends what inAll began.
func (i *Index) outOfAll(u *user) {
	if u.inAll {
		u.inAll = false
		i.disuse(i.all)
	}
}
