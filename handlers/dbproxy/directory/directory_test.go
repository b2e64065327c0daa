package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// table is a store's table of departments. It counts its reads and can block them.
type table struct {
	mu      sync.Mutex
	rows    map[uint32]im.Depart
	all     int
	changes []uint32 // the time of each read of changes
	err     error
	hold    chan struct{} // each read receives one value
	asked   chan struct{} // and sends one before
	now     time.Time
}

func newTable() *table {
	return &table{rows: map[uint32]im.Depart{},
		now: time.Unix(2_000_000_000, 0)}
}

func (t *table) set(d im.Depart) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[d.ID] = d
}

func (t *table) delete(id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, id)
}

func (t *table) clock() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

func (t *table) pass(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = t.now.Add(d)
}

func (t *table) questions() (all, changes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all, len(t.changes)
}

func (t *table) read(since uint32, count func()) ([]im.Depart, error) {
	if t.hold != nil {
		t.asked <- struct{}{}
		<-t.hold
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	count()
	var rows []im.Depart
	for _, d := range t.rows {
		if d.Updated >= since {
			rows = append(rows, d)
		}
	}
	return rows, t.err
}

func (t *table) book() *Book[im.Depart] {
	b := NewDeparts(nil, t.clock, t.clock, NewMetrics(nil))
	b.all = func(context.Context) ([]im.Depart, error) { return t.read(0, func() { t.all++ }) }
	b.changed = func(_ context.Context, since uint32) ([]im.Depart, error) {
		return t.read(since, func() { t.changes = append(t.changes, since) })
	}
	return b
}

// answer returns the answer to user 7 as text: "newest: id id …".
func answer(t *testing.T, b *Book[im.Depart], since uint32) string {
	t.Helper()
	m, err := b.Reply(t.Context(), 7, since, []byte("way back"))
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := m.(*pb.Encoded); ok {
		if m, err = e.Decode(); err != nil {
			t.Fatal(err)
		}
	}
	rsp := m.(*pb.IMDepartmentRsp)
	if rsp.GetUserId() != 7 || string(rsp.GetAttachData()) != "way back" {
		t.Errorf("answer to %d with %q", rsp.GetUserId(), rsp.GetAttachData())
	}
	s := fmt.Sprint(rsp.GetLatestUpdateTime(), ":")
	for _, d := range rsp.GetDeptList() {
		s += fmt.Sprint(" ", d.GetDeptId())
	}
	return s
}

// TestBook checks the rows in the answers to different times.
func TestBook(t *testing.T) {
	tab := newTable()
	const gone = pb.DepartmentStatusType_DEPT_STATUS_DELETE
	for _, d := range []im.Depart{{ID: 4, Updated: 0}, {ID: 3, Updated: 1000},
		{ID: 1, Updated: 1000}, {ID: 2, Updated: 2000}, {ID: 9, Updated: 3000, Status: gone}} {
		tab.set(d)
	}
	b := tab.book()
	for _, test := range []struct {
		since uint32
		want  string
	}{
		{0, "3000: 1 2 3 4"}, {1, "3000: 1 2 3 9"}, {999, "3000: 1 2 3 9"},
		{1000, "3000: 2 9"}, {2000, "3000: 9"}, {3000, "3000:"},
		// A time of a client's own clock.
		{1001, "3000: 1 2 3 9"}, {1060, "3000: 2 9"}, {3059, "3000: 9"}, {3060, "3000:"},
		// Ahead counts as 0.
		{2_000_000_000, "3000:"}, {2_000_000_001, "3000: 1 2 3 4 9"}, {1<<32 - 1,
			"3000: 1 2 3 4 9"},
	} {
		if got := answer(t, b, test.since); got != test.want {
			t.Errorf("since %d: %s, want %s", test.since, got, test.want)
		}
	}
	if got := answer(t, newTable().book(), 0); got != "0:" {
		t.Errorf("empty book: %s", got)
	}
}

// TestBookFollows: an answer contains others' changes after a second, and changes through
// this server at once. The store is asked no more often than this requires.
func TestBookFollows(t *testing.T) {
	tab := newTable()
	tab.set(im.Depart{ID: 1, Updated: 1000})
	b := tab.book()
	expect := func(want string, all, changes int) {
		t.Helper()
		if got := answer(t, b, 0); got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
		if a, c := tab.questions(); a != all || c != changes {
			t.Errorf("asked for all %d times, for changes %d times, want %d and %d", a, c, all,
				changes)
		}
	}
	expect("1000: 1", 1, 0)
	tab.set(im.Depart{ID: 2, Updated: 1001})
	expect("1000: 1", 1, 0)
	tab.pass(time.Second)
	expect("1001: 1 2", 1, 1)
	expect("1001: 1 2", 1, 1)
	tab.set(im.Depart{ID: 3, Updated: 1001}) // the same second
	b.Touch()
	expect("1001: 1 2 3", 1, 2)
	pages := b.current.Load().pages
	tab.pass(time.Second)
	expect("1001: 1 2 3", 1, 3)
	if b.current.Load().pages != pages {
		t.Error("new pages although no row differs")
	}
	tab.set(im.Depart{ID: 4, Updated: 950}) // by a slow transaction, or a clock that is behind
	tab.set(im.Depart{ID: 1, Updated: 1002})
	tab.pass(time.Second)
	expect("1002: 1 2 3 4", 1, 4)
	tab.pass(quiet)
	expect("1002: 1 2 3 4", 1, 5)
	tab.set(im.Depart{ID: 5, Updated: 1003})
	tab.pass(time.Second)
	expect("1003: 1 2 3 4 5", 1, 6)
	if got := fmt.Sprint(tab.changes); got != "[940 941 941 941 1003 1003]" {
		t.Errorf("read changes since %s", got)
	}

	tab.delete(5) // by hand, in the database
	tab.pass(time.Second)
	expect("1002: 1 2 3 4", 2, 7)
	tab.set(im.Depart{ID: 6, Updated: 10})
	tab.pass(reloadEvery)
	expect("1002: 1 2 3 4 6", 3, 8)
}

// TestBookFails: when the store fails, the request fails, and an old answer is not
// returned. The next request works.
func TestBookFails(t *testing.T) {
	tab := newTable()
	tab.set(im.Depart{ID: 1, Updated: 1000})
	b := tab.book()
	tab.err = errors.New("away")
	if m, err := b.Reply(t.Context(), 1, 0, nil); err == nil {
		t.Errorf("answer without a store: %v", m)
	}
	tab.err = nil
	if got := answer(t, b, 0); got != "1000: 1" {
		t.Error(got)
	}
	tab.pass(time.Second)
	tab.err = errors.New("away")
	if m, err := b.Reply(t.Context(), 1, 0, nil); err == nil {
		t.Errorf("answer without a store: %v", m)
	}
	tab.err = nil
	if got := answer(t, b, 0); got != "1000: 1" {
		t.Error(got)
	}
}

// TestBookAsksOnce: of many requests at the same time one asks the store. A request whose
// context ends fails, and the others are answered.
func TestBookAsksOnce(t *testing.T) {
	tab := newTable()
	tab.set(im.Depart{ID: 1, Updated: 1000})
	tab.hold, tab.asked = make(chan struct{}), make(chan struct{}, 100)
	b := tab.book()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := answer(t, b, 0); got != "1000: 1" {
				t.Error(got)
			}
		})
	}
	<-tab.asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Reply(ctx, 1, 0, nil); im.KindOf(err) != im.Busy {
		t.Errorf("after the context ended: %v", err)
	}
	close(tab.hold)
	wg.Wait()
	if all, changes := tab.questions(); all != 1 || changes != 0 {
		t.Errorf("asked for all %d times, for changes %d times", all, changes)
	}
}

