package store

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
)

// TestOldClientIDsRemoved requires that expired client_msg_ids are removed.
func TestOldClientIDsRemoved(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	for i := range 3 {
		m := text(u[0], u[1], "named")
		m.ClientID = fmt.Appendf(nil, "id %d", i)
		send(t, s, m)
		e.clock.ahead.Add(int64(im.ClientIDTTL) * int64(time.Second) / 2)
	}
	if err := s.messages.ForgetClientIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := e.names(t, "SELECT clientMsgId FROM IMClientMsgId"); len(left) != 1 ||
		left[0] != "id 2" {
		t.Errorf("left: %q, want the one of half a day ago", left)
	}
}
