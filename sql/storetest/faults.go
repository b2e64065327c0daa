package storetest

import (
	"context"
	"fmt"
	"sync"

	"teamtalk/core/im"
)

var faultTests = []test{
	{"ping", ping},
	{"cancelled before: reads and changes", cancelledCalls},
	{"cancelled before: messages", cancelledAppend},
	{"cancelled while running: nothing half done", cancelledWhile},
	{"counters lost", countersLost},
	{"crash between commit and count", crashBeforeCount},
}

func ping(f *fixture) {
	f.check("Ping", f.s.Ping(f.ctx))
	f.reopen()
	f.check("Ping after reopen", f.s.Ping(f.ctx))
}

// cancelled returns a context that has ended.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func cancelledCalls(f *fixture) {
	a, b := f.pair()
	f.append(texts(a, b, 3)...)
	want := f.account("user0")
	ctx := cancelled()
	for name, call := range map[string]func() error{
		"Ping":          func() error { return f.s.Ping(ctx) },
		"AccountByName": func() error { _, err := f.s.AccountByName(ctx, "user0"); return err },
		"AccountsByName": func() error {
			_, err := f.s.AccountsByName(ctx, []string{"user0", "user1"})
			return err
		},
		"Users": func() error { _, err := f.s.Users(ctx, []uint32{a}); return err },
		"UsersChangedSince": func() error {
			_, _, err := f.s.UsersChangedSince(ctx, 0)
			return err
		},
		"CreateUsers": func() error {
			_, err := f.s.CreateUsers(ctx, []im.Account{account(7)})
			return err
		},
		"ListUsers":   func() error { _, err := f.s.ListUsers(ctx, 0, 10); return err },
		"SetPassword": func() error { return f.s.SetPassword(ctx, a, "other", "oth") },
		"ReplacePassword": func() error {
			_, err := f.s.ReplacePassword(ctx, a, want.Stored(), im.StoredPassword{Hash: "x"})
			return err
		},
		"CountPasswords": func() error { _, err := f.s.CountPasswords(ctx); return err },
		"SetUserStatus":  func() error { return f.s.SetUserStatus(ctx, a, im.StatusDeparted) },
		"History":        func() error { _, err := f.s.History(ctx, a, b, 0, 10); return err },
		"MessagesByID": func() error {
			_, err := f.s.MessagesByID(ctx, a, b, []uint32{1})
			return err
		},
		"LatestID":       func() error { _, err := f.s.LatestID(ctx, a, b); return err },
		"UnreadCounts":   func() error { _, _, err := f.s.UnreadCounts(ctx, b, 1<<20); return err },
		"ClearUnread":    func() error { return f.s.ClearUnread(ctx, b, a) },
		"RecentSessions": func() error { _, err := f.s.RecentSessions(ctx, a, 0, 9); return err },
	} {
		err := call()
		if err == nil {
			f.Errorf("%s with a cancelled context: no error", name)
		} else if kind := im.KindOf(err); kind == im.NotFound || kind == im.Exists ||
			kind == im.Invalid {
			f.Errorf("%s with a cancelled context says %v, which is about the request: %v",
				name, kind, err)
		}
	}
	if got := f.account("user0"); got != want {
		f.Errorf("account changed:\n got %+v\nwant %+v", got, want)
	}
	if n := f.countUsers(); n != 2 {
		f.Errorf("%d users, want 2", n)
	}
	if n := f.unread(b, a); n != 3 {
		f.Errorf("%d unread, want 3", n)
	}
}

func cancelledAppend(f *fixture) {
	a, b := f.pair()
	batch := []*im.Message{f.named(a, b, "1", "k1"), text(b, a, "2"), f.named(a, b, "3", "k3")}
	f.s.AppendMessages(cancelled(), batch)
	for i, m := range batch {
		if m.Err == nil {
			f.Errorf("message %d: no error", i)
		} else if im.KindOf(m.Err) == im.Invalid {
			f.Errorf("message %d says that the request is invalid: %v", i, m.Err)
		}
	}
	f.wantNothing(a, b)
	f.append(batch...) // the same batch again, with its client ids
	f.wantHistory(a, b, batch...)
}

