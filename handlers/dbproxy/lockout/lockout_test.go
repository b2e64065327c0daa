package lockout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/im"
)

// desk checks logins against limits. right is the password of every user.
type desk struct {
	*testing.T
	*Guard
	store  *faulty
	now    time.Time
	failed int
}

const right = "right"

// faulty is a Memory that may fail.
type faulty struct {
	*Memory
	reads, writes error
	calls         int
}

func (f *faulty) LoginMarks(ctx context.Context, keys []im.LoginMarkKey) ([][]im.LoginMark, error) {
	if f.calls++; f.reads != nil {
		return nil, f.reads
	}
	return f.Memory.LoginMarks(ctx, keys)
}

func (f *faulty) ChangeLoginMarks(ctx context.Context, drops []im.LoginMarkDrop,
	puts []im.NewLoginMark) error {
	if f.writes != nil {
		return f.writes
	}
	return f.Memory.ChangeLoginMarks(ctx, drops, puts)
}

var limits = Limits{Attempts: 3, Window: 30 * time.Minute, NetworkAttempts: 6, NameAttempts: 8,
	NameWindow: 24 * time.Hour, Known: 90 * 24 * time.Hour}

func newDesk(t *testing.T, l Limits) *desk {
	d := &desk{T: t, store: &faulty{Memory: NewMemory()}, now: time.Unix(1_800_000_000, 0)}
	clock := func() time.Time { return d.now }
	d.Guard = New(Options{Limits: l, Store: d.store, Timeout: time.Hour,
		StoreNow: clock, Now: clock,
		Log: slog.New(slog.DiscardHandler), Failed: func() { d.failed++ }})
	return d
}

// tries checks logins in one round. It returns for each why it was locked, "ok" or "wrong".
func (d *desk) tries(attempts ...Attempt) []string {
	d.Helper()
	r, err := d.Begin(d.Context(), attempts)
	if err != nil {
		d.Fatal(err)
	}
	results := make([]string, len(attempts))
	for i, a := range attempts {
		switch reason := r.Locked(i); {
		case reason != Open:
			results[i] = string(reason)
		case a.User != 0 && a.Password == right:
			r.Passed(i)
			results[i] = "ok"
		default:
			r.Failed(i)
			results[i] = "wrong"
		}
	}
	r.End(d.Context())
	return results
}

// want checks one login.
func (d *desk) want(want string, a Attempt) {
	d.Helper()
	if got := d.tries(a)[0]; got != want {
		d.Errorf("%s from %v with %q: %s, want %s", a.Name, a.Addr, a.Password, got, want)
	}
}

// login is a login as the user of that number, or as a name without one (0).
func login(user uint32, addr, password string) Attempt {
	a := Attempt{Name: fmt.Sprint("user ", user), User: user, Password: password}
	if addr != "" {
		a.Addr = netip.MustParseAddr(addr)
	}
	return a
}

func TestNameIsLockedForANetwork(t *testing.T) {
	d := newDesk(t, limits)
	for range 5 {
		d.want("wrong", login(1, "203.0.113.7", "a"))
		d.want("wrong", login(1, "203.0.113.8", "b"))
	}
	d.want("ok", login(1, "203.0.113.9", right)) // which forgets them
	for _, p := range []string{"a", "b", "c"} {
		d.want("wrong", login(1, "203.0.113.7", p))
		d.now = d.now.Add(time.Minute)
	}
	d.want("locked", login(1, "203.0.113.200", right)) // although it is known
	d.want("ok", login(1, "203.0.112.7", right))
	d.want("ok", login(1, "", right))
	d.want("ok", login(1, "2001:db8::1", right))
	d.now = d.now.Add(27*time.Minute - time.Second)
	d.want("locked", login(1, "203.0.113.7", right))
	d.now = d.now.Add(time.Second)
	d.want("ok", login(1, "203.0.113.7", right))
}

func TestNamesInOneRoundCount(t *testing.T) {
	d := newDesk(t, limits)
	var all []Attempt
	for i := range 6 {
		all = append(all, login(1, "203.0.113.7", fmt.Sprint(i)))
	}
	if got := fmt.Sprint(d.tries(all...)); got != "[wrong wrong wrong locked locked locked]" {
		t.Error(got)
	}
	all = []Attempt{login(2, "203.0.113.7", "a"), login(2, "203.0.113.7", "b"),
		login(2, "203.0.113.7", right), login(2, "203.0.113.7", "a"),
		login(2, "203.0.113.7", "c"), login(2, "203.0.113.7", right)}
	if got := fmt.Sprint(d.tries(all...)); got != "[wrong wrong ok wrong wrong ok]" {
		t.Error(got)
	}
	s := d.state(2)
	if len(s.Networks) != 1 || s.Networks[0].Failed != 0 {
		t.Errorf("after a login: %+v", s)
	}
}

