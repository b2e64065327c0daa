//go:build linux

package e2e

import (
	"testing"

	"teamtalk/proto/pb"
)

// TestUserChangedWhileOnline: clients of a user that the shell disables, or gives another
// password, are told so and disconnected. The others stay.
func TestUserChangedWhileOnline(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 3}, func(t *testing.T, sys *deployment) {
		shell := func(args ...string) {
			t.Helper()
			mustRun(t, append(args, sys.store...)...)
		}
		last := len(sys.msgAddr) - 1
		a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
		b, bob := loggedIn(t, sys.msgAddr[last], "u00002", android)
		c, _ := loggedIn(t, sys.msgAddr[last], "u00003", android)

		shell("user", "passwd", "u00001", "--password", "new")
		dismissed(t, a, alice)
		refused(t, sys.msgAddr[0], "u00001", "pw")
		accepted(t, sys.msgAddr[0], "u00001", "new")

		shell("user", "disable", "u00002")
		dismissed(t, b, bob)
		refused(t, sys.msgAddr[last], "u00002", "pw")
		c.alive()
	})
}

// dismissed expects a kick with a text, and the end of the connection.
func dismissed(t *testing.T, w *wire, user uint32) {
	t.Helper()
	k := &pb.IMKickUser{}
	w.expectSeq(0, k)
	if k.GetUserId() != user || k.GetKickReason() != replaced || k.GetText() == "" {
		t.Errorf("kick %v, want user %d, with a text", k, user)
	}
	w.closed()
}