func cancelledWhile(f *fixture) {
	u := f.users(12)
	type attempt struct {
		batch []*im.Message
		to    uint32
	}
	var attempts []attempt
	for i, to := range u[1:] {
		batch := texts(u[0], to, 40)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			// The context ends somewhere during the call. The scheduler and the work done
			// meanwhile decide where.
			for range i {
				_, _ = f.s.LatestID(context.Background(), u[0], to)
			}
			cancel()
		})
		f.s.AppendMessages(ctx, batch)
		wg.Wait()
		attempts = append(attempts, attempt{batch, to})
	}
	for _, a := range attempts {
		stored := map[uint32]im.Message{}
		for _, m := range f.history(u[0], a.to) {
			stored[m.ID] = m
		}
		for i, m := range a.batch {
			if m.Err == nil && !sameMessage(stored[m.ID], *m) {
				f.Errorf("message %d to %d has no error and is not stored", i, a.to)
			}
		}
		// A message with an error may be stored, when the context ended during the
		// commit. Then it must be stored completely.
		if n := f.unread(a.to, u[0]); int(n) != len(stored) {
			f.Errorf("%d has %d messages and %d unread", a.to, len(stored), n)
		}
		for _, side := range [][2]uint32{{u[0], a.to}, {a.to, u[0]}} {
			if _, ok := f.session(side[0], side[1]); ok != (len(stored) > 0) {
				f.Errorf("session of %d with %d: %v, with %d messages", side[0], side[1],
					ok, len(stored))
			}
		}
	}
}

func countersLost(f *fixture) {
	if f.factory.LoseCounters == nil {
		f.Skip("the factory has no LoseCounters")
	}
	u := f.users(3)
	var ab, ac []*im.Message
	for round := range 3 {
		m, n := texts(u[0], u[1], 5), texts(u[2], u[0], 2)
		f.append(append(append([]*im.Message{}, m...), n...)...)
		ab, ac = append(ab, m...), append(ac, n...)
		f.wantHistory(u[0], u[1], ab...)
		f.wantHistory(u[0], u[2], ac...)
		f.factory.LoseCounters(f.T, f.s)
		if round == 1 {
			f.reopen()
		}
	}
	// The first batch after the loss has messages in both directions.
	last := []*im.Message{text(u[1], u[0], "a"), text(u[0], u[1], "b")}
	f.append(last...)
	f.wantHistory(u[0], u[1], append(ab, last...)...)
}

func crashBeforeCount(f *fixture) {
	if f.factory.CrashBeforeCount == nil {
		f.Skip("there is no moment between commit and count")
	}
	u := f.users(4)
	f.append(texts(u[0], u[1], 2)...)
	f.append(texts(u[2], u[1], 3)...)
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, u[1], u[2]))
	batch := append(texts(u[0], u[1], 4), texts(u[1], u[0], 1)...)
	batch = append(batch, texts(u[3], u[1], 1)...)
	f.s = f.factory.CrashBeforeCount(f.T, f.s, batch)
	want := map[string]uint32{"0>1": 6, "1>0": 1, "2>1": 0, "3>1": 1}
	check := func(when string, want map[string]uint32) {
		f.Helper()
		for direction, n := range want {
			var from, to int
			if _, err := fmt.Sscanf(direction, "%d>%d", &from, &to); err != nil {
				f.Fatal(err)
			}
			if got := f.unread(u[to], u[from]); got != n {
				f.Errorf("%s: %s: %d unread, want %d", when, direction, got, n)
			}
		}
	}
	check("after the crash", want)
	f.append(text(u[0], u[1], "next"))
	want["0>1"]++
	check("and a message", want)
	f.reopen()
	check("and another start", want)
}
