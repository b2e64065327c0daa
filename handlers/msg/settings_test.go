package msg

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// settings answers as db_proxy does, with the result code given.
func settings(code uint32) func(pb.Message) (pb.Message, error) {
	return func(req pb.Message) (pb.Message, error) {
		switch m := req.(type) {
		case *pb.IMRemoveSessionReq:
			return pb.IMRemoveSessionRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				ResultCode: &code, SessionType: m.GetSessionType().Enum(),
				SessionId: proto.Uint32(m.GetSessionId()), AttachData: []byte("call")}.Build(), nil
		case *pb.IMChangeSignInfoReq:
			return pb.IMChangeSignInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				ResultCode: &code, AttachData: []byte("call")}.Build(), nil
		case *pb.IMChangeAvatarReq:
			return pb.IMChangeAvatarRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				ResultCode: &code, AttachData: []byte("call")}.Build(), nil
		case *pb.IMDeviceTokenReq:
			return pb.IMDeviceTokenRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				AttachData: []byte("call")}.Build(), nil
		case *pb.IMPushShieldReq:
			return pb.IMPushShieldRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				ResultCode: &code, AttachData: []byte("call")}.Build(), nil
		case *pb.IMQueryPushShieldReq:
			return pb.IMQueryPushShieldRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				ResultCode: &code, AttachData: []byte("call")}.Build(), nil
		case *pb.IMDepartmentReq:
			return pb.IMDepartmentRsp_builder{UserId: proto.Uint32(m.GetUserId()),
				LatestUpdateTime: proto.Uint32(7), AttachData: []byte("call")}.Build(), nil
		}
		return nil, errors.New("not a setting")
	}
}

// same fails the test unless m says the same as want.
func same(t *testing.T, m, want pb.Message) {
	t.Helper()
	a, errA := m.AppendBody(nil)
	b, errB := want.AppendBody(nil)
	if errA == nil && errB == nil && m.Command() == want.Command() && string(a) == string(b) {
		return
	}
	got, ok := m.(proto.Message)
	expected, also := want.(proto.Message)
	if !ok || !also || m.Command() != want.Command() {
		t.Errorf("got %v %v, want %v %v", m.Command(), m, want.Command(), want)
		return
	}
	t.Errorf("%v differs (-want +got):\n%s", m.Command(),
		cmp.Diff(expected, got, protocmp.Transform()))
}

// TestSettingsAreAsked: every setting reaches db_proxy under the id of the user that is
// logged in, and its answer the client that asked, under its seq and without the fields
// of servers.
func TestSettingsAreAsked(t *testing.T) {
	const liar = 99
	for _, m := range []pb.Attachment{
		pb.IMRemoveSessionReq_builder{UserId: proto.Uint32(liar),
			SessionType: pb.SessionType_SESSION_TYPE_GROUP.Enum(),
			SessionId:   proto.Uint32(5)}.Build(),
		pb.IMChangeSignInfoReq_builder{UserId: proto.Uint32(liar),
			SignInfo: proto.String("busy")}.Build(),
		pb.IMChangeAvatarReq_builder{UserId: proto.Uint32(liar),
			AvatarUrl: proto.String("http://x")}.Build(),
		pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(liar), DeviceToken: proto.String("abc"),
			ClientType: win.Enum()}.Build(),
		pb.IMPushShieldReq_builder{UserId: proto.Uint32(liar),
			ShieldStatus: proto.Uint32(1)}.Build(),
		pb.IMQueryPushShieldReq_builder{UserId: proto.Uint32(liar)}.Build(),
		pb.IMDepartmentReq_builder{UserId: proto.Uint32(liar),
			LatestUpdateTime: proto.Uint32(0)}.Build(),
	} {
		t.Run(m.Command().String(), func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				d := w.user(0, 1, android)
				w.db.also, w.db.asked = settings(0), nil
				m.SetAttachData([]byte("mine"))
				d.send(21, m)
				got := d.want(m.Command() + 1)
				if got[0].seq != 21 || got[0].m.(pb.Attachment).HasAttachData() {
					t.Errorf("answer with seq %d, attach_data %v", got[0].seq,
						got[0].m.(pb.Attachment).HasAttachData())
				}
				asked := w.db.asked[len(w.db.asked)-1]
				if asked.(interface{ GetUserId() uint32 }).GetUserId() != 1 {
					t.Errorf("db_proxy was told %v", asked)
				}
				if token, ok := asked.(*pb.IMDeviceTokenReq); ok &&
					token.GetClientType() != android {
					t.Errorf("token of client type %v, want that of the connection",
						token.GetClientType())
				}
				w.db.also = func(pb.Message) (pb.Message, error) { return nil, errors.New("lost") }
				d.send(22, m)
				d.want() // nothing is made up
			})
		})
	}
}

