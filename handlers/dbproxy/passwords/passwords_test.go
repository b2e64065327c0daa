package passwords

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/kdf"
)

// cheap has costs that a test can afford.
var cheap = im.PasswordPolicy{KDF: kdf.Params{Memory: 64, Passes: 1, Lanes: 1}}

// desk is a Checker whose derivations a test counts and stops.
type desk struct {
	*Checker
	t        *testing.T
	derived  atomic.Int32
	replaced chan im.StoredPassword
	gate     chan struct{} // a derivation takes a token; nil: none needed
	began    chan struct{} // gets one when a derivation waits for its token

	mu     sync.Mutex
	now    time.Time
	refuse func() (bool, error) // result of ReplacePassword; nil: it replaces
}

func (d *desk) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func (d *desk) ReplacePassword(_ context.Context, _ uint32, _,
	now im.StoredPassword) (bool, error) {
	d.mu.Lock()
	refuse := d.refuse
	d.mu.Unlock()
	if refuse != nil {
		ok, err := refuse()
		d.replaced <- im.StoredPassword{}
		return ok, err
	}
	d.replaced <- now
	return true, nil
}

// newDesk returns a desk. Its options have a wait of 50 derivations, and one worker.
func newDesk(t *testing.T, policy im.PasswordPolicy, gated bool) *desk {
	d := &desk{t: t, now: time.Now(), replaced: make(chan im.StoredPassword, 100)}
	if gated {
		d.gate, d.began = make(chan struct{}), make(chan struct{}, 1000)
	}
	stopped := make(chan struct{})
	t.Cleanup(func() { close(stopped) })
	d.Checker = New(Options{Settings: Settings{Policy: policy, Workers: 1,
		Remember: time.Hour}, Wait: 50 * firstMean, Store: d, Timeout: time.Minute,
		StoreNow: d.Now, Now: d.Now, Stopped: stopped, Log: slog.New(slog.DiscardHandler)})
	d.derive = func(f kdf.Form, sent string) bool {
		d.derived.Add(1)
		if d.gate != nil {
			d.began <- struct{}{}
			<-d.gate
		}
		return f.Matches(sent)
	}
	return d
}

// account returns the account of a user whose password is "right".
func account(id uint32, policy im.PasswordPolicy) *im.Account {
	p := policy.Store("right")
	return &im.Account{User: im.User{ID: id, Name: fmt.Sprint("user", id)}, Password: p.Hash,
		Salt: p.Salt}
}

// check looks a password up, and has it derived if that is needed.
func (d *desk) check(a *im.Account, sent string) Verdict {
	d.t.Helper()
	l := &Login{Account: a, Name: a.Name, Sent: sent}
	v := d.Look(l, Answer{})
	if v != Pending {
		return v
	}
	answers := make(chan Answer, 1)
	if err := d.Ask(l, func(a Answer, err error) {
		if err != nil {
			d.t.Error(err)
		}
		answers <- a
	}); err != nil {
		d.t.Fatal(err)
	}
	return d.Look(l, <-answers)
}

// TestVerdicts checks right and wrong passwords of all kinds of rows twice. The second time
// they are remembered.
func TestVerdicts(t *testing.T) {
	departed := account(3, cheap)
	departed.Status = im.StatusDeparted
	weakDeparted := account(4, im.PasswordPolicy{})
	weakDeparted.Status = im.StatusDeparted
	broken := &im.Account{User: im.User{ID: 5}, Password: "$argon2id$v=19$m=64"}
	for name, c := range map[string]struct {
		a     *im.Account
		sent  string
		want  Verdict
		costs int32 // derivations
	}{
		"argon2id, right":         {account(1, cheap), "right", Right, 1},
		"argon2id, wrong":         {account(1, cheap), "wrong", Wrong, 1},
		"md5, right":              {account(2, im.PasswordPolicy{}), "right", Right, 0},
		"md5, wrong":              {account(2, im.PasswordPolicy{}), "wrong", Wrong, 1},
		"no user":                 {&im.Account{}, "right", Wrong, 1},
		"departed, right":         {departed, "right", Right, 1},
		"departed with md5":       {weakDeparted, "right", Right, 1},
		"departed with md5 wrong": {weakDeparted, "wrong", Wrong, 1},
		"damaged row":             {broken, "right", Wrong, 1},
	} {
		d := newDesk(t, cheap, false)
		for round := range 2 {
			if got := d.check(c.a, c.sent); got != c.want {
				t.Errorf("%s, round %d: verdict %d, want %d", name, round, got, c.want)
			}
			if got := d.derived.Load(); got != c.costs {
				t.Errorf("%s, round %d: %d derivations, want %d", name, round, got, c.costs)
			}
		}
	}
}

