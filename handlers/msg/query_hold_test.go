package msg

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// queries are the commands that read what db_proxy has, each with its answer.
func queries() map[string][2]pb.Message {
	user, zero, one := proto.Uint32(1), proto.Uint32(0), pb.SessionType_SESSION_TYPE_SINGLE
	return map[string][2]pb.Message{
		"history": {pb.IMGetMsgListReq_builder{UserId: user, SessionType: one.Enum(),
			SessionId: proto.Uint32(2), MsgIdBegin: zero, MsgCnt: proto.Uint32(5)}.Build(),
			pb.IMGetMsgListRsp_builder{UserId: user, SessionType: one.Enum(),
				SessionId: proto.Uint32(2), MsgIdBegin: zero}.Build()},
		"by id": {pb.IMGetMsgByIdReq_builder{UserId: user, SessionType: one.Enum(),
			SessionId: proto.Uint32(2), MsgIdList: []uint32{1}}.Build(),
			pb.IMGetMsgByIdRsp_builder{UserId: user, SessionType: one.Enum(),
				SessionId: proto.Uint32(2)}.Build()},
		"newest id": {pb.IMGetLatestMsgIdReq_builder{UserId: user, SessionType: one.Enum(),
			SessionId: proto.Uint32(2)}.Build(),
			pb.IMGetLatestMsgIdRsp_builder{UserId: user, SessionType: one.Enum(),
				SessionId: proto.Uint32(2), LatestMsgId: user}.Build()},
		"unread": {pb.IMUnreadMsgCntReq_builder{UserId: user}.Build(),
			pb.IMUnreadMsgCntRsp_builder{UserId: user, TotalCnt: zero}.Build()},
		"contacts": {pb.IMRecentContactSessionReq_builder{UserId: user,
			LatestUpdateTime: zero}.Build(),
			pb.IMRecentContactSessionRsp_builder{UserId: user}.Build()},
		"users": {pb.IMUsersInfoReq_builder{UserId: user, UserIdList: []uint32{2}}.Build(),
			pb.IMUsersInfoRsp_builder{UserId: user}.Build()},
		"all users": {pb.IMAllUserReq_builder{UserId: user, LatestUpdateTime: zero}.Build(),
			pb.IMAllUserRsp_builder{UserId: user, LatestUpdateTime: zero}.Build()},
		"changed users": {pb.IMAllUserReq_builder{UserId: user, LatestUpdateTime: user}.Build(),
			pb.IMAllUserRsp_builder{UserId: user, LatestUpdateTime: user}.Build()},
		"departments": {pb.IMDepartmentReq_builder{UserId: user, LatestUpdateTime: zero}.Build(),
			pb.IMDepartmentRsp_builder{UserId: user, LatestUpdateTime: zero}.Build()},
		"groups": {pb.IMNormalGroupListReq_builder{UserId: user}.Build(),
			pb.IMNormalGroupListRsp_builder{UserId: user}.Build()},
		"group": {pb.IMGroupInfoListReq_builder{UserId: user}.Build(),
			pb.IMGroupInfoListRsp_builder{UserId: user}.Build()},
		"shield": {pb.IMQueryPushShieldReq_builder{UserId: user}.Build(),
			pb.IMQueryPushShieldRsp_builder{UserId: user, ResultCode: zero}.Build()},
		"files": {pb.IMFileHasOfflineReq_builder{UserId: user}.Build(),
			pb.IMFileHasOfflineRsp_builder{UserId: user}.Build()},
	}
}

var (
	errNoneUp   = im.WithKind(im.Unavailable, "no dbproxy is up", link.ErrNotSent)
	errLinkDied = im.Errorf(im.Unavailable, "link to dbproxy is down")
)

// setDown makes a db_proxy that refuses all calls, or that answers all with rsp.
func (db *dbStand) setDown(down bool, rsp pb.Message) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.down = down
	db.also = func(pb.Message) (pb.Message, error) {
		if down {
			return nil, errNoneUp
		}
		return rsp, nil
	}
}

