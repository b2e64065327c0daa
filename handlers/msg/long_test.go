package msg

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// longest is a query whose memory is a multiple of its 64 KiB.
func longest() pb.Message {
	versions := make([]*pb.GroupVersionInfo, 10_000)
	for i := range versions {
		versions[i] = pb.GroupVersionInfo_builder{GroupId: proto.Uint32(uint32(i % 100)),
			Version: proto.Uint32(0)}.Build()
	}
	return pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(1),
		GroupVersionList: versions}.Build()
}

// history is a query about one of many conversations.
func history(i int) pb.Message {
	return pb.IMGetMsgListReq_builder{UserId: proto.Uint32(1), SessionType: inSingle.Enum(),
		SessionId: proto.Uint32(uint32(i + 2)), MsgIdBegin: proto.Uint32(1),
		MsgCnt: proto.Uint32(10)}.Build()
}

// standStill lets db_proxy and the route server answer nothing until letGo.
func (w *world) standStill() {
	w.db.mu.Lock()
	w.db.hold = true
	w.db.mu.Unlock()
	w.route.hold = true
}

// frameOf returns the frame of a message. To encode a long one takes longer than a message server
// works on it.
func frameOf(t *testing.T, m pb.Message) []byte {
	t.Helper()
	frame, err := pdu.Append(nil, 0, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestLongQueriesAreBounded: while db_proxy stands still, the long queries of one connection,
// and of all, have a bound in bytes. Another client asks 200 questions at once, and
// about all users, and everything is answered. Nothing stays counted.
func TestLongQueriesAreBounded(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited}, func(w *world) {
		var hostile []*device
		for range 140 {
			hostile = append(hostile, w.user(0, 1, win))
		}
		honest := w.user(1, 2, win)
		w.standStill()
		bytes := func() float64 { return w.counted("queries_long_bytes") }
		failed := func(kind string) float64 { return w.counted("queries_failed_total", kind) }

		big := frameOf(t, longest())
		for i := range 3 {
			hostile[0].sendFrame(uint16(i+2), big)
		}
		if n := bytes(); n > 1<<20 {
			t.Fatalf("the long queries of one connection have %v bytes", n)
		}
		if failed("too_large") == 0 {
			t.Error("no query was refused because of its connection")
		}
		for _, d := range hostile[1:40] { // more of each would be refused as well
			d.sendFrame(2, big)
		}
		half := frameOf(t, pb.IMGetMsgByIdReq_builder{UserId: proto.Uint32(1),
			SessionType: inSingle.Enum(), SessionId: proto.Uint32(2),
			MsgIdList: make([]uint32, 30_000)}.Build())
		for _, d := range hostile[40:] {
			for i := range 2 {
				d.sendFrame(uint16(i+2), half)
			}
		}
		if failed("room_full") == 0 {
			t.Error("no query was refused because of all connections")
		}
		if n := bytes(); n > 80<<20 {
			t.Errorf("the long queries of 140 connections have %v bytes", n)
		}

		honest.got()
		for i := range 200 {
			honest.send(uint16(i+2), pb.IMUnreadMsgCntReq_builder{UserId: proto.Uint32(2)}.Build())
		}
		honest.send(300, pb.IMUsersStatReq_builder{UserId: proto.Uint32(2),
			UserIdList: make([]uint32, maxStats)}.Build())
		w.db.letGo()
		w.route.letGo()
		time.Sleep(3 * time.Second)
		answers := map[pb.Command]int{}
		for _, r := range honest.got() {
			answers[r.m.Command()]++
		}
		if answers[pb.CmdUnreadMsgCntRsp] != 200 || answers[pb.CmdUsersStatRsp] != 1 {
			t.Errorf("answered %v", answers)
		}
		if n := bytes(); n != 0 {
			t.Errorf("%v bytes stay counted", n)
		}
	})
}

// TestLongQueriesOfClosedConnections: what waited for its turn is no longer counted once its
// connection has ended, and the rest with its answer.
func TestLongQueriesOfClosedConnections(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, win)
		w.db.mu.Lock()
		w.db.hold = true
		w.db.mu.Unlock()
		ids := pb.IMGetMsgByIdReq_builder{UserId: proto.Uint32(1), SessionType: inSingle.Enum(),
			SessionId: proto.Uint32(2), MsgIdList: make([]uint32, 1000)}.Build()
		for i := range 2 * maxAsked {
			d.send(uint16(i+2), ids)
		}
		before := w.counted("queries_long_bytes")
		d.hangUp()
		time.Sleep(2 * session.TickInterval)
		if n := w.counted("queries_long_bytes"); n != before/2 || n == 0 {
			t.Errorf("%v of %v bytes are counted after the end", n, before)
		}
		w.db.letGo()
		time.Sleep(2 * session.TickInterval)
		if n := w.counted("queries_long_bytes"); n != 0 {
			t.Errorf("%v bytes stay counted", n)
		}
	})
}
