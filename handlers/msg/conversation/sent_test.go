package conversation

import (
	"testing"
	"time"

	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

// TestSteppedClockKeepsResends steps the wall clock between a message and its repeat.
func TestSteppedClockKeepsResends(t *testing.T) {
	m := &pb.MsgData{FromUserID: 1, ToSessionID: 2, Data: []byte("x"),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}
	for _, d := range []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour} {
		var r resends
		now := time.Now()
		r.add(7, contentHash(m), m, now, time.Minute)
		r.stored(7, 42)
		at := mono.Step(now.Add(59*time.Second), d)
		if id, state := r.look(7, m, at, time.Minute); id != 42 || state != sendStored {
			t.Errorf("step of %v: the repeat is message %d, state %v", d, id, state)
		}
		at = mono.Step(now.Add(time.Minute), d)
		if _, state := r.look(7, m, at, time.Minute); state != sendNew {
			t.Errorf("step of %v: a repeat after the window has state %v", d, state)
		}
	}
}
