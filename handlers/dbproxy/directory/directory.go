// Package directory caches the lists of users and departments, and answers requests for
// the rows that changed.
//
// Every client requests the directory at every login, and it changes a few times a day.
// So it is cached in memory, and the store is asked for changed rows, at most once a
// second and only when a request needs it. An answer is at most a second old, and never
// older than the last change made through this server. Requests that arrive during a read
// wait for its result, on a worker, but without a database connection. Answering them
// from the old cache at once would be worse: a client asks once, at its login, and would
// use the old answer all day.
package directory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/settle"
	"teamtalk/proto/pb"
)

const (
	// maxAge is the largest age of an answer.
	maxAge = time.Second
	// readShare delays the next read in proportion to the duration of the last one, so
	// that the directory takes at most a tenth of one connection.
	readShare = 10
	// reloadEvery is the interval of full reads: they notice deleted rows, and rows from
	// clocks that differ by more than a minute.
	reloadEvery = 10 * time.Minute
	// pageSize is the number of users in one query of a full read.
	pageSize = 5000

	// A row becomes visible when its transaction commits, but its time of change is when
	// the transaction began, by the clock of its writer. So a read starts a minute
	// (slack, in seconds) before the newest known change, until that change is two
	// minutes old (quiet): all earlier rows are visible then.
	slack = 60
	quiet = 2 * time.Minute

	// ownClock is the largest difference that is allowed for a client's own clock, in
	// seconds. Android sends the time of its own clock at the last answer, not the time
	// in the answer. A time from an answer is that of a row. When since is not the time
	// of a row, rows from this many seconds before it are sent once more.
	ownClock = 60

	// An answer of more rows than maxTyped is encoded once for all clients with the same
	// question. The answer of a first sync is cached, and the last keptAnswers of the
	// others.
	maxTyped    = 50
	keptAnswers = 4
)

// Book is one list of the directory. Any goroutine may use it.
type Book[T comparable] struct {
	name    string
	all     func(ctx context.Context) ([]T, error) // every row once, including deleted ones
	changed func(ctx context.Context, since uint32) ([]T, error)
	key     func(row *T) bookKey
	// answer makes an answer without attach_data
	answer  func(user uint32, rows []T, newest uint32) pb.Attachment
	metrics *Metrics
	clock   func() time.Time // of this process, for durations
	time    func() time.Time // the store's, to compare with times of change

	current   atomic.Pointer[edition[T]]
	writes    atomic.Uint64 // changes made through this server
	turn      chan struct{} // holds one element while the store is asked for changes
	reloading atomic.Bool
}

// bookKey holds the parts of a row that a Book uses.
type bookKey struct {
	id, updated uint32
	gone        bool // left out of a first sync
}

// edition is one state of a book. It is immutable.
type edition[T comparable] struct {
	*pages[T]
	asked  time.Time     // when the read began
	at     time.Time     // the store's time before it
	loaded time.Time     // when the last full read began
	moved  time.Time     // when newest last increased
	age    time.Duration // largest age at which it is used
	writes uint64        // Book.writes before the read
}

// pages holds the rows of an edition. Later editions share it until a row changes.
type pages[T comparable] struct {
	rows   []T            // by time of change, then id
	byID   map[uint32]int // index into rows
	newest uint32         // latest time of change

	mu      sync.Mutex // held for one lookup
	first   encoding   // the answer of a first sync
	answers *simplelru.LRU[question, encoding]
}

// question holds all that an answer depends on, except the user.
type question struct {
	from int    // index of the first row to send
	told uint32 // the time in the answer
	gone bool   // deleted rows are sent too
}

// encoding is an answer for any user. The first call of do encodes it.
type encoding struct {
	question
	do func() (*pb.Encoded, error)
}

// Touch records that a row was changed through this server, so that the next answer
// contains the change.
func (b *Book[T]) Touch() { b.writes.Add(1) }

// latest returns an edition that is fresh.
func (b *Book[T]) latest(ctx context.Context) (*edition[T], error) {
	if e := b.current.Load(); b.fresh(e) {
		return e, nil
	}
	e, err := b.renew(ctx)
	if err != nil || b.clock().Sub(e.loaded) < reloadEvery || b.reloading.Swap(true) {
		return e, err
	}
	defer b.reloading.Store(false)
	// This request performs the full read. The others continue with the current edition.
	return b.load(ctx)
}

func (b *Book[T]) fresh(e *edition[T]) bool {
	return e != nil && e.writes == b.writes.Load() && b.clock().Sub(e.asked) < e.age
}