// wantNoneHeld checks that no query is held.
func wantNoneHeld(w *world) {
	w.t.Helper()
	synctest.Wait()
	if n := w.counted("queries_held_waiting"); n != 0 {
		w.t.Errorf("%v queries are held", n)
	}
	for _, l := range w.h.allLoops() {
		if n := kept(w.t, passingLoop(l), "held"); n != 0 {
			w.t.Errorf("%d queries are kept", n)
		}
	}
}

// TestQueryMeetsNoDBProxy: a query waits until a db_proxy takes requests, and is answered
// then, without another one from the client.
func TestQueryMeetsNoDBProxy(t *testing.T) {
	for name, q := range queries() {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				alice := w.user(0, 1, android)
				w.db.setDown(true, q[1])
				alice.got()
				alice.send(7, q[0])
				time.Sleep(3 * time.Second)
				alice.want()
				w.db.setDown(false, q[1])
				time.Sleep(2 * session.TickInterval)
				if got := alice.want(q[1].Command()); got[0].seq != 7 {
					t.Errorf("answered with seq %d", got[0].seq)
				}
				wantNoneHeld(w)
			})
		})
	}
}

// TestQueryLosesDBProxy: a query whose db_proxy dies before the answer is sent again, and so
// is one that a db_proxy refuses because its store fails.
func TestQueryLosesDBProxy(t *testing.T) {
	refused := im.WithKind(im.Unavailable, "refused", &link.Refusal{Reason: "no store"})
	for name, err := range map[string]error{"lost": errLinkDied, "refused": refused,
		"shut down": im.Errorf(im.Closed, "link closed"),
		"busy":      im.Errorf(im.Busy, "queue full")} {
		t.Run(name, func(t *testing.T) {
			for name, q := range queries() {
				inWorld(t, Options{}, func(w *world) {
					alice, asked := w.user(0, 1, android), 0
					w.db.also = func(pb.Message) (pb.Message, error) {
						if asked++; asked <= 3 {
							return nil, err
						}
						return q[1], nil
					}
					alice.got()
					alice.send(7, q[0])
					time.Sleep(1500 * time.Millisecond)
					if got := alice.got(); len(got) != 1 ||
						got[0].m.Command() != q[1].Command() {
						t.Errorf("%s: received %v after %d attempts", name, got, asked)
					}
				})
			}
		})
	}
}

// TestStatusQueryLosesRoute: as TestQueryLosesDBProxy, of a query for route_server.
func TestStatusQueryLosesRoute(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice := w.user(0, 1, android)
		alice.got()
		w.route.lost = 2
		alice.send(7, pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
			UserIdList: []uint32{2}}.Build())
		time.Sleep(time.Second)
		alice.want(pb.CmdUsersStatRsp)
	})
}

// TestWriteIsSentOnce: a request that changes something is not sent again.
func TestWriteIsSentOnce(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice, asked := w.user(0, 1, android), 0
		w.db.also = func(pb.Message) (pb.Message, error) {
			asked++
			return nil, errLinkDied
		}
		user, one := proto.Uint32(1), pb.SessionType_SESSION_TYPE_SINGLE
		writes := []pb.Message{
			pb.IMGroupCreateReq_builder{UserId: user, GroupName: proto.String("g"),
				GroupType:   pb.GroupType_GROUP_TYPE_TMP.Enum(),
				GroupAvatar: proto.String(""), MemberIdList: []uint32{1, 2}}.Build(),
			pb.IMRemoveSessionReq_builder{UserId: user, SessionType: one.Enum(),
				SessionId: proto.Uint32(2)}.Build(),
			pb.IMChangeSignInfoReq_builder{UserId: user, SignInfo: proto.String("x")}.Build(),
			pb.IMChangeAvatarReq_builder{UserId: user, AvatarUrl: proto.String("x")}.Build(),
			pb.IMPushShieldReq_builder{UserId: user, ShieldStatus: user}.Build(),
			pb.IMGroupShieldReq_builder{UserId: user, GroupId: user,
				ShieldStatus: user}.Build(),
			pb.IMDeviceTokenReq_builder{UserId: user, DeviceToken: proto.String("x")}.Build(),
		}
		for i, m := range writes {
			alice.send(uint16(10+i), m)
		}
		time.Sleep(10 * time.Second)
		if asked != len(writes) {
			t.Errorf("%d requests were sent %d times", len(writes), asked)
		}
	})
}