func TestDeviceTokenOfPC(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, mac)
		w.db.also, w.db.asked = settings(0), nil
		d.send(2, pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(1),
			DeviceToken: proto.String("abc")}.Build())
		d.want()
		if len(w.db.asked) != 0 {
			t.Error("a pc client's token was stored")
		}
	})
}

// TestRemovedSession: the user's other devices hear of it, here and elsewhere, when
// db_proxy has removed it, and only then.
func TestRemovedSession(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone, other := w.user(0, 1, win), w.user(1, 1, ios), w.user(0, 2, win)
		w.route.take()
		group := pb.SessionType_SESSION_TYPE_GROUP
		req := pb.IMRemoveSessionReq_builder{UserId: proto.Uint32(1), SessionType: group.Enum(),
			SessionId: proto.Uint32(5)}.Build()
		w.db.also = settings(1)
		pc.send(2, req)
		pc.want(pb.CmdRemoveSessionRsp)
		phone.want()
		if got := w.route.take(); len(got) != 0 {
			t.Errorf("route heard %v of a removal that failed", got)
		}
		w.db.also = settings(0)
		pc.send(3, req)
		pc.want(pb.CmdRemoveSessionRsp)
		notify := pb.IMRemoveSessionNotify_builder{UserId: proto.Uint32(1),
			SessionType: group.Enum(), SessionId: proto.Uint32(5)}.Build()
		got := phone.want(pb.CmdRemoveSessionNotify)
		same(t, got[0].m, notify)
		if got[0].seq != 0 {
			t.Errorf("notify with seq %d", got[0].seq)
		}
		routed := w.route.take()
		if len(routed) != 1 {
			t.Fatalf("route heard %v", routed)
		}
		same(t, routed[0].m, notify)
		// From another server: for all devices of the user.
		w.h.RouteLink().Message(w.route.s, 0, notify)
		pc.want(pb.CmdRemoveSessionNotify)
		phone.want(pb.CmdRemoveSessionNotify)
		other.want()
	})
}

// profileChange is a change of a user that all clients are told of.
type profileChange struct {
	req, notify pb.Message
	others      []pb.Command // what the user's other devices get of the answer
}

// TestChangesForEverybody: sign info and avatar are told to all clients, phones too, by
// way of the route server, and without one to those here.
func TestChangesForEverybody(t *testing.T) {
	sign := pb.IMSignInfoChangedNotify_builder{ChangedUserId: proto.Uint32(1),
		SignInfo: proto.String("busy")}.Build()
	avatar := pb.IMAvatarChangedNotify_builder{ChangedUserId: proto.Uint32(1),
		AvatarUrl: proto.String("http://x")}.Build()
	for _, test := range []profileChange{
		{pb.IMChangeSignInfoReq_builder{UserId: proto.Uint32(1),
			SignInfo: proto.String("busy")}.Build(), sign, nil},
		{pb.IMChangeAvatarReq_builder{UserId: proto.Uint32(1),
			AvatarUrl: proto.String("http://x")}.Build(), avatar, []pb.Command{pb.CmdChangeAvatarRsp}},
	} {
		t.Run(test.notify.Command().String(), func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) { test.run(t, w) })
		})
	}
}

func (c *profileChange) run(t *testing.T, w *world) {
	answer, told := c.req.Command()+1, c.notify.Command()
	pc, phone, other := w.user(0, 1, win), w.user(1, 1, ios), w.user(0, 2, android)
	w.connect(1) // not logged in: hears nothing
	w.route.take()
	w.db.also = settings(1)
	pc.send(2, c.req)
	pc.want(answer)
	w.settle()
	phone.want()
	if got := w.route.take(); len(got) != 0 {
		t.Errorf("route heard %v of a change that failed", got)
	}

	w.db.also = settings(0)
	pc.send(3, c.req)
	pc.want(answer)
	for _, got := range phone.want(c.others...) {
		if got.seq != 0 {
			t.Errorf("the other device got the answer with seq %d", got.seq)
		}
	}
	routed := w.route.take()
	if len(routed) != 1 {
		t.Fatalf("route heard %v", routed)
	}
	same(t, routed[0].m, c.notify)
	w.settle()
	other.want() // it comes back from the route server, or not at all

	w.h.RouteLink().Message(w.route.s, 0, routed[0].m)
	w.settle()
	for _, d := range []*device{pc, phone, other} {
		same(t, d.want(told)[0].m, c.notify)
	}

	w.route.setFull(true)
	pc.send(4, c.req)
	w.settle()
	pc.want(answer, told)
	phone.want(append(c.others, told)...)
	other.want(told)
}

