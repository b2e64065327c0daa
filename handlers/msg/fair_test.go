package msg

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// ahead returns the numbers of queries, texts and read acks that other servers have got.
func (w *world) ahead() (queries, texts, reads int) {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	for _, m := range w.db.asked {
		if m.Command() == pb.CmdMsgData {
			texts++
		} else {
			queries++
		}
	}
	return queries + len(w.route.questions), texts, len(w.db.sent)
}

// everything returns one of each request that another server answers, or hears of.
func everything(i uint32) []pb.Message {
	one := proto.Uint32(1)
	group := pb.SessionType_SESSION_TYPE_GROUP.Enum()
	return []pb.Message{
		pb.IMUnreadMsgCntReq_builder{UserId: one}.Build(),
		pb.IMGetMsgListReq_builder{UserId: one, SessionType: group, SessionId: &i,
			MsgIdBegin: one, MsgCnt: proto.Uint32(math.MaxUint32)}.Build(),
		pb.IMGetMsgByIdReq_builder{UserId: one, SessionType: group, SessionId: &i,
			MsgIdList: make([]uint32, 1000)}.Build(),
		pb.IMGetLatestMsgIdReq_builder{UserId: one, SessionType: group, SessionId: &i}.Build(),
		pb.IMRecentContactSessionReq_builder{UserId: one,
			LatestUpdateTime: proto.Uint32(0)}.Build(),
		pb.IMAllUserReq_builder{UserId: one, LatestUpdateTime: proto.Uint32(1)}.Build(),
		pb.IMAllUserReq_builder{UserId: one, LatestUpdateTime: proto.Uint32(0)}.Build(),
		pb.IMUsersInfoReq_builder{UserId: one, UserIdList: make([]uint32, 1000)}.Build(),
		pb.IMUsersStatReq_builder{UserId: one, UserIdList: make([]uint32, 1000)}.Build(),
		pb.IMGroupChangeMemberReq_builder{UserId: one, GroupId: &i,
			ChangeType:   pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD.Enum(),
			MemberIdList: []uint32{2}}.Build(),
		pb.IMGroupCreateReq_builder{UserId: one, GroupName: proto.String("g"),
			GroupType:   pb.GroupType_GROUP_TYPE_TMP.Enum(),
			GroupAvatar: proto.String(""), MemberIdList: []uint32{1, 2}}.Build(),
		pb.IMChangeSignInfoReq_builder{UserId: one, SignInfo: proto.String("x")}.Build(),
		pb.IMRemoveSessionReq_builder{UserId: one, SessionType: group, SessionId: &i}.Build(),
		pb.IMMsgDataReadAck_builder{UserId: one, SessionId: &i, MsgId: &i,
			SessionType: group}.Build(),
		pb.IMFileHasOfflineReq_builder{UserId: one}.Build(),
		p2p(2, "typing"), text(2, fmt.Sprint(i)),
	}
}

// TestFewRequestsOfAFlooderAreAhead: while a client sends requests of every kind without
// end, few of them are at other servers, ahead of the login and the text of another client.
func TestFewRequestsOfAFlooderAreAhead(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		flooder := w.user(0, 1, win)
		w.db.mu.Lock()
		w.db.hold = true
		w.db.mu.Unlock()
		w.route.hold = true
		before, _, _ := w.ahead()
		seq := uint16(0)
		for i := range uint32(100) {
			for _, m := range everything(i) {
				seq++
				flooder.send(seq, m)
			}
		}
		queries, texts, reads := w.ahead()
		// Texts and read acks have rates of their own. A query passes on the acks that wait.
		if queries-before != maxAsked || float64(texts) > w.h.opt.RateBurst ||
			reads > readBurst+maxHeldReads {
			t.Errorf("%d queries, %d texts and %d read acks are ahead",
				queries-before, texts, reads)
		}
		victim := w.connect(0)
		victim.send(1, loginReq(2, win))
		if n, _, _ := w.ahead(); n != queries+1 {
			t.Errorf("%d requests for a login", n-queries)
		}
		w.db.letGo()
		w.route.letGo()
		if got := victim.got(); len(got) == 0 || got[0].m.Command() != pb.CmdLoginRes {
			t.Fatalf("login answered with %v", got)
		}
		victim.send(2, text(3, "hello"))
		if got := victim.got(); len(got) == 0 || got[0].m.Command() != pb.CmdMsgDataAck {
			t.Errorf("text answered with %v", got)
		}
	})
}

