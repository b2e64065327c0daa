package route_test

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// TestNumberedKick: a kick of the HTTP API is confirmed, and reaches all message servers,
// also one whose news of the login is still on its way. One whose link is lost gets it when
// it is connected again. A kick of long ago goes to none.
func TestNumberedKick(t *testing.T) {
	begin, passed := time.Now(), atomic.Int64{} // in nanoseconds
	dial := start(t, route.Options{Now: func() time.Time {
		return begin.Add(time.Duration(passed.Load()))
	}})
	api, otherAPI, holds, nobody := dial(), dial(), dial(), dial()
	holds.send(0, online(7, ios))
	settleAll(api, otherAPI, holds, nobody)

	plain := kick(7, ios, pb.KickReasonType_KICK_REASON_DUPLICATE_USER).(*pb.IMServerKickUser)
	numbered := proto.CloneOf(plain)
	numbered.SetNumber(5)
	api.send(9, numbered)
	got := settleAll(api, otherAPI, holds, nobody)
	expectFrames(t, "caller", got[0], toFrame(t, 9, numbered))
	for i, name := range []string{"another HTTP server", "holds the user", "does not yet"} {
		expectFrames(t, name, got[i+1], toFrame(t, 9, plain))
	}
	// The login whose news arrives now is not kicked again.
	nobody.send(0, online(7, ios))
	expect(t, "a login on the way", settleAll(nobody)[0])

	passed.Add(int64(5 * time.Second))
	late := proto.CloneOf(plain)
	late.SetAge(5000)
	wantMissed(t, dial(), 1000, late) // a link may have been broken for some time before
	passed.Add(int64(time.Minute))
	wantMissed(t, dial(), 1000)
	passed.Add(int64(10 * time.Minute))
	wantMissed(t, dial(), 3_600_000)
}

// expectFrames is expect with the seq.
func expectFrames(t *testing.T, name string, got []frame, want ...frame) {
	t.Helper()
	if describe(got) != describe(want) {
		t.Errorf("%s: %v, want %v", name, describe(got), describe(want))
	}
}

// wantMissed checks the kicks that a message server gets that was not connected for so many
// milliseconds.
func wantMissed(t *testing.T, back *peer, missed uint32, want ...pb.Message) {
	t.Helper()
	hello := pb.IMRoleSet_builder{Master: proto.Uint32(0), Missed: &missed,
		Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_KICKS))}.Build()
	back.send(0, hello, info())
	expect(t, "one that was away", settleAll(back)[0][1:], want...) // after the features
}

// TestFilesForwarded: a repeated notify of a file goes only to message servers that recognise
// it.
func TestFilesForwarded(t *testing.T) {
	dial := start(t, route.Options{})
	file, knows, older := dial(), dial(), dial()
	knows.send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1),
		Features: proto.Uint32(uint32(pb.ServerFeature_SERVER_FEATURE_FILES))}.Build(),
		online(3, ios))
	older.send(0, online(3, android))
	settleAll(file, knows, older)
	m := pb.IMFileNotify_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(3),
		FileName: proto.String("f"), FileSize: proto.Uint32(1), TaskId: proto.String("t"),
		TransMode:    pb.TransferFileType_FILE_TYPE_ONLINE.Enum(),
		OfflineReady: proto.Uint32(0), Age: proto.Uint32(1000)}.Build()
	file.send(0, m)
	got := settleAll(file, knows, older)
	expect(t, "recognises it", got[1], m)
	expect(t, "does not", got[2])
}
