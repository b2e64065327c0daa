package msg

import (
	"bytes"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

// encoded returns the frames of messages.
func encoded(t *testing.T, list []received) (frames [][]byte) {
	t.Helper()
	for _, r := range list {
		frame, err := pdu.Append(nil, r.seq, r.m)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// TestWhereaboutsStay sends texts with and without the question for the whereabouts of their users.
// Clients and the route server get the same bytes. db_proxy is asked for texts between users alone.
func TestWhereaboutsStay(t *testing.T) {
	run := func(t *testing.T, want bool) (frames [][]byte) {
		inWorld(t, Options{Ack: AckStored, Whereabouts: want}, func(w *world) {
			w.db.addGroup(50, 1, 2)
			// As every db_proxy that does not know the question, it returns what it was sent.
			w.db.also = func(req pb.Message) (pb.Message, error) {
				m, ok := req.(*pb.MsgData)
				if !ok {
					return nil, nil
				}
				rsp, err := w.db.store(conversation.OrderKey(m), m)
				if m.WantWhereabouts {
					rsp.(*pb.MsgData).Whereabouts = []byte("whereabouts")
				}
				return rsp, err
			}
			alice, phone, bob := w.user(0, 1, win), w.user(1, 1, ios), w.user(0, 2, win)
			id := text(2, "with an id")
			id.ClientMsgID = []byte("id")
			for i, m := range []*pb.MsgData{text(2, "here"), text(3, "elsewhere"), id,
				groupText(50, "group")} {
				alice.send(uint16(7+i), m)
			}
			phone.send(7, id) // a repeat
			w.routed(&pb.MsgData{FromUserID: 3, ToSessionID: 2, MsgID: 9, CreateTime: 1,
				Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("forged"),
				WantWhereabouts: true, Whereabouts: []byte("forged")})
			asked := 0
			for _, req := range w.db.asked {
				m, ok := req.(*pb.MsgData)
				if ok && m.WantWhereabouts != (want && !m.Type.IsGroup()) {
					t.Errorf("asked %v for %s", m.WantWhereabouts, m.Data)
				} else if ok {
					asked++
				}
			}
			got := [][]received{alice.got(), phone.got(), bob.got(), w.route.take()}
			if asked != 5 || len(got[2]) != 4 || len(got[3]) == 0 {
				t.Errorf("%d requests, bob got %d messages", asked, len(got[2]))
			}
			for _, list := range got {
				frames = append(frames, encoded(t, list)...)
			}
		})
		return frames
	}
	with, without := run(t, true), run(t, false)
	if len(with) != len(without) {
		t.Fatalf("%d frames, without the question %d", len(with), len(without))
	}
	for i := range with {
		if !bytes.Equal(with[i], without[i]) {
			t.Errorf("frame %d\n%x, without the question\n%x", i, with[i], without[i])
		}
	}
}