// TestBookSeesOwnWrites: a request after a change through this server waits for a read
// that began after the change, not for one in progress.
func TestBookSeesOwnWrites(t *testing.T) {
	tab := newTable()
	tab.set(im.Depart{ID: 1, Updated: 1000})
	b := tab.book()
	answer(t, b, 0)
	tab.pass(time.Second)
	// A read that begins before the change and ends after it, without the change.
	changed, began, goOn := b.changed, make(chan struct{}), make(chan struct{})
	var first sync.Once
	b.changed = func(ctx context.Context, since uint32) ([]im.Depart, error) {
		rows, err := changed(ctx, since)
		first.Do(func() {
			close(began)
			<-goOn
		})
		return rows, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { answer(t, b, 0) })
	<-began
	tab.set(im.Depart{ID: 2, Updated: 1001})
	b.Touch()
	wg.Go(func() { close(goOn) })
	if got := answer(t, b, 0); got != "1001: 1 2" {
		t.Errorf("after the change: %s", got)
	}
	wg.Wait()
}

// TestBookReloads: during a full read, other requests are answered from the current
// edition.
func TestBookReloads(t *testing.T) {
	tab := newTable()
	tab.set(im.Depart{ID: 1, Updated: 1000})
	b := tab.book()
	answer(t, b, 0)
	tab.pass(reloadEvery)
	all, reading, goOn := b.all, make(chan struct{}), make(chan struct{})
	b.all = func(ctx context.Context) ([]im.Depart, error) {
		close(reading)
		<-goOn
		return all(ctx)
	}
	var wg sync.WaitGroup
	wg.Go(func() { answer(t, b, 0) })
	<-reading
	if got := answer(t, b, 0); got != "1000: 1" {
		t.Error(got)
	}
	close(goOn)
	wg.Wait()
	if n, _ := tab.questions(); n != 2 {
		t.Errorf("everything read %d times", n)
	}
}