// TestMD5NeedsNoDerivation: with the setting md5 nothing is derived, until a row in another
// form is seen. From then on all wrong passwords take the same time.
func TestMD5NeedsNoDerivation(t *testing.T) {
	d := newDesk(t, im.PasswordPolicy{}, false)
	weak := account(1, im.PasswordPolicy{})
	for sent, want := range map[string]Verdict{"right": Right, "wrong": Wrong} {
		if got := d.check(weak, sent); got != want || d.check(&im.Account{}, sent) != Wrong {
			t.Errorf("%s: verdict %d, want %d", sent, got, want)
		}
	}
	if n := d.derived.Load(); n != 0 {
		t.Errorf("%d derivations", n)
	}
	if d.check(account(2, cheap), "right") != Right || d.check(&im.Account{}, "other") != Wrong ||
		d.check(weak, "other") != Wrong || d.derived.Load() != 3 {
		t.Errorf("%d derivations after a row in another form, want 3", d.derived.Load())
	}
	d.Passed(weak, "right")
	if len(d.moves.waiting) > 0 {
		t.Error("a row is moved")
	}
}

// TestChangedRowIsDerivedAgain: what was found of a row does not hold for the next one.
func TestChangedRowIsDerivedAgain(t *testing.T) {
	d := newDesk(t, cheap, false)
	a := account(1, cheap)
	if d.check(a, "right") != Right {
		t.Fatal("wrong")
	}
	p := cheap.Store("changed")
	changed := &im.Account{User: a.User, Password: p.Hash}
	l := &Login{Account: changed, Name: a.Name, Sent: "right"}
	if v := d.Look(l, Answer{key: d.keyOf(&Login{Account: a, Sent: "right"}, a.Stored()),
		right: true}); v != Pending {
		t.Errorf("the old password with the new row: verdict %d", v)
	}
	if d.check(changed, "right") != Wrong || d.check(changed, "changed") != Right {
		t.Error("the new password does not count")
	}
	// Another user with the same row, which a copy of the table makes.
	other := &im.Account{User: im.User{ID: 2}, Password: a.Password}
	if v := d.Look(&Login{Account: other, Sent: "right"}, Answer{}); v != Pending {
		t.Errorf("another user: verdict %d", v)
	}
}

// TestRemembering: a right password is remembered for the time of the setting after its last
// use, and nothing with the setting 0.
func TestRemembering(t *testing.T) {
	d := newDesk(t, cheap, false)
	a := account(1, cheap)
	for range 10 { // used all the time
		if d.check(a, "right") != Right {
			t.Fatal("wrong")
		}
		d.pass(25 * time.Minute)
	}
	if n := d.derived.Load(); n != 1 {
		t.Errorf("%d derivations while it is used", n)
	}
	d.pass(time.Hour)
	if d.check(a, "right") != Right || d.derived.Load() != 2 {
		t.Errorf("%d derivations after an hour", d.derived.Load())
	}
	d.right.life = 0
	for range 2 {
		if d.check(a, "right") != Right {
			t.Error("wrong with nothing remembered")
		}
	}
	if d.derived.Load() != 4 {
		t.Errorf("%d derivations with nothing remembered", d.derived.Load())
	}
}

// TestMemoryIsBounded adds more keys than fit. The latest half stays.
func TestMemoryIsBounded(t *testing.T) {
	now := time.Now()
	m := newMemory(100, time.Hour, func() time.Time { return now })
	key := func(i int) Key { return Key{byte(i), byte(i >> 8)} }
	for i := range 1000 {
		m.add(key(i))
		if n := len(m.young) + len(m.old); n > 100 {
			t.Fatalf("%d keys", n)
		}
	}
	for i := 950; i < 1000; i++ {
		if !m.has(key(i)) {
			t.Errorf("key %d is gone", i)
		}
	}
	if m.has(key(800)) {
		t.Error("an old key stays")
	}
}

// enqueue asks for a derivation whose result goes to a channel.
func (d *desk) enqueue(id uint32, network string, known bool) (chan error, error) {
	done := make(chan error, 1)
	err := d.Ask(&Login{Account: &im.Account{User: im.User{ID: id}}, Sent: "x",
		Network: network, Known: known}, func(_ Answer, err error) { done <- err })
	return done, err
}

// TestBusy: a login that would wait for too long is refused at once, and one that has waited
// for too long is refused without a derivation.
func TestBusy(t *testing.T) {
	d := newDesk(t, cheap, true)
	running, err := d.enqueue(0, "", true)
	if err != nil {
		t.Fatal(err)
	}
	<-d.began
	var waiting []chan error
	for i := uint32(1); ; i++ {
		done, err := d.enqueue(i, fmt.Sprint("network", i), true)
		if im.KindOf(err) == im.Busy && len(waiting) == 51 {
			break
		}
		if err != nil || i > 100 {
			t.Fatalf("login %d: %v", i, err)
		}
		waiting = append(waiting, done)
	}
	if n := d.waiting(); n != 51 {
		t.Errorf("%d wait", n)
	}
	d.pass(time.Hour)
	d.gate <- struct{}{}
	if err := <-running; err != nil {
		t.Error(err)
	}
	for i, done := range waiting {
		if err := <-done; im.KindOf(err) != im.Busy {
			t.Errorf("login %d, which waited for an hour: %v", i, err)
		}
	}
	if n := d.derived.Load(); n != 1 {
		t.Errorf("%d derivations", n)
	}
}