// TestSlowClientGetsPagesInTurn: a client that asks for four pages of sounds at once and
// reads slowly gets them one after another.
func TestSlowClientGetsPagesInTurn(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.asksForPages()
		var got []received
		for n := 0; len(got) < 4 && n < 4*200; n++ { // pieces of 128 KiB
			if d.isClosed() {
				t.Fatalf("closed after %d pages", len(got))
			}
			got = append(got, d.got()...)
			d.buffered.Store(0) // the client reads
			time.Sleep(session.TickInterval)
			synctest.Wait()
		}
		if len(got) != 4 {
			t.Fatalf("%d pages", len(got))
		}
		for i, r := range got {
			if r.seq != uint16(i+1) {
				t.Errorf("page %d is the answer to request %d", i+1, r.seq)
			}
		}
		if n := w.counted("queries_repeated_total"); n == 0 {
			t.Error("the answers fit at once: the test is void")
		}
	})
}

// asksForPages returns a client that has asked for four pages of 10 MiB of sounds, and has
// not read yet.
func (w *world) asksForPages() *device {
	d := w.user(0, 1, win)
	sound := make([]byte, im.MaxAudio)
	w.db.also = func(req pb.Message) (pb.Message, error) {
		m, ok := req.(*pb.IMGetMsgListReq)
		if !ok {
			return nil, nil
		}
		var list []*pb.MsgInfo
		for i := range uint32(10 << 20 / im.MaxAudio) {
			list = append(list, pb.MsgInfo_builder{MsgId: proto.Uint32(i + 1),
				FromSessionId: proto.Uint32(2), CreateTime: proto.Uint32(1),
				MsgType: pb.MsgType_MSG_TYPE_SINGLE_AUDIO.Enum(), MsgData: sound}.Build())
		}
		return pb.IMGetMsgListRsp_builder{UserId: proto.Uint32(1),
			SessionType: inSingle.Enum(), SessionId: proto.Uint32(m.GetSessionId()),
			MsgIdBegin: proto.Uint32(0), MsgList: list}.Build(), nil
	}
	d.stuck.Store(true)
	for seq := range uint16(4) {
		d.send(seq+1, pb.IMGetMsgListReq_builder{UserId: proto.Uint32(1),
			SessionType: inSingle.Enum(), SessionId: proto.Uint32(2),
			MsgIdBegin: proto.Uint32(0), MsgCnt: proto.Uint32(100)}.Build())
	}
	return d
}

// TestDrainDoesNotWaitForAReader: requests that wait until their client has read do not
// keep the server from stopping.
func TestDrainDoesNotWaitForAReader(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.asksForPages()
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		if err := w.drains(ctx)(); err != nil {
			t.Error(err)
		}
	})
}

// TestProfileChangesAreRated: a sign info and an avatar are told to everybody, so a user
// changes them a few times a minute, also on a new connection.
func TestProfileChangesAreRated(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		changed := 0
		w.db.also = func(req pb.Message) (pb.Message, error) {
			switch req.(type) {
			case *pb.IMChangeSignInfoReq:
				changed++
				return pb.IMChangeSignInfoRsp_builder{UserId: proto.Uint32(1),
					ResultCode: proto.Uint32(0)}.Build(), nil
			case *pb.IMChangeAvatarReq:
				changed++
				return pb.IMChangeAvatarRsp_builder{UserId: proto.Uint32(1),
					ResultCode: proto.Uint32(0)}.Build(), nil
			}
			return nil, nil
		}
		refused := 0
		for range 5 {
			d := w.user(0, 1, win)
			for range 2 {
				for _, m := range []pb.Message{
					pb.IMChangeSignInfoReq_builder{UserId: proto.Uint32(1),
						SignInfo: proto.String("x")}.Build(),
					pb.IMChangeAvatarReq_builder{UserId: proto.Uint32(1),
						AvatarUrl: proto.String("x")}.Build()} {
					d.send(2, m)
				}
			}
			for _, r := range d.got() {
				switch m := r.m.(type) {
				case *pb.IMChangeSignInfoRsp:
					refused += int(m.GetResultCode())
				case *pb.IMChangeAvatarRsp:
					refused += int(m.GetResultCode())
				}
			}
			d.on(d.Close)
		}
		if changed != profileBurst || refused != 20-profileBurst {
			t.Errorf("%d changes made and %d refused of 20, want %d and %d", changed, refused,
				profileBurst, 20-profileBurst)
		}
		time.Sleep(time.Minute)
		d := w.user(0, 1, win)
		d.send(2, pb.IMChangeSignInfoReq_builder{UserId: proto.Uint32(1),
			SignInfo: proto.String("x")}.Build())
		if changed != profileBurst+1 {
			t.Error("no change a minute later")
		}
	})
}
