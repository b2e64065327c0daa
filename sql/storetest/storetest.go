// Package storetest is the contract of im.Store in code: one suite that every store must
// pass against its real database.
//
// The test of a store calls Run with a Factory. The Factory opens such a store, and does
// to it what happens to databases: closing and opening, time passing, lost counters,
// rejected rows. Hooks for faults that a store cannot have stay nil; their tests are
// skipped and reported as such.
//
// The suite also requires rules that the comments of im.Store leave open, because stores
// that differ in them could not replace each other:
//
//   - A body that is not UTF-8 is Invalid: MySQL's column cannot store it. Every UTF-8
//     text is read back byte for byte, with NUL, trailing blanks and emoji.
//   - A client_msg_id belongs to its sender and its recipient: with another sender or
//     recipient it belongs to another message. An empty one is ignored. That of a message
//     that was not stored is not remembered. One longer than MaxClientID is Invalid.
//   - A message to oneself is Invalid.
//   - A sender to a group has read the group up to its own message. Later messages of the
//     same batch are unread.
//   - A member that has seen no message of a group since joining has no session with it.
//   - AppendMessages sets ID, Err and Duplicate anew, so that a message may be tried
//     again. The ID of a message that was not stored is 0.
//   - An account without a name, or with a field that is not UTF-8, is Invalid. Lengths
//     of fields are in characters, not bytes.
//   - CreateUsers and SetUserStatus set Updated to the store's clock. So do messages, for
//     their conversations and for LastChat of their groups: Created is from the clock of
//     a message server, which may differ and step.
//   - Names of departments are compared letter by letter. A deleted department does not
//     hold its name. Users that have departed do not prevent deleting their department.
//   - A push token that is a number of up to ten digits is Invalid: in Redis it would
//     have the key of a user.
//   - Clearing a token works with any Client. The former user of a phone does not get the
//     token back when its user logs out.
//   - A file that was removed from its receiver's list does not return when its sender
//     adds it again, until it expires.
//   - With a context that has ended, every method returns an error and changes nothing.
package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"teamtalk/core/im"
)

// Factory opens the stores of a suite, and applies faults to them. A hook with a
// *testing.T ends the test itself when it fails.
type Factory struct {
	// Open returns a store without users, groups and messages. The suite closes it.
	// Required.
	Open func(t *testing.T) im.Store
	// Reopen closes s, and opens its databases as a new store without the caches of s.
	// Required.
	Reopen func(t *testing.T, s im.Store) im.Store

	// Now is the clock of the stores that Open returns. nil means time.Now.
	Now func() time.Time
	// Advance lets d pass for s: for its clock, and for everything in its databases that
	// expires. nil means that time cannot be advanced.
	Advance func(t *testing.T, s im.Store, d time.Duration)
	// Second opens the databases of s again, as another process would. The suite closes
	// that store before s. nil means that a store serves one process.
	Second func(t *testing.T, s im.Store) im.Store

	// AddFiles stores files of one second as AddOfflineFile does, all at once: thousands of
	// transactions take a large part of the suite's time. nil adds them one at a time.
	AddFiles func(t *testing.T, s im.Store, files []im.OfflineFile)
	// Brief leaves out the tests of the largest sizes, when another suite runs them on the same
	// tables: the stores of this suite differ in other parts.
	Brief bool
	// Parts are the parts of the suite to run, by their names in Run. nil means all: a store
	// that differs from another one in a few parts needs only those that look at them.
	Parts []string
	// SameIDs makes the next user and the next group get the same id. nil means that the
	// n-th user and the n-th group always have the same id.
	SameIDs func(t *testing.T, s im.Store)
	// FailOn makes the database reject every message with this content, between users and
	// in groups, until the store is closed for good. nil skips the tests.
	FailOn func(t *testing.T, s im.Store, content string)
	// LoseCounters removes from the databases the counters of message ids that can be
	// lost, as a Redis does that restarts empty. Unread counts may be lost with them. nil
	// means that none can be lost.
	LoseCounters func(t *testing.T, s im.Store)
	// CrashBeforeCount stores the batch with s up to the commit of the messages, as a
	// process that crashes at that point. It closes s, opens the databases again and
	// returns that store. nil means that the commit includes the counts.
	CrashBeforeCount func(t *testing.T, s im.Store, batch []*im.Message) im.Store
}

