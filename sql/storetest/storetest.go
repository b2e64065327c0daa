// Package storetest is the contract of im.Store in code: one suite that every store passes whole, against its real database.
//
// A store's own test calls Run with a Factory that says how to make such a store, and how to do to it what happens to databases: close
// and open again, let a clock run, lose the counters, refuse a row. Hooks for faults that cannot happen to a store stay nil and
// their tests are skipped, visibly.
//
// What the suite demands beyond the letter of im.Store's comments, because two stores that differ in it could not replace each other:
//
//   - A body that is not UTF-8 is Invalid: MySQL's column cannot hold it. Everything that is UTF-8 comes back byte for byte, NUL,
//     trailing blanks and emoji included.
//   - A client_msg_id belongs to its sender and its recipient: the same one to someone else, or from someone else, is another message.
//     An empty one is none. One of a message that was not stored is not remembered. Longer than MaxClientID is Invalid.
//   - A message to oneself is Invalid.
//   - Who sends to a group has read it up to its own message, and no further: later messages of the same batch count.
//   - A member who has seen no message of a group since joining has no session with it.
//   - AppendMessages sets ID, Err and Duplicate anew, so that a message may be tried again. The ID of one that was not stored is 0.
//   - An account without a name is Invalid, and so is one with a field that is not UTF-8. Field lengths count characters, not bytes.
//   - CreateUsers and SetUserStatus set Updated to the store's clock.
//   - Names of departments are compared letter by letter; one that is deleted holds no name, and users who have departed do not keep it from being deleted.
//   - A push token that is a number of up to ten digits is Invalid: in Redis it would have the key of a user.
//   - To clear a token any Client will do. Who had a phone before does not get it back when its user logs out.
//   - A file that was taken off its receiver's list does not come back when its sender says once more that it waits, until it expires.
//   - A context that has ended is an error from every method, and nothing is done.
package storetest

import (
	"context"
	"testing"
	"time"

	"teamtalk/core/im"
)

// Factory makes the stores of a suite, and does to them what the tests ask for. A hook that gets a *testing.T ends the test
// itself when it fails.
type Factory struct {
	// Open returns a store without users, groups and messages. The suite closes it. Required.
	Open func(t *testing.T) im.Store
	// Reopen closes s, and opens what it kept as a new store, without any cache of the old one. Required.
	Reopen func(t *testing.T, s im.Store) im.Store

	// Now is the clock of the stores that Open returns. nil: time.Now.
	Now func() time.Time
	// Advance lets d pass for s: for its clock and for everything in its databases that expires. nil: time cannot be made to pass.
	Advance func(t *testing.T, s im.Store, d time.Duration)
	// Second opens the databases of s once more, as another process beside it would. The suite closes it, before s. nil: a
	// store for one process.
	Second func(t *testing.T, s im.Store) im.Store

	// SameIDs sees to it that the next user and the next group get the same id. nil: the first user has the id of the first group, the second that of
	// the second, and so on.
	SameIDs func(t *testing.T, s im.Store)
	// FailOn makes the database refuse every message row, between users and in groups, whose content is content from now on, until the store is
	// closed for good. nil: skipped.
	FailOn func(t *testing.T, s im.Store, content string)
	// LoseCounters takes from the databases all that can be lost of message id counters, as a Redis does that comes back empty;
	// unread counts may go with it. nil: they cannot be lost.
	LoseCounters func(t *testing.T, s im.Store)
	// CrashBeforeCount stores the batch with s up to and including the commit of the messages, and no further, as a process that
	// dies there; then it opens the databases anew and returns that store. s is closed by it. nil: there is no such
	// moment.
	CrashBeforeCount func(t *testing.T, s im.Store, batch []*im.Message) im.Store
}

// Run runs the suite, every subtest with a store of its own.
func Run(t *testing.T, f Factory) {
	if f.Now == nil {
		f.Now = time.Now
	}
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
		{"group messages", groupMessageTests},
		{"group history", groupHistoryTests},
		{"group unread", groupUnreadTests},
		{"group sessions", groupSessionTests},
		{"push", pushTests},
		{"files", fileTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, tc := range group.tests {
				t.Run(tc.name, func(t *testing.T) { tc.run(newFixture(t, f)) })
			}
		})
	}
}

type test struct {
	name string
	run  func(f *fixture)
}

// fixture is the store of one subtest, with the helpers that keep tests readable. Each part of
// the store has its helpers; those for messages are methods of fixture itself. A helper fails the
// test. Call helpers from the goroutine of the test, except those that return errors.
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
}

// newFixture opens a store and closes it with the test.
func newFixture(t *testing.T, factory Factory) *fixture {
	b := &base{T: t, factory: factory, ctx: context.Background(), s: factory.Open(t)}
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

// second is another process's store on the same databases, closed with the test.
func (f *base) second() im.Store {
	f.Helper()
	if f.factory.Second == nil {
		f.Skip("a store for one process")
	}
	s := f.factory.Second(f.T, f.s)
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Errorf("Close of the second store: %v", err)
		}
	})
	return s
}

// advance lets d pass, or skips the test where that cannot be done.
func (f *base) advance(d time.Duration) {
	f.Helper()
	if f.factory.Advance == nil {
		f.Skip("no way to let time pass")
	}
	f.factory.Advance(f.T, f.s, d)
}

// now is the store's clock, in unix seconds.
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

// wantGivenUp checks the error of a call whose context had ended: it is not about the request.
func (f *base) wantGivenUp(name string, err error) {
	f.Helper()
	if err == nil {
		f.Errorf("%s with a cancelled context: no error", name)
	} else if kind := im.KindOf(err); kind == im.NotFound || kind == im.Exists || kind == im.Invalid {
		f.Errorf("%s with a cancelled context says %v, which is about the request: %v", name, kind, err)
	}
}
