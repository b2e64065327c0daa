package msg

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// pcLeft tells a message server that the PC of user 2 left, as a route server does.
func pcLeft(w *world, _ *device) {
	n := &pb.IMUserStatNotify{}
	st := &pb.UserStat{}
	st.SetUserId(2)
	st.SetStatus(pb.UserStatType_USER_STATUS_OFFLINE)
	n.SetUserStat(st)
	w.route.link.Message(w.route.s, 0, n)
}

// pcChanged does the same as a mesh does.
func pcChanged(w *world, _ *device) {
	c := pb.UserChange_builder{UserId: proto.Uint32(2),
		Status: pb.UserStatType_USER_STATUS_OFFLINE.Enum()}.Build()
	w.route.link.Message(w.route.s, 0,
		pb.IMUserChangesNotify_builder{Changes: []*pb.UserChange{c}}.Build())
}

// TestAckLostElsewhere: the ack of a device on another message server is lost with that
// server, or with the route server. The sender's ack waits no longer for it.
func TestAckLostElsewhere(t *testing.T) {
	silent := func(w *world, alice *device) {
		alice.on(func() { w.route.acking[2] = false })
	}
	for _, c := range []struct {
		name  string
		lose  func(w *world, alice *device)
		after time.Duration // the longest wait
	}{
		{"the link to the route server", func(w *world, _ *device) { w.cutRoute() }, 0},
		{"the link between two message servers", func(w *world, _ *device) {
			m := &pb.IMRoleSet{}
			m.SetMaster(0)
			m.SetLost(true)
			w.route.link.Message(w.route.s, 0, m)
		}, 0},
		{"the server of the receiver's pc", func(w *world, alice *device) {
			silent(w, alice)
			pcLeft(w, alice)
		}, 0},
		{"the server of the receiver's pc, without a route server",
			func(w *world, alice *device) {
				silent(w, alice)
				pcChanged(w, alice)
			}, 0},
		{"the server of the receiver's pc, and its phone acknowledges", pcLeft, 2 * time.Second},
		// no server is told that a phone left
		{"the server of the receiver's phone", silent, 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Presence: PresenceNone}, func(w *world) {
				w.route.acking = map[uint32]bool{2: true}
				alice := w.user(0, 1, win)
				alice.send(2, text(2, "hi"))
				alice.want()
				c.lose(w, alice)
				synctest.Wait()
				start := time.Now()
				got := alice.got()
				for ; len(got) == 0; got = alice.got() {
					time.Sleep(session.TickInterval)
				}
				if cmd := got[0].m.Command(); cmd != pb.CmdMsgDataAck {
					t.Fatalf("received %v", cmd)
				}
				d, most := time.Since(start), c.after+2*session.TickInterval
				if c.after == 0 {
					most = 0
				}
				if d < c.after-session.TickInterval || d > most {
					t.Errorf("acked after %v, want %v", d, c.after)
				}
			})
		})
	}
}

// TestAckBeforeAnswer: a device elsewhere has acknowledged a text before the answer of
// db_proxy arrives, because its server has found the text. The sender waits no longer.
func TestAckBeforeAnswer(t *testing.T) {
	inWorld(t, Options{Rate: -1, Presence: PresenceNone}, func(w *world) {
		w.route.acking = map[uint32]bool{2: true}
		alice := w.user(0, 1, win)
		w.db.hold = true
		alice.send(2, text(2, "hi"))
		w.route.link.Message(w.route.s, 0, pb.IMMsgDataAck_builder{UserId: proto.Uint32(2),
			SessionId: proto.Uint32(1), MsgId: proto.Uint32(1),
			SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build())
		alice.want()
		w.db.letGo()
		alice.want(pb.CmdMsgDataAck)
		alice.send(3, text(2, "another one"))
		alice.want()
	})
}
