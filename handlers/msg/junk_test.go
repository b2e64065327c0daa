package msg

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TestFloodsAreClosed: a client that sends frames without effect and without end is
// disconnected, and its next login waits.
func TestFloodsAreClosed(t *testing.T) {
	one := proto.Uint32(1)
	for _, c := range []struct {
		last string
		m    pb.Message
	}{
		{"heartbeat", &pb.IMHeartBeat{}},
		{"time", &pb.IMClientTimeReq{}},
		{"login", loginReq(1, win)},
		{"read_ack", pb.IMMsgDataReadAck_builder{UserId: one, SessionId: proto.Uint32(2),
			MsgId: one, SessionType: inSingle.Enum()}.Build()},
		{"ack", pb.IMMsgDataAck_builder{UserId: one, SessionId: proto.Uint32(2), MsgId: one,
			SessionType: inSingle.Enum()}.Build()},
		{"kick", pb.IMKickPCClientReq_builder{UserId: one}.Build()},
		{"refused", p2p(2, "typing")},
		{"refused", pb.IMUserCntUpdate_builder{UserAction: one, UserId: one}.Build()}, // of servers
		{"refused", pb.IMUsersInfoReq_builder{UserId: one,
			UserIdList: make([]uint32, 30_000)}.Build()}, // too long
		{"refused", text(1, "to myself")},
	} {
		t.Run(c.m.Command().String(), func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				pc := w.user(0, 1, ios)
				frame, err := pdu.Append(nil, 1, c.m)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				pc.on(func() {
					for ; n < 10_000 && !pc.s.IsClosed(); n++ {
						pc.loop.Deliver(&pc.s.Conn, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
					}
				})
				if !pc.isClosed() || n > 5200 {
					t.Errorf("closed: %v, after %d frames", pc.isClosed(), n)
				}
				if n := w.counted("floods_total", c.last); n != 1 {
					t.Errorf("%v counted", n)
				}
				again := w.connect(0)
				again.send(1, loginReq(1, ios))
				again.want()
				time.Sleep(fightGap)
				again.want(pb.CmdLoginRes)
			})
		})
	}
}

// TestAcksOfDeliveriesAreNoFlood: a client may receive, and acknowledge, any number of
// messages.
func TestAcksOfDeliveriesAreNoFlood(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		from, to := w.user(0, 1, win), w.user(1, 2, win)
		for i := range uint32(6000) {
			from.send(uint16(i), text(2, "hello"))
			to.acks(asPeer, 1, i+1, inSingle)
		}
		if from.isClosed() || to.isClosed() {
			t.Error("closed")
		}
	})
}

// TestLongListsAreNotDecoded: a frame with a million ids is refused before it is decoded,
// whatever its command. Only a message, and a status query about all users, is longer than
// 64 KiB.
func TestLongListsAreNotDecoded(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		for _, e := range w.h.Table() {
			if e.Command == pb.CmdMsgData {
				continue
			}
			d := w.user(0, 1, ios)
			body := make([]byte, 1<<20) // an endless body that does not decode
			d.on(func() {
				d.loop.Deliver(&d.s.Conn, pdu.Header{Length: uint32(len(body)) + pdu.HeaderLen,
					Command: e.Command, Seq: 1}, body)
			})
			d.on(d.Close)
			time.Sleep(time.Minute)
		}
		long := w.countedAs("teamtalk_router_errors_total", "too_long", "msg")
		if want := float64(len(w.h.Table()) - 1); long != want {
			t.Errorf("%v commands refuse a long body before decoding it, want %v", long, want)
		}
	})
}
