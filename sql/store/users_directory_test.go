package store

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"teamtalk/core/im"
)

// mark returns the mark of the directory, which C++ servers read.
func (e *env) mark(t *testing.T) int64 {
	t.Helper()
	v := e.redis.Do("GET total_user_update")
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("the mark is %q", v)
	}
	return n
}

// TestDirectoryMark requires that every change of the directory sets the mark, and that
// the mark never decreases.
func TestDirectoryMark(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	var user, depart uint32
	check := func(what string, raised bool, call func() error) {
		t.Helper()
		e.clock.ahead.Add(int64(10 * time.Second))
		old, before := e.mark(t), e.clock.now().Unix()
		if err := call(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got := e.mark(t)
		if raised && (got < before || got > e.clock.now().Unix()) {
			t.Errorf("%s: the mark is %d, changed between %d and %d", what, got, before,
				e.clock.now().Unix())
		}
		if !raised && got != old {
			t.Errorf("%s: the mark went from %d to %d", what, old, got)
		}
	}
	ctx := t.Context()
	check("CreateUsers", true, func() error {
		user = users(t, s, 1)[0]
		return nil
	})
	check("SetSignInfo", true, func() error { return s.SetSignInfo(ctx, user, "x") })
	check("SetAvatar", true, func() error { return s.SetAvatar(ctx, user, "x") })
	check("SetUserStatus", true, func() error { return s.SetUserStatus(ctx, user, im.StatusTrial) })
	check("CreateDepart", true, func() (err error) {
		depart, err = s.CreateDepart(ctx, im.Depart{Name: "a"})
		return err
	})
	check("UpdateDepart", true, func() error {
		return s.UpdateDepart(ctx, im.Depart{ID: depart,
			Name: "b"})
	})
	check("SetUserDepart", true, func() error { return s.SetUserDepart(ctx, user, depart) })
	check("SetPassword", true, func() error { return s.SetPassword(ctx, user, "x", "y") })
	check("SetPushShield", false, func() error { return s.SetPushShield(ctx, user, true) })
	future := e.clock.now().Add(time.Hour).Unix()
	e.redis.Do(fmt.Sprintf("SET total_user_update %d", future))
	check("SetSignInfo before a later mark", false, func() error {
		return s.SetSignInfo(ctx, user, "y")
	})
	e.redis.Do("SET total_user_update nonsense")
	if err := s.SetSignInfo(ctx, user, "z"); err != nil || e.mark(t) == 0 {
		t.Errorf("over nonsense: %v, mark %d", err, e.mark(t))
	}
}

// TestDirectoryMarkOwed changes the directory without Redis. The mark must be set when
// Redis is available again.
func TestDirectoryMarkOwed(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 1)
	e.redis.Stop()
	before := e.clock.now().Unix()
	if err := s.SetSignInfo(t.Context(), u[0], "made"); err != nil {
		t.Fatalf("SetSignInfo without Redis: %v", err)
	}
	if err := s.PayMark(t.Context()); err == nil {
		t.Error("the mark is set without Redis")
	}
	e.redis.Start()
	e.redis.FlushAll()
	// The pool may have connections of the old server, and dials again at intervals.
	for s.PayMark(t.Context()) != nil { // the test's timeout bounds the loop
		time.Sleep(10 * time.Millisecond)
	}
	if got := e.mark(t); got < before {
		t.Errorf("the mark is %d, the change of %d", got, before)
	}
	if list, err := s.Users(t.Context(), u); err != nil || len(list) != 1 ||
		list[0].SignInfo != "made" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestUpdatedNeverGoesBack changes users and departments in a process whose clock lags,
// after a process whose clock is ahead. A client that has the first change must get the
// second.
func TestUpdatedNeverGoesBack(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	ctx := t.Context()
	u := users(t, s, 3)
	first, err := s.CreateDepart(ctx, im.Depart{Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	ahead := e.clock.now().Add(time.Hour).Unix()
	e.exec(t, fmt.Sprintf("UPDATE IMUser SET updated=%d WHERE id=%d", ahead, u[0]))
	e.exec(t, fmt.Sprintf("UPDATE IMDepart SET updated=%d WHERE id=%d", ahead, first))
	_, since, err := s.UsersChangedSince(ctx, 0)
	if err != nil || int64(since) != ahead {
		t.Fatalf("newest %d, %v; want %d", since, err, ahead)
	}
	if err := s.SetSignInfo(ctx, u[1], "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateUsers(ctx, []im.Account{{User: im.User{Name: "late"}}}); err != nil {
		t.Fatal(err)
	}
	// The second change must be after the time of the first, because that time was told
	// as complete.
	if list, _, err := s.UsersChangedSince(ctx, since+1); err != nil || len(list) != 2 {
		t.Errorf("after %d: %+v, %v; want two changed after it", since, list, err)
	}
	if _, err := s.CreateDepart(ctx, im.Depart{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.DepartsChangedSince(ctx, since+1); err != nil || len(list) != 1 {
		t.Errorf("after %d: %+v, %v; want one department", since, list, err)
	}
}

// BenchmarkSetSignInfo measures changes of the directory, one at a time.
func BenchmarkSetSignInfo(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SetSignInfo(b.Context(), u[0], "x"); err != nil {
			b.Fatal(err)
		}
	}
}