// renew brings the book up to date, or waits until another caller has done so.
func (b *Book[T]) renew(ctx context.Context) (*edition[T], error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, im.WithKind(im.Busy, "waited for the list of "+b.name, ctx.Err())
	}
	e := b.current.Load()
	switch {
	case b.fresh(e):
		return e, nil
	case e == nil:
		return b.load(ctx)
	}
	began, at, writes := b.clock(), b.time(), b.writes.Load()
	since := e.since(began)
	rows, err := b.changed(ctx, since)
	if err != nil {
		return nil, err
	}
	b.metrics.reads.WithLabelValues(b.name, "changes").Inc()
	p, ok := b.merge(e.pages, rows, since)
	if !ok {
		return b.load(ctx)
	}
	next := &edition[T]{pages: p, asked: began, at: at, loaded: e.loaded, moved: e.moved,
		writes: writes}
	if p.newest != e.newest {
		next.moved = began
	}
	return b.publish(next), nil
}

// since returns the time from which changes may be missing at now.
func (e *edition[T]) since(now time.Time) uint32 {
	if now.Sub(e.moved) >= quiet {
		return e.newest + 1
	}
	// The time is never 0, which would leave out deleted rows.
	return max(e.newest, slack+1) - slack
}

// load reads all rows.
func (b *Book[T]) load(ctx context.Context) (*edition[T], error) {
	began, at, writes := b.clock(), b.time(), b.writes.Load()
	rows, err := b.all(ctx)
	if err != nil {
		return nil, err
	}
	b.metrics.reads.WithLabelValues(b.name, "all").Inc()
	return b.publish(&edition[T]{pages: b.paginate(rows), asked: began, at: at, loaded: began,
		moved: b.clock(), writes: writes}), nil
}

// publish makes e the current edition.
func (b *Book[T]) publish(e *edition[T]) *edition[T] {
	e.age = max(maxAge, readShare*b.clock().Sub(e.asked))
	b.metrics.rows.WithLabelValues(b.name).Set(float64(len(e.rows)))
	b.current.Store(e)
	return e
}

// paginate returns pages of rows, which it takes over.
func (b *Book[T]) paginate(rows []T) *pages[T] {
	slices.SortFunc(rows, func(x, y T) int {
		kx, ky := b.key(&x), b.key(&y)
		return cmp.Or(cmp.Compare(kx.updated, ky.updated), cmp.Compare(kx.id, ky.id))
	})
	p := &pages[T]{rows: rows, byID: make(map[uint32]int, len(rows))}
	for i := range rows {
		k := b.key(&rows[i])
		p.byID[k.id], p.newest = i, k.updated
	}
	// The only error is a size that is not positive.
	p.answers, _ = simplelru.NewLRU[question, encoding](keptAnswers, nil)
	return p
}

// merge adds the rows changed since a time to the known ones. It returns old itself when
// no row differs. It returns false when a known row, changed since that time, is missing:
// rows were deleted.
func (b *Book[T]) merge(old *pages[T], rows []T, since uint32) (*pages[T], bool) {
	news := make(map[uint32]bool, len(rows)) // whether the row differs from the known one
	same := 0
	for i := range rows {
		id := b.key(&rows[i]).id
		at, known := old.byID[id]
		news[id] = !known || old.rows[at] != rows[i]
		if !news[id] {
			same++
		}
	}
	for _, row := range old.rows[b.from(old, since):] {
		if _, ok := news[b.key(&row).id]; !ok {
			return nil, false
		}
	}
	if same == len(rows) {
		return old, true
	}
	kept := slices.DeleteFunc(slices.Clone(old.rows),
		func(row T) bool { return news[b.key(&row).id] })
	for i := range rows {
		if news[b.key(&rows[i]).id] {
			kept = append(kept, rows[i])
		}
	}
	return b.paginate(kept), true
}

// from returns the index of the first row changed at or after since.
func (b *Book[T]) from(p *pages[T], since uint32) int {
	at, _ := slices.BinarySearchFunc(p.rows, since,
		func(row T, t uint32) int { return cmp.Compare(b.key(&row).updated, t) })
	return at
}

// ask returns the question of a client that sends since at now, for edition e.
func (b *Book[T]) ask(e *edition[T], since uint32, now time.Time) question {
	q := question{told: b.told(e), gone: since != 0}
	if since == 0 || settle.Ahead(since, now) {
		return q
	}
	after := min(since, settle.At(e.at, settle.Directory))
	if at := b.from(e.pages, since); at == len(e.rows) || b.key(&e.rows[at]).updated != since {
		after = min(after, max(since, ownClock)-ownClock)
	}
	q.from = b.from(e.pages, after+1)
	return q
}

// told returns the time in an answer from e: that of the newest row that has settled.
func (b *Book[T]) told(e *edition[T]) uint32 {
	if len(e.rows) == 0 {
		return 0
	}
	settled := settle.At(e.at, settle.Directory)
	if at := b.from(e.pages, settled+1); at > 0 && b.key(&e.rows[at-1]).updated > 0 {
		return b.key(&e.rows[at-1]).updated
	}
	return settled // no row up to this time has a time of change
}

