package lockout

import (
	"fmt"
	"testing"
	"time"
)

// TestLockoutIsBounded: attempts with many names do not fill the memory, and do not
// unlock users.
func TestLockoutIsBounded(t *testing.T) {
	l := New(2, time.Hour)
	now := time.Unix(1_000_000, 0)
	user := Name{ID: 1}
	l.Fail(user, "a", now)
	if l.Fail(user, "a", now) || l.Locked(user, now) {
		t.Fatal("locked by the same password again")
	}
	if !l.Fail(user, "b", now) || !l.Locked(user, now) {
		t.Fatal("not locked")
	}
	for i := range 3 * maxNames {
		l.Fail(Name{Name: fmt.Sprint(i)}, "a", now)
	}
	if n := l.unknown.Len(); n != maxNames {
		t.Errorf("%d names are counted", n)
	}
	if !l.Locked(user, now) {
		t.Error("unlocked by attempts with other names")
	}
	if l.Locked(user, now.Add(time.Hour)) {
		t.Error("locked for ever")
	}
}