// TestBookSharesBytes: a large answer is encoded once for all clients that ask with the
// same time.
func TestBookSharesBytes(t *testing.T) {
	tab := newTable()
	for i := range uint32(maxTyped + 1) {
		tab.set(im.Depart{ID: i + 1, Updated: 1000 + i})
	}
	b := tab.book()
	encoded := func(user, since uint32) *pb.Encoded {
		t.Helper()
		m, err := b.Reply(t.Context(), user, since, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := m.(*pb.Encoded)
		if !ok {
			t.Fatalf("answer of %d rows is not bytes", maxTyped+1)
		}
		return e
	}
	for _, since := range []uint32{0, 500, 1<<32 - 1} {
		a := encoded(1, since)
		if c := encoded(2, since); &a.Shared()[0] != &c.Shared()[0] {
			t.Errorf("since %d: two answers are encoded twice", since)
		}
		m, err := a.Decode()
		if err != nil {
			t.Fatal(err)
		}
		rsp := m.(*pb.IMDepartmentRsp)
		if rsp.GetUserId() != 1 || !rsp.HasAttachData() ||
			len(rsp.GetDeptList()) != maxTyped+1 ||
			!slices.IsSortedFunc(rsp.GetDeptList(),
				func(x, y *pb.DepartInfo) int { return int(x.GetDeptId()) - int(y.GetDeptId()) }) {
			t.Errorf("since %d: %v", since, rsp)
		}
	}
	before := encoded(1, 0)
	tab.set(im.Depart{ID: 1, Updated: 2000, Name: "x"})
	tab.pass(time.Second)
	if after := encoded(1, 0); &before.Shared()[0] == &after.Shared()[0] ||
		len(after.Shared()) != len(before.Shared())+1 {
		t.Error("a change is not in the bytes")
	}
}

// BenchmarkDirectory measures a first sync in a company of 20,000 users: the first
// request, each later one, and one whose answer must be encoded again.
func BenchmarkDirectory(b *testing.B) {
	users := make([]im.User, 20_000)
	for i := range users {
		name := fmt.Sprintf("user%05d", i)
		users[i] = im.User{ID: uint32(i + 1), Name: name, Domain: name, Nick: name,
			Phone: "13800000000", Email: name + "@example.com",
			Avatar: "http://files.example.com/g0/000/001/" + name + ".jpg", DepartID: 1, Updated: 1_700_000_000}
	}
	m := NewMetrics(nil)
	book := NewUsers(nil, time.Now, time.Now, m)
	book.all = func(context.Context) ([]im.User, error) { return slices.Clone(users), nil }
	book.changed = func(context.Context, uint32) ([]im.User, error) { return users, nil }
	ask := func(b *testing.B) {
		if _, err := book.Reply(b.Context(), 1, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			book.current.Store(nil)
			ask(b)
		}
	})
	b.Run("look", func(b *testing.B) { // no row has changed, but all have the newest time
		for b.Loop() {
			book.Touch()
			ask(b)
		}
	})
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			ask(b)
		}
		e, err := book.current.Load().first.do()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(e.Shared())), "bytes/answer")
	})
	b.Run("typed", func(b *testing.B) { // for comparison: without the shared encoding
		e := book.current.Load()
		q := book.ask(e, 0, time.Now())
		rows := book.find(e.pages, q)
		for b.Loop() {
			if _, err := proto.Marshal(book.answer(1, rows, q.told).(proto.Message)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
