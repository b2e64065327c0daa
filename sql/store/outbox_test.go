package store

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
)

func FuzzParseDues(f *testing.F) {
	f.Add(appendDues(nil, dues{counts: []count{{1, 2, 3}, {1 << 31, 1<<32 - 1, 1}}}))
	f.Add(appendDues(nil, dues{counts: []count{{1, 2, 3}},
		groups:  []groupCount{{7, 3, []sender{{1, 2}, {4, 0}}}, {9, 1, nil}},
		changes: []memberChange{{7, 2, true, []uint32{5, 6}}}}))
	f.Add([]byte{0x80})
	f.Add([]byte{0, 3})
	f.Add([]byte{0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDues(b)
		if err != nil {
			return
		}
		again, err := parseDues(appendDues(nil, d))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(d) {
			t.Fatalf("%v does not survive: %v, %v", d, again, err)
		}
	})
}

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
	if err := s.messages.forgetClientIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := e.names(t, "SELECT clientMsgId FROM IMClientMsgId"); len(left) != 1 ||
		left[0] != "id 2" {
		t.Errorf("left: %q, want the one of half a day ago", left)
	}
}
