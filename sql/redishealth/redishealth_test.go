package redishealth

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestHealth: an outage begins with the first operation that fails, and ends when all work again.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Health
		away, starting := errors.New("away"), errors.New("starting")
		all := []string{"read", "write"}
		want := func(what, operation string, lasts time.Duration, err error) {
			t.Helper()
			if o, l, e := h.First(all); o != operation || l != lasts || e != err {
				t.Errorf("%s: %s for %v: %v", what, o, l, e)
			}
		}
		set := func(what, operation string, err error, begins bool, ended time.Duration) {
			t.Helper()
			if b, e := h.Set(operation, err); b != begins || e != ended {
				t.Errorf("%s: begins %v, ended after %v", what, b, e)
			}
		}
		want("at first", "", 0, nil)
		h.Starting("read", starting)
		if o, _, err := h.First(all); o != "read" || err != starting {
			t.Errorf("before the first attempt: %s: %v", o, err)
		}
		set("the first attempt", "read", nil, false, 0)
		set("one fails", "write", away, true, 0)
		time.Sleep(time.Second)
		want("later", "write", time.Second, away)
		set("the other one fails as well", "read", away, false, 0)
		set("the first one works", "write", nil, false, 0)
		want("still", "read", time.Second, away)
		if len(h.Errs()) != 1 {
			t.Error(h.Errs())
		}
		set("both work", "read", nil, false, time.Second)
		want("at the end", "", 0, nil)
		set("again", "read", away, true, 0)
	})
}
