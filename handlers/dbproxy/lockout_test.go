package dbproxy

import (
	"fmt"
	"testing"
	"time"
)

// TestLockoutIsBounded: trying names does not fill the memory, and does not unlock users.
func TestLockoutIsBounded(t *testing.T) {
	l := newLockout(2, time.Hour)
	now := time.Unix(1_000_000, 0)
	user := suspect{id: 1}
	l.fail(user, "a", now)
	if l.fail(user, "a", now) || l.locked(user, now) {
		t.Fatal("locked by the same password again")
	}
	if !l.fail(user, "b", now) || !l.locked(user, now) {
		t.Fatal("not locked")
	}
	for i := range 3 * lockoutNames {
		l.fail(suspect{name: fmt.Sprint(i)}, "a", now)
	}
	if n := l.unknown.Len(); n != lockoutNames {
		t.Errorf("%d names remembered", n)
	}
	if !l.locked(user, now) {
		t.Error("unlocked by others")
	}
	if l.locked(user, now.Add(time.Hour)) {
		t.Error("locked for ever")
	}
}
