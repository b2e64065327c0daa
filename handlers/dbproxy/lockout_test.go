package dbproxy

import (
	"fmt"
	"testing"
	"time"
)

// TestLockoutIsBounded: attempts with many names do not fill the memory, and do not
// unlock users.
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
		t.Errorf("%d names are counted", n)
	}
	if !l.locked(user, now) {
		t.Error("unlocked by attempts with other names")
	}
	if l.locked(user, now.Add(time.Hour)) {
		t.Error("locked for ever")
	}
}
