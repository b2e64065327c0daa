package opttest

import (
	"testing"
	"time"
)

func TestFillKeepsGivenValues(t *testing.T) {
	type options struct {
		Wait   time.Duration
		Limit  int
		hidden int
	}
	got := Fill(options{Limit: 3, hidden: 1}, options{Wait: time.Second, Limit: 7, hidden: 2})
	if want := (options{Wait: time.Second, Limit: 3, hidden: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