// Run runs the suite. Every subtest has its own store.
func Run(t *testing.T, f Factory) {
	if f.Now == nil {
		f.Now = time.Now
	}
	ran := 0
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"users", userTests},
		{"departments", departTests},
		{"messages", messageTests},
		{"history", historyTests},
		{"unread", unreadTests},
		{"sessions", sessionTests},
		{"concurrent", concurrentTests},
		{"faults", faultTests},
		{"groups", groupTests},
		{"members", memberTests},
		{"consent", consentTests},
		{"group messages", groupMessageTests},
		{"group history", groupHistoryTests},
		{"group unread", groupUnreadTests},
		{"group sessions", groupSessionTests},
		{"clocks", clockTests},
		{"push", pushTests},
		{"logins", loginTests},
		{"budgets", budgetTests},
		{"files", fileTests},
	} {
		if f.Parts != nil && !slices.Contains(f.Parts, group.name) {
			continue
		}
		ran++
		t.Run(group.name, func(t *testing.T) {
			for _, tc := range group.tests {
				t.Run(tc.name, func(t *testing.T) { tc.run(newFixture(t, f)) })
			}
		})
	}
	if f.Parts != nil && ran != len(f.Parts) {
		t.Errorf("%d of the parts %q exist", ran, f.Parts)
	}
}

type test struct {
	name string
	run  func(f *fixture)
}

// fixture is the store of one subtest, with the helpers that keep tests readable. Each
// part of the store has its helpers; those for messages are methods of fixture itself. A
// helper fails the test. Call helpers from the goroutine of the test, except those that
// return errors.
type fixture struct {
	*base
	directoryFixture
	groupFixture
	fileFixture
	pushFixture
}

// base is the part of a fixture that all helpers share.
type base struct {
	*testing.T
	factory Factory
	ctx     context.Context
	s       im.Store
	stored  map[*im.Message]span
}

// span is the store's time, in unix seconds, before and after a message was stored.
type span struct{ from, to uint32 }

// wantTime checks a time that the storing of m set: it is the store's, whatever the time
// of m.
func (f *base) wantTime(what string, at uint32, m *im.Message) {
	f.Helper()
	if s := f.stored[m]; at < s.from || at > s.to {
		f.Errorf("%s: time %d, want that of the storing, %d to %d", what, at, s.from, s.to)
	}
}

// large skips a test of the largest sizes in a brief suite.
func (f *base) large() {
	f.Helper()
	if f.factory.Brief {
		f.Skip("the suite is brief")
	}
}

// newFixture opens a store and closes it with the test.
func newFixture(t *testing.T, factory Factory) *fixture {
	b := &base{T: t, factory: factory, ctx: context.Background(), s: factory.Open(t),
		stored: map[*im.Message]span{}}
	t.Cleanup(func() {
		if err := b.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &fixture{b, directoryFixture{b}, groupFixture{b}, fileFixture{b}, pushFixture{b}}
}

// reopen closes the store and opens it again.
func (f *base) reopen() {
	f.Helper()
	f.s = f.factory.Reopen(f.T, f.s)
}

// second opens the store of another process on the same databases. It is closed with the
// test.
func (f *base) second() im.Store {
	f.Helper()
	if f.factory.Second == nil {
		f.Skip("the factory has no Second")
	}
	s := f.factory.Second(f.T, f.s)
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Errorf("Close of the second store: %v", err)
		}
	})
	return s
}

// advance lets d pass, or skips the test when the store cannot do that.
func (f *base) advance(d time.Duration) {
	f.Helper()
	if f.factory.Advance == nil {
		f.Skip("the factory has no Advance")
	}
	f.factory.Advance(f.T, f.s, d)
}

// now returns the store's clock, in unix seconds.
func (f *base) now() uint32 { return uint32(f.factory.Now().Unix()) }

// check fails the test on an error.
func (f *base) check(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

// wantKind fails the test unless err is of that kind.
func (f *base) wantKind(what string, err error, kind im.Kind) {
	f.Helper()
	if err == nil {
		f.Fatalf("%s: no error, want one of kind %v", what, kind)
	}
	if got := im.KindOf(err); got != kind {
		f.Fatalf("%s: error of kind %v, want %v: %v", what, got, kind, err)
	}
}

// users creates n users and returns their ids.
func (f *base) users(n int) []uint32 {
	f.Helper()
	accounts := make([]im.Account, n)
	for i := range accounts {
		accounts[i] = account(i)
	}
	ids, err := f.s.CreateUsers(f.ctx, accounts)
	f.check("CreateUsers", err)
	if len(ids) != n {
		f.Fatalf("CreateUsers returned %d ids for %d accounts", len(ids), n)
	}
	return ids
}

// pair creates two users.
func (f *base) pair() (a, b uint32) {
	f.Helper()
	ids := f.users(2)
	return ids[0], ids[1]
}

// wantGivenUp checks that the error of a call with an ended context names the context and
// not the request.
func (f *base) wantGivenUp(name string, err error) {
	f.Helper()
	if err == nil {
		f.Errorf("%s with a cancelled context: no error", name)
	} else if kind := im.KindOf(err); kind == im.NotFound || kind == im.Exists ||
		kind == im.Invalid {
		f.Errorf("%s with a cancelled context says %v, which is about the request: %v",
			name, kind, err)
	}
}