func p2p(to uint32, body string) *pb.IMP2PCmdMsg {
	return pb.IMP2PCmdMsg_builder{FromUserId: proto.Uint32(99), ToUserId: &to,
		CmdMsgData: &body}.Build()
}

// TestP2P: a command goes to all devices of both users but the one that sent it, and to
// the route server. Its seq stays behind: Windows would read the frame as the answer to
// its login.
func TestP2P(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		pc, phone, peer, other := w.user(0, 1, win), w.user(1, 1, ios), w.user(0, 2, win),
			w.user(1, 3, win)
		w.route.take()
		pc.send(8, p2p(2, "typing"))
		want := pb.IMP2PCmdMsg_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(2),
			CmdMsgData: proto.String("typing")}.Build()
		pc.want()
		other.want()
		for _, d := range []*device{phone, peer} {
			got := d.want(pb.CmdP2PCmdMsg)
			same(t, got[0].m, want)
			if got[0].seq != 0 {
				t.Errorf("seq %d, want 0", got[0].seq)
			}
		}
		routed := w.route.take()
		if len(routed) != 1 || routed[0].seq != 0 {
			t.Fatalf("route heard %v", routed)
		}
		same(t, routed[0].m, want)
		w.h.RouteLink().Message(w.route.s, 9, want)
		for _, d := range []*device{pc, phone, peer} {
			if got := d.want(pb.CmdP2PCmdMsg); got[0].seq != 0 {
				t.Errorf("from another server: seq %d, want 0", got[0].seq)
			}
		}
		other.want()
		pc.send(9, p2p(1, "to myself"))
		phone.want(pb.CmdP2PCmdMsg) // once
		pc.want()
	})
}

func TestP2PBounds(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		pc, peer := w.user(0, 1, win), w.user(0, 2, win)
		pc.send(1, p2p(2, strings.Repeat("x", maxP2P+1)))
		peer.want()
		pc.send(1, p2p(2, strings.Repeat("x", maxP2P)))
		peer.want(pb.CmdP2PCmdMsg)
		for range 100 {
			pc.send(1, p2p(2, "typing"))
		}
		if n := len(peer.got()); n != p2pBurst-2 {
			t.Errorf("%d commands of a burst passed on, want %v", n, p2pBurst-2)
		}
		dropped := func(reason string) float64 { return w.counted("p2p_dropped_total", reason) }
		if long, rate := dropped("too_long"), dropped("rate"); long != 1 || rate != 62 {
			t.Errorf("dropped: %v too long, %v above the rate", long, rate)
		}
		if pc.isClosed() {
			t.Error("closed")
		}
	})
}

// TestStatusQueriesAreBounded: about how many users one connection may wait to hear.
func TestStatusQueriesAreBounded(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d, other := w.user(0, 1, win), w.user(0, 2, win)
		ask := func(d *device, n int) int {
			before := len(w.route.questions)
			d.send(2, pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
				UserIdList: make([]uint32, n),
				SameClass:  win.Enum(), Scope: pb.DeviceScope_DEVICE_SCOPE_ANY.Enum()}.Build())
			return len(w.route.questions) - before
		}
		if ask(d, maxStats+1) != 0 {
			t.Error("a query about too many was passed on")
		}
		w.route.hold = true
		if ask(d, maxStats-1) != 1 || ask(d, 2) != 0 || ask(d, 1) != 1 || ask(other, 2) != 1 {
			t.Error("the bound is not the number of users waited for, by connection")
		}
		q := w.route.questions[0]
		if q.HasSameClass() || q.HasScope() || w.route.questions[0].GetUserId() != 1 {
			t.Error("passed on as it came")
		}
		w.route.letGo()
		d.want(pb.CmdUsersStatRsp, pb.CmdUsersStatRsp)
		if ask(d, maxStats) != 1 {
			t.Error("answers do not make room")
		}
	})
}

// settle lets what is collected be told.
func (w *world) settle() {
	time.Sleep(2 * w.h.opt.PresenceWindow) // virtual time
	synctest.Wait()
}

// TestStatusAnswerFitsAFrame: the answer about as many users as a client may ask about passes
// a link with the lowest link.max_frame, and a client with the default msg.max_frame.
func TestStatusAnswerFitsAFrame(t *testing.T) {
	var list []*pb.UserStat
	for i := range uint32(maxStats) {
		list = append(list, pb.UserStat_builder{UserId: proto.Uint32(1<<32 - 1 - i),
			Status: statOnline.Enum()}.Build())
	}
	frame, err := pdu.Append(nil, 1, pb.IMUsersStatRsp_builder{UserId: proto.Uint32(1<<32 - 1),
		UserStatList: list}.Build())
	if err != nil || len(frame) > 1<<20 {
		t.Errorf("%d bytes, %v", len(frame), err)
	}
}