// find returns the rows that answer q, in ascending order of id.
func (b *Book[T]) find(p *pages[T], q question) []T {
	rows := slices.Clone(p.rows[q.from:])
	if !q.gone {
		rows = slices.DeleteFunc(rows, func(row T) bool { return b.key(&row).gone })
	}
	slices.SortFunc(rows, func(x, y T) int { return cmp.Compare(b.key(&x).id, b.key(&y).id) })
	return rows
}

// Reply returns user's answer with the rows changed since.
func (b *Book[T]) Reply(ctx context.Context, user, since uint32, attach []byte) (pb.Message,
	error) {
	e, err := b.latest(ctx)
	if err != nil {
		return nil, err
	}
	q := b.ask(e, since, b.time())
	var rsp pb.Attachment
	if len(e.rows)-q.from <= maxTyped {
		rsp = b.answer(user, b.find(e.pages, q), q.told)
	} else {
		encoded, err := b.encoded(e.pages, q)
		if err != nil {
			return nil, err
		}
		rsp = encoded.ForUser(user)
	}
	rsp.SetAttachData(attach)
	return rsp, nil
}

// encoded returns the answer to q for any user. The first caller encodes it while others
// with the same question wait, because that is faster than encoding it twice.
func (b *Book[T]) encoded(p *pages[T], q question) (*pb.Encoded, error) {
	p.mu.Lock()
	var known encoding
	ok := false
	if q.gone {
		known, ok = p.answers.Get(q)
	} else {
		known, ok = p.first, p.first.question == q && p.first.do != nil
	}
	if !ok {
		known = encoding{q, sync.OnceValues(func() (*pb.Encoded, error) {
			return pb.Encode(b.answer(0, b.find(p, q), q.told))
		})}
		if q.gone {
			p.answers.Add(q, known)
		} else {
			p.first = known
		}
	}
	p.mu.Unlock()
	return known.do()
}

// NewUsers returns the book of users. clock is the time of this process, storeTime that of
// the store.
func NewUsers(store im.UserStore, clock, storeTime func() time.Time,
	m *Metrics) *Book[im.User] {
	return &Book[im.User]{
		name: "users", clock: clock, time: storeTime, metrics: m,
		turn: make(chan struct{}, 1),
		all: func(ctx context.Context) (all []im.User, err error) {
			for page := []im.User(nil); err == nil; all = append(all, page...) {
				after := uint32(0)
				if len(all) > 0 {
					after = all[len(all)-1].ID
				}
				if page, err = store.ListUsers(ctx, after, pageSize); len(page) == 0 {
					break
				}
			}
			return all, err
		},
		changed: func(ctx context.Context, since uint32) ([]im.User, error) {
			users, _, err := store.UsersChangedSince(ctx, since)
			return users, err
		},
		key: func(u *im.User) bookKey {
			return bookKey{id: u.ID, updated: u.Updated, gone: u.Status == im.StatusDeparted}
		},
		answer: func(user uint32, users []im.User, newest uint32) pb.Attachment {
			return pb.IMAllUserRsp_builder{UserId: proto.Uint32(user),
				LatestUpdateTime: proto.Uint32(newest), UserList: UserInfos(users)}.Build()
		},
	}
}

// NewDeparts returns the book of departments.
func NewDeparts(store im.DepartStore, clock, storeTime func() time.Time,
	m *Metrics) *Book[im.Depart] {
	return &Book[im.Depart]{
		name: "departments", clock: clock, time: storeTime, metrics: m,
		turn: make(chan struct{}, 1),
		all: func(ctx context.Context) ([]im.Depart, error) {
			// The rows include those without a time, and not deleted ones.
			there, _, err := store.DepartsChangedSince(ctx, 0)
			if err != nil {
				return nil, err
			}
			all, _, err := store.DepartsChangedSince(ctx, 1)
			have := make(map[uint32]bool, len(all))
			for i := range all {
				have[all[i].ID] = true
			}
			return append(all, slices.DeleteFunc(there,
				func(d im.Depart) bool { return have[d.ID] })...), err
		},
		changed: func(ctx context.Context, since uint32) ([]im.Depart, error) {
			departs, _, err := store.DepartsChangedSince(ctx, since)
			return departs, err
		},
		key: func(d *im.Depart) bookKey {
			return bookKey{id: d.ID, updated: d.Updated,
				gone: d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE}
		},
		answer: func(user uint32, departs []im.Depart, newest uint32) pb.Attachment {
			list := make([]*pb.DepartInfo, len(departs))
			for i := range departs {
				list[i] = departInfo(&departs[i])
			}
			return pb.IMDepartmentRsp_builder{UserId: proto.Uint32(user),
				LatestUpdateTime: proto.Uint32(newest), DeptList: list}.Build()
		},
	}
}
