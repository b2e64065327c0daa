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
		{"ticket", &pb.IMUploadTicketReq{}},
		{"login", loginReq(1, win)},
		{"read_ack", pb.IMMsgDataReadAck_builder{UserId: one, SessionId: proto.Uint32(2),
			MsgId: one, SessionType: inSingle.Enum()}.Build()},
		{"ack", pb.IMMsgDataAck_builder{UserId: one, SessionId: proto.Uint32(2), MsgId: one,
			SessionType: inSingle.Enum()}.Build()},
		{"kick", pb.IMKickPCClientReq_builder{UserId: one}.Build()},
		{"refused", p2p(2, "typing")},
		{"refused", pb.IMUserCntUpdate_builder{UserAction: one, UserId: one}.Build()}, // of servers
		{"refused", pb.IMUsersInfoReq_builder{UserId: one,
			UserIdList: make([]uint32, 30_000)}.Build()}, // too many
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
				most := junkBurst + maxQueries + 1
				if len(frame) > 60_000 {
					most = junkBurst/58 + maxQueries + 1
				}
				if !pc.isClosed() || float64(n) > most {
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
		const batch = 60
		for i := range 100 {
			from.on(func() {
				for n := range batch {
					deliver(t, from, uint16(i*batch+n), text(2, "hello"))
				}
			})
			acked := i * batch
			to.on(func() {
				for n := range batch {
					id := uint32(acked + n + 1)
					deliver(t, to, 0, pb.IMMsgDataAck_builder{UserId: new(uint32(2)),
						SessionId: new(uint32(1)), MsgId: &id,
						SessionType: inSingle.Enum()}.Build())
				}
			})
		}
		if from.isClosed() || to.isClosed() {
			t.Error("closed")
		}
	})
}

// deliver passes a frame of d to the server. On the loop of d only.
func deliver(t *testing.T, d *device, seq uint16, m pb.Message) {
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		t.Error(err)
		return
	}
	d.loop.Deliver(&d.s.Conn, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
}

// TestLongListsAreNotDecoded: a frame with a million ids is refused before it is decoded,
// whatever its command. Only a message, and a status query about all users, is longer than
// 64 KiB.
func TestLongListsAreNotDecoded(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, ios)
		d.on(func() {
			for _, e := range w.h.Table() {
				if e.Command == pb.CmdMsgData {
					continue
				}
				body := make([]byte, maxBody+1) // does not decode
				if e.Command == pb.CmdUsersStatReq {
					body = make([]byte, 6*maxStats+65)
				}
				d.loop.Deliver(&d.s.Conn, pdu.Header{Length: uint32(len(body)) + pdu.HeaderLen,
					Command: e.Command, Seq: 1}, body)
			}
		})
		long := w.countedAs("teamtalk_router_errors_total", "too_long", "msg")
		if want := float64(len(w.h.Table()) - 1); long != want {
			t.Errorf("%v commands refuse a long body before decoding it, want %v", long, want)
		}
	})
}