// TestTurns: a flood of strangers leaves three of four turns to logins from known networks.
func TestTurns(t *testing.T) {
	d := newDesk(t, cheap, true)
	d.opt.Wait = time.Hour
	if _, err := d.enqueue(0, "", false); err != nil {
		t.Fatal(err)
	}
	<-d.began
	order := make(chan string, 1000)
	ask := func(id int, known bool, name string) {
		err := d.Ask(&Login{Account: &im.Account{User: im.User{ID: uint32(id)}}, Sent: "x",
			Network: "bad", Known: known}, func(Answer, error) { order <- name })
		if err != nil {
			t.Fatal(err)
		}
	}
	const flood = 128
	for i := range flood {
		ask(i+1, false, "stranger")
	}
	for i := range 30 {
		ask(flood+i+1, true, "known")
	}
	counts := map[string]int{}
	for i := range 40 {
		d.gate <- struct{}{}
		if i > 0 { // the first one is the login that ran already
			counts[<-order]++
		}
	}
	if counts["known"] < 28 || counts["stranger"] < 9 {
		t.Errorf("of 39 turns: %v", counts)
	}
	close(d.gate)
	for range flood + 30 - 39 {
		counts[<-order]++
	}
	if counts["known"] != 30 || counts["stranger"] != flood {
		t.Errorf("in the end: %v", counts)
	}
}

// TestMove moves rows to argon2id, and to higher costs, after logins.
func TestMove(t *testing.T) {
	higher := im.PasswordPolicy{KDF: kdf.Params{Memory: 128, Passes: 1, Lanes: 1}}
	d := newDesk(t, higher, false)
	for id, policy := range map[uint32]im.PasswordPolicy{1: {}, 2: cheap} {
		a := account(id, policy)
		d.Passed(a, "right")
		<-d.replaced
		d.move(move{a.ID, a.Stored(), "right"})
		row := <-d.replaced
		form, err := kdf.Parse(row.Hash)
		if err != nil || form.Params != higher.KDF || !row.Check("right") ||
			(row.Salt == im.SaltMoved) != (id == 1) {
			t.Errorf("user %d: %+v, %v", id, row, err)
		}
		moved := &im.Account{User: a.User, Password: row.Hash, Salt: row.Salt}
		if d.Look(&Login{Account: moved, Sent: "right"}, Answer{}) != Right {
			t.Errorf("user %d: the password is not remembered with the new row", id)
		}
	}
	d.Passed(account(3, higher), "right")
	fresh := account(4, im.PasswordPolicy{})
	fresh.Updated = uint32(d.Now().Add(-moveAge + time.Second).Unix())
	d.Passed(fresh, "right")
	fresh.Updated = uint32(d.Now().Add(time.Hour).Unix())
	d.Passed(fresh, "right")
	d.moves.mu.Lock()
	defer d.moves.mu.Unlock()
	if d.moves.queued[3] || d.moves.queued[4] {
		t.Error("a row that has the form, or has just changed, is moved")
	}
}

// TestMoveFails: a row that could not be moved is moved at a later login.
func TestMoveFails(t *testing.T) {
	d := newDesk(t, cheap, false)
	a := account(1, im.PasswordPolicy{})
	for _, refuse := range []func() (bool, error){
		func() (bool, error) { return false, errors.New("away") },
		func() (bool, error) { return false, nil },
		nil,
	} {
		d.mu.Lock()
		d.refuse = refuse
		d.mu.Unlock()
		d.moves.queued[a.ID] = true
		d.move(move{a.ID, a.Stored(), "right"})
		if row := <-d.replaced; (row.Hash != "") != (refuse == nil) || d.moves.queued[a.ID] {
			t.Errorf("row %+v, the user waits: %v", row, d.moves.queued[a.ID])
		}
	}
	d.Passed(a, "right")
	<-d.replaced
}

// TestMovesAreBounded: one row at a time is moved, a user waits once, and the rows above the
// limit are moved at a later login.
func TestMovesAreBounded(t *testing.T) {
	d := newDesk(t, cheap, false)
	release := make(chan struct{})
	began := make(chan struct{}, 1)
	d.refuse = func() (bool, error) { began <- struct{}{}; <-release; return false, nil }
	a := account(1, im.PasswordPolicy{})
	d.Passed(a, "right")
	<-began
	for id := range uint32(maxMoves + 10) {
		copied := *a
		copied.ID = id + 1
		d.Passed(&copied, "right")
		d.Passed(&copied, "right")
	}
	d.moves.mu.Lock()
	if n := len(d.moves.waiting); n != maxMoves {
		t.Errorf("%d rows wait", n)
	}
	d.moves.waiting = nil
	d.moves.mu.Unlock()
	close(release)
	<-d.replaced
}