// TestQueryHeldTooLong: a query is given up after Hold, and counted for each client. It was
// sent to no db_proxy that takes no requests.
func TestQueryHeldTooLong(t *testing.T) {
	inWorld(t, Options{Hold: 3 * time.Second}, func(w *world) {
		alice, bob := w.user(0, 1, android), w.user(1, 2, win)
		w.db.setDown(true, nil)
		alice.got()
		bob.got()
		before := len(w.db.asked)
		alice.send(7, queries()["history"][0])
		bob.send(8, queries()["all users"][0])
		time.Sleep(2900 * time.Millisecond)
		if n := w.counted("queries_held_waiting"); n != 2 {
			t.Errorf("%v queries are held, want 2", n)
		}
		time.Sleep(time.Second)
		wantNoneHeld(w)
		if n := w.counted("queries_failed_total", "hold_expired"); n != 2 {
			t.Errorf("%v queries counted as expired, want 2", n)
		}
		if n := len(w.db.asked) - before; n != 2 {
			t.Errorf("2 queries were sent %d times", n)
		}
		w.db.setDown(false, queries()["history"][1])
		alice.send(9, queries()["history"][0])
		alice.want(pb.CmdGetMsgListRsp)
	})
}

// TestQueryHoldOff: without Hold, a query that meets no db_proxy ends at once.
func TestQueryHoldOff(t *testing.T) {
	inWorld(t, Options{Hold: -1}, func(w *world) {
		alice := w.user(0, 1, android)
		w.db.setDown(true, nil)
		alice.send(7, queries()["history"][0])
		wantNoneHeld(w)
		if n := w.counted("queries_failed_total", im.Unavailable.String()); n != 1 {
			t.Errorf("%v queries failed, want 1", n)
		}
	})
}

// TestQueryHeldOfClientGone: a query of a client that is gone is given up. One for which
// other clients wait is not. Queries that are held keep no server from its end.
func TestQueryHeldOfClientGone(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice, bob := w.user(0, 1, android), w.user(1, 2, win)
		w.db.setDown(true, nil)
		bob.got()
		alice.send(7, queries()["history"][0])
		alice.send(8, queries()["all users"][0])
		bob.send(9, queries()["all users"][0])
		alice.hangUp()
		time.Sleep(2 * session.TickInterval)
		if n := w.counted("queries_failed_total", "client_gone"); n != 1 {
			t.Errorf("%v queries counted as of a client that is gone, want 1", n)
		}
		w.db.setDown(false, queries()["all users"][1])
		time.Sleep(2 * session.TickInterval)
		bob.want(pb.CmdAllUserRsp)
		wantNoneHeld(w)
		w.db.setDown(true, nil)
		bob.send(10, queries()["history"][0])
		ctx, cancel := context.WithCancel(context.Background())
		drained := w.drains(ctx)
		time.Sleep(time.Second)
		bob.wantEnd(true)
		cancel()
		_ = drained()
	})
}

// TestQueriesHeldAreBounded: of more queries than may be held, the newest are given up and
// counted.
func TestQueriesHeldAreBounded(t *testing.T) {
	inWorld(t, Options{Policy: Unlimited}, func(w *world) {
		ids := make([]uint32, 10_000) // 60 kB, as ids
		for i := range ids {
			ids[i] = 1 << 31
		}
		big := pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1), UserIdList: ids}.Build()
		size := proto.Size(big)
		n := 33 << 20 / size
		var clients []*device
		for range n {
			clients = append(clients, w.user(0, 1, android))
		}
		w.db.setDown(true, nil)
		for _, c := range clients {
			c.send(2, big)
		}
		held, full := w.counted("queries_held_waiting"),
			w.counted("queries_failed_total", "hold_full")
		if held*float64(size) > (32-8)<<20 || full == 0 || int(held+full) != n {
			t.Errorf("%v of %d queries of %d bytes are held, %v given up", held, n, size, full)
		}
		clients[0].send(3, history(0))
		if n := w.counted("queries_held_waiting"); n != held+1 {
			t.Error("long queries leave no room for a short one")
		}
		time.Sleep(10 * time.Second)
		wantNoneHeld(w)
	})
}