// TestSprayingLocksTheNetwork tries one password at many names.
func TestSprayingLocksTheNetwork(t *testing.T) {
	d := newDesk(t, limits)
	d.want("ok", login(1, "2001:db8::1", right))
	for range 3 { // a client behind the same router repeats its stored password
		d.want("wrong", login(100, "2001:db8::2", "old"))
	}
	for i := range uint32(5) {
		d.want("wrong", login(50+i, "2001:db8::3", "summer"))
	}
	d.want("network_locked", login(60, "2001:db8::4", right))
	d.want("network_locked", login(0, "2001:db8::4", "summer"))
	d.want("ok", login(1, "2001:db8::5", right)) // known here
	d.want("wrong", login(1, "2001:db8::5", "mistyped"))
	d.want("ok", login(60, "2001:db8:0:1::1", right))
	d.now = d.now.Add(limits.Window)
	d.want("ok", login(60, "2001:db8::4", right))
}

// TestKnownClientsDoNotLockTheirNetwork mistypes the passwords of known users.
func TestKnownClientsDoNotLockTheirNetwork(t *testing.T) {
	d := newDesk(t, limits)
	for i := range uint32(20) {
		d.want("ok", login(1+i, "203.0.113.7", right))
	}
	for i := range uint32(20) {
		d.want("wrong", login(1+i, "203.0.113.7", "mistyped"))
	}
	d.want("ok", login(99, "203.0.113.7", right))
}

// TestGuessesFromEverywhere tries passwords of one name, each from another network.
func TestGuessesFromEverywhere(t *testing.T) {
	d := newDesk(t, limits)
	d.want("ok", login(1, "203.0.113.7", right))
	d.want("ok", login(2, "", right)) // a C++ message server is in front
	at := func(i int) string { return fmt.Sprintf("10.%d.0.1", i) }
	for i := range 40 {
		d.want("wrong", login(1, at(i), "old")) // a phone with an old password travels
	}
	for i := range 7 {
		for user := range uint32(3) {
			d.want("wrong", login(user, at(100+3*i+int(user)), fmt.Sprint(i)))
		}
	}
	for user := range uint32(3) {
		if user != 1 {
			d.want("wrong", login(user, at(99), "7"))
		}
		d.want("locked_from_others", login(user, at(200), right))
	}
	d.want("ok", login(1, "203.0.113.7", right))
	d.want("ok", login(2, "", right))
	d.want("locked_from_others", login(1, "", right))
	d.now = d.now.Add(limits.NameWindow)
	d.want("ok", login(1, at(200), right))
}

// TestNetworksAreForgotten: a network is known for the time of the setting.
func TestNetworksAreForgotten(t *testing.T) {
	d := newDesk(t, limits)
	known := func() bool {
		for i := range uint32(6) {
			d.tries(login(50+i, "203.0.113.9", "summer"))
		}
		return d.tries(login(1, "203.0.113.7", right))[0] == "ok"
	}
	d.want("ok", login(1, "203.0.113.7", right))
	for range 3 { // each login makes it known anew
		d.now = d.now.Add(limits.Known - time.Second)
		if !known() {
			t.Error("not known within the time")
		}
	}
	d.now = d.now.Add(limits.Known)
	if known() {
		t.Error("known for ever")
	}
}

// TestNamesWithoutAUserAreLockedAlike makes the same attempts with a name that has a user
// and with one that has none.
func TestNamesWithoutAUserAreLockedAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	there, not := newDesk(t, limits), newDesk(t, limits)
	for range 2000 {
		a := login(1, fmt.Sprintf("10.%d.0.1", random.IntN(6)), fmt.Sprint(random.IntN(20)))
		b := a
		b.User = 0
		if x, y := there.tries(a)[0], not.tries(b)[0]; x != y {
			t.Fatalf("%s with a user, %s without", x, y)
		}
		pause := time.Duration(random.IntN(600)) * time.Second
		there.now, not.now = there.now.Add(pause), not.now.Add(pause)
	}
}

func TestLimitsThatAreOff(t *testing.T) {
	d := newDesk(t, Limits{NameAttempts: 2, NameWindow: time.Hour, Window: time.Hour})
	for i := range 20 {
		d.want("wrong", login(1, "10.0.0.1", fmt.Sprint(i)))
	}
	d.want("ok", login(1, "10.0.0.1", right))
	if d.store.calls != 0 {
		t.Errorf("the store was asked %d times", d.store.calls)
	}
	l := limits
	l.Attempts = 0
	d = newDesk(t, l)
	for i := range 20 {
		d.tries(login(1, fmt.Sprintf("10.%d.0.1", i), fmt.Sprint(i)))
	}
	d.want("ok", login(1, "10.77.0.1", right))
}

