package route_test

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// TestMissedStatusesAreTold: a message server that was not connected is told the statuses of the
// users that changed meanwhile, or while its link may have been broken, also for its phones. One
// that takes presence from another route server is not.
func TestMissedStatusesAreTold(t *testing.T) {
	began := time.Now()
	var passed atomic.Int64
	dial := start(t, route.Options{Now: func() time.Time {
		return began.Add(time.Duration(passed.Load()))
	}})
	away := func(what string, master uint32, missed time.Duration, want ...pb.Message) {
		t.Helper()
		back, ms := dial(), uint32(missed.Milliseconds())
		back.send(0, pb.IMRoleSet_builder{Master: &master, Missed: &ms,
			Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_KICKS))}.Build(),
			info(held(64, ios)))
		expect(t, what, settleAll(back)[0][1:], want...) // after the features
	}
	other := dial()
	other.send(0, online(64, windows), online(128, windows))
	settleAll(other)
	passed.Add(int64(time.Minute))
	other.send(0, online(192, windows), gone(64, windows), online(192, mac))
	settleAll(other)
	away("a moment", 1, time.Second, statNotify(192, statOnline), pcNotify(64, 0),
		statNotify(64, statOffline))
	away("a moment, as a slave", 0, time.Second)
	away("half a minute", 1, 30*time.Second, pcNotify(64, 0), statNotify(64, statOffline),
		statNotify(128, statOnline), statNotify(192, statOnline))
	passed.Add(int64(34 * time.Second))
	away("the link may have been broken", 1, time.Second, statNotify(192, statOnline),
		pcNotify(64, 0), statNotify(64, statOffline))
	passed.Add(int64(3 * time.Second))
	away("nothing changed", 1, time.Second)
	passed.Add(int64(11 * time.Minute))
	other.send(0, gone(128, windows))
	settleAll(other)
	away("an hour, as far as it is kept", 1, time.Hour, statNotify(128, statOffline))
}

// TestToldIsBounded: of more users than are kept the oldest are forgotten.
func TestToldIsBounded(t *testing.T) {
	dial := start(t, route.Options{})
	other := dial()
	const n = 2048 + 10 // of one stripe
	for i := range uint32(n) {
		other.send(0, online(64*(i+1), windows))
		if i%100 == 0 {
			settleAll(other)
		}
	}
	settleAll(other)
	back := dial()
	back.send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1), Missed: proto.Uint32(1000),
		Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_KICKS))}.Build(), info())
	got := settleAll(back)[0][1:]
	if len(got) != 2048 {
		t.Errorf("told of %d users", len(got))
	}
}
