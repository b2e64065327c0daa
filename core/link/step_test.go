package link

import (
	"errors"
	"io"
	"testing"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
)

// TestSteppedClockKeepsLinks steps the wall clock between two checks of a link. The link
// and its open call stay. After real silence both end.
func TestSteppedClockKeepsLinks(t *testing.T) {
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		h := newRecorder()
		r, peer := pipeRemote(Options{Handler: h})
		go io.Copy(io.Discard, <-peer)
		<-h.opened
		answer := ask(nil, r, 1, 1, statReq(1))
		c := r.conn.Load()
		c.check(mono.Step(time.Now(), d))
		if !c.usable() {
			t.Errorf("step of %v: closed with %v", d, c.reason())
		}
		select {
		case got := <-answer:
			t.Errorf("step of %v: the call ended with %v", d, got.err)
		default:
		}
		c.check(mono.Step(time.Now().Add(r.o.IdleLimit), d))
		if err := c.reason(); !errors.Is(err, session.ErrIdle) {
			t.Errorf("step of %v: after silence the reason is %v, want %v", d, err, session.ErrIdle)
		}
		r.Close()
	}
}