// TestStoreFails: without the store, this process counts, and does not ask it each time.
func TestStoreFails(t *testing.T) {
	d := newDesk(t, limits)
	d.store.reads = errors.New("gone")
	for _, p := range []string{"a", "b", "c"} {
		d.want("wrong", login(1, "10.0.0.1", p))
	}
	d.want("locked", login(1, "10.0.0.1", right))
	if d.failed != 1 || d.store.calls != 1 {
		t.Errorf("%d failures in %d calls", d.failed, d.store.calls)
	}
	d.store.reads = nil
	d.now = d.now.Add(storePause)
	d.store.writes = errors.New("read only")
	d.want("wrong", login(1, "10.0.0.1", "d")) // the store knows nothing
	d.want("locked", login(1, "10.0.0.1", right))
	if d.failed != 2 {
		t.Errorf("%d failures", d.failed)
	}
	d.store.writes = nil
	d.now = d.now.Add(storePause)
	d.want("ok", login(1, "10.0.0.1", right))
}

// state returns the state of a user's name.
func (d *desk) state(user uint32) State {
	d.Helper()
	name := fmt.Sprint("USER ", user, " ")
	s, err := Inspect(d.Context(), d.store, d.opt.Limits, d.now, name, user)
	if err != nil {
		d.Fatal(err)
	}
	return s
}

func TestInspectAndUnlock(t *testing.T) {
	d := newDesk(t, limits)
	began := d.now
	d.want("ok", login(1, "2001:db8::1", right))
	for i := range 8 {
		d.want("wrong", login(1, fmt.Sprintf("203.0.%d.1", 113+i%3), fmt.Sprint(i)))
		d.now = d.now.Add(time.Second)
	}
	s := d.state(1)
	if s.Spread != 8 || !s.LockedUntil.Equal(began.Add(limits.NameWindow)) || len(s.Networks) != 4 {
		t.Fatalf("%+v", s)
	}
	for i, want := range []NetworkState{
		{Network: "2001:db8::/64", Login: began},
		{Network: "203.0.113.0/24", Failed: 3, LockedUntil: began.Add(limits.Window)},
		{Network: "203.0.114.0/24", Failed: 3, LockedUntil: began.Add(limits.Window + time.Second)},
		{Network: "203.0.115.0/24", Failed: 2},
	} {
		got := s.Networks[i]
		if got.Network != want.Network || got.Failed != want.Failed ||
			!got.LockedUntil.Equal(want.LockedUntil) || !got.Login.Equal(want.Login) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if err := Unlock(t.Context(), d.store, "User 1"); err != nil {
		t.Fatal(err)
	}
	if s := d.state(1); s.Spread != 0 || !s.LockedUntil.IsZero() || len(s.Networks) != 1 {
		t.Errorf("unlocked: %+v", s)
	}
	d.want("ok", login(1, "203.0.113.5", right))
}

// TestLockedNetworks lists the networks that are locked for a user, and unlocks one.
func TestLockedNetworks(t *testing.T) {
	d := newDesk(t, limits)
	for i := range uint32(6) {
		d.tries(login(50+i, "203.0.119.9", "summer"))
	}
	d.want("network_locked", login(1, "203.0.119.9", right))
	locked := func(user uint32) (text string) {
		d.Helper()
		list, err := LockedNetworks(t.Context(), d.store, d.opt.Limits, d.now, user)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			text += fmt.Sprintf("%s %d for %s ", n.Network, n.Failed, n.LockedUntil.Sub(d.now))
		}
		return text
	}
	if got := locked(1); got != fmt.Sprintf("203.0.119.0/24 6 for %s ", limits.Window) {
		t.Errorf("locked for user 1: %q", got)
	}
	n, err := UnlockNetwork(t.Context(), d.store, netip.MustParseAddr("203.0.119.77"))
	if n != "203.0.119.0/24" || err != nil {
		t.Errorf("unlocked %q: %v", n, err)
	}
	d.want("ok", login(1, "203.0.119.9", right))
	if got := locked(1); got != "" {
		t.Errorf("unlocked, but: %q", got)
	}
	for i := range uint32(6) {
		d.tries(login(60+i, "203.0.119.9", "winter"))
	}
	if one, two := locked(1), locked(2); one != "" || two == "" {
		t.Errorf("a network that one user knows is locked for it (%q), or not for another (%q)",
			one, two)
	}
	d.now = d.now.Add(limits.Window)
	if got := locked(2); got != "" {
		t.Errorf("still locked after the window: %q", got)
	}
}

// TestMemoryIsBounded: attempts with many names do not fill the memory.
func TestMemoryIsBounded(t *testing.T) {
	m := NewMemory()
	for i := range im.MaxFailureKeys + 100 {
		if err := m.ChangeLoginMarks(t.Context(), nil, []im.NewLoginMark{{
			LoginMarkKey: im.LoginMarkKey{Kind: im.FailuresOfName, Key: fmt.Sprint(i)},
			LoginMark:    im.LoginMark{Value: "a", At: 1}, Keep: time.Hour}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.marks.Len(); n != im.MaxFailureKeys {
		t.Errorf("%d keys", n)
	}
}
