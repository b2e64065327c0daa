package admission

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/session"
)

// sink is a connection that takes everything.
type sink struct{}

func (sink) Write([]byte) error { return nil }
func (sink) Buffered() int      { return 0 }
func (sink) Close()             {}

// TestHeldLoginsAreBounded: with too many logins that wait, from one address or in all,
// the one whose wait ends first is answered.
func TestHeldLoginsAreBounded(t *testing.T) {
	var state Loop
	h, err := New(Options{Policy: DeviceClass, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Loop: func(*session.Loop) *Loop { return &state }})
	if err != nil {
		t.Fatal(err)
	}
	loop := session.NewLoop(session.LoopOptions{Wake: func(*session.Loop, bool) {}})
	q := &state.held
	cut := map[string]int{}
	hold := func(addr string, i int) {
		s := loop.AddClient(netip.AddrPortFrom(netip.MustParseAddr(addr), 1), sink{})
		h.hold(s, &heldLogin{due: time.Now().Add(time.Hour + time.Duration(i)),
			then: func(bool) { cut[fmt.Sprint(addr, " ", i)]++ }})
	}
	for i := range maxHeldFrom + 2 {
		hold("10.0.0.1", i)
	}
	first := cut["10.0.0.1 0"] == 1 && cut["10.0.0.1 1"] == 1
	if len(q.byDue) != maxHeldFrom || !first || len(cut) != 2 {
		t.Errorf("%d wait, ended %v", len(q.byDue), cut)
	}
	for i := range maxHeldFrom + 1 {
		hold(fmt.Sprintf("10.1.%d.%d", i>>8, i&255), i-maxHeldFrom-1)
	}
	if len(q.byDue) != maxHeld || len(q.of) != maxHeld || len(cut) != 3 {
		t.Errorf("%d wait, ended %v", len(q.byDue), cut)
	}
}
