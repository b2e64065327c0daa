package msg

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

// frameLen is the length of the frame of m.
func frameLen(t *testing.T, m pb.Message) int {
	t.Helper()
	b, err := pdu.Append(nil, 0, m)
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}

// fullUser is a row of a directory with every field as long as its column, in characters
// of three bytes.
func fullUser(id uint32) *pb.UserInfo {
	long := func(n int) *string { return proto.String(strings.Repeat("长", n)) }
	return pb.UserInfo_builder{UserId: &id, UserGender: new(uint32(1)), UserNickName: long(32),
		AvatarUrl: long(255), DepartmentId: new(uint32(math.MaxUint32)),
		Email: long(64), UserRealName: long(32), UserTel: long(11), UserDomain: long(32),
		Status: new(uint32(0)), SignInfo: long(128)}.Build()
}

// sounds is the newest of a conversation's messages: sounds of so many bytes.
func sounds(n, size int) []*pb.MsgInfo {
	list := make([]*pb.MsgInfo, n)
	for i := range list {
		list[i] = pb.MsgInfo_builder{MsgId: proto.Uint32(uint32(1000 - i)),
			FromSessionId: new(uint32(2)), CreateTime: new(uint32(3)),
			MsgType: pb.MsgType_MSG_TYPE_SINGLE_AUDIO.Enum(), MsgData: make([]byte, size)}.Build()
	}
	return list
}

// longAnswers are an answer of each kind that may be too long for Android, and the ids in
// its list.
func longAnswers() map[string]struct {
	req pb.Attachment
	rsp pb.Attachment
	ids func(m pb.Message) []uint32
} {
	type answer = struct {
		req pb.Attachment
		rsp pb.Attachment
		ids func(m pb.Message) []uint32
	}
	me := proto.Uint32(1)
	users := make([]*pb.UserInfo, 10_000)
	departs := make([]*pb.DepartInfo, 10_000)
	stats := make([]*pb.UserStat, 50_000)
	groups := make([]*pb.GroupVersionInfo, 50_000)
	for i := range users {
		users[i] = fullUser(uint32(i))
		departs[i] = pb.DepartInfo_builder{DeptId: proto.Uint32(uint32(i)), Priority: me,
			DeptName: proto.String(strings.Repeat("部", 64)), ParentDeptId: me,
			DeptStatus: pb.DepartmentStatusType_DEPT_STATUS_OK.Enum()}.Build()
	}
	for i := range stats {
		stats[i] = pb.UserStat_builder{UserId: proto.Uint32(uint32(i)),
			Status: pb.UserStatType_USER_STATUS_ONLINE.Enum()}.Build()
		groups[i] = pb.GroupVersionInfo_builder{GroupId: proto.Uint32(math.MaxUint32 - uint32(i)),
			Version: me}.Build()
	}
	infos := make([]*pb.GroupInfo, 20)
	members := make([]uint32, im.MaxGroupMembers)
	for i := range members {
		members[i] = math.MaxUint32 - uint32(i)
	}
	for i := range infos {
		infos[i] = groupInfo(uint32(i), &dbGroup{members: members})
	}
	recent := make([]*pb.ContactSessionInfo, 150)
	unread := make([]*pb.UnreadInfo, 150)
	text := bytes.Repeat([]byte("x"), im.MaxContent)
	typ := pb.SessionType_SESSION_TYPE_SINGLE.Enum()
	for i := range recent {
		id := proto.Uint32(uint32(i))
		recent[i] = pb.ContactSessionInfo_builder{SessionId: id, SessionType: typ,
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(), UpdatedTime: me,
			LatestMsgId: me, LatestMsgData: text,
			LatestMsgType:       pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum(),
			LatestMsgFromUserId: me}.Build()
		unread[i] = pb.UnreadInfo_builder{SessionId: id, SessionType: typ, UnreadCnt: me,
			LatestMsgId: me, LatestMsgData: text,
			LatestMsgType: pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum(), LatestMsgFromUserId: me}.Build()
	}
	files := make([]*pb.OfflineFileInfo, 500)
	for i := range files {
		files[i] = pb.OfflineFileInfo_builder{FromUserId: proto.Uint32(uint32(i)),
			TaskId: proto.String("t"), FileName: proto.String(strings.Repeat("文",
				300)), FileSize: me}.Build()
	}
	messages := func(list []*pb.MsgInfo) []uint32 {
		return idsOf(list, (*pb.MsgInfo).GetMsgId)
	}
	return map[string]answer{
		"users": {pb.IMAllUserReq_builder{UserId: me, LatestUpdateTime: proto.Uint32(0)}.Build(),
			pb.IMAllUserRsp_builder{UserId: me, LatestUpdateTime: proto.Uint32(77),
				UserList: users}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMAllUserRsp).GetUserList(), (*pb.UserInfo).GetUserId)
			}},
		"users since": {pb.IMAllUserReq_builder{UserId: me,
			LatestUpdateTime: proto.Uint32(5)}.Build(),
			pb.IMAllUserRsp_builder{UserId: me, LatestUpdateTime: proto.Uint32(77),
				UserList: users}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMAllUserRsp).GetUserList(), (*pb.UserInfo).GetUserId)
			}},
		"departments": {pb.IMDepartmentReq_builder{UserId: me,
			LatestUpdateTime: proto.Uint32(0)}.Build(),
			pb.IMDepartmentRsp_builder{UserId: me, LatestUpdateTime: proto.Uint32(77),
				DeptList: departs}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMDepartmentRsp).GetDeptList(), (*pb.DepartInfo).GetDeptId)
			}},
		"users by id": {pb.IMUsersInfoReq_builder{UserId: me}.Build(),
			pb.IMUsersInfoRsp_builder{UserId: me, UserInfoList: users[:1000]}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMUsersInfoRsp).GetUserInfoList(), (*pb.UserInfo).GetUserId)
			}},
		"conversations": {pb.IMRecentContactSessionReq_builder{UserId: me,
			LatestUpdateTime: me}.Build(),
			pb.IMRecentContactSessionRsp_builder{UserId: me, ContactSessionList: recent}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMRecentContactSessionRsp).GetContactSessionList(),
					(*pb.ContactSessionInfo).GetSessionId)
			}},
		"unread": {pb.IMUnreadMsgCntReq_builder{UserId: me}.Build(),
			pb.IMUnreadMsgCntRsp_builder{UserId: me, TotalCnt: me, UnreadinfoList: unread}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMUnreadMsgCntRsp).GetUnreadinfoList(),
					(*pb.UnreadInfo).GetSessionId)
			}},
		"groups": {pb.IMNormalGroupListReq_builder{UserId: me}.Build(),
			pb.IMNormalGroupListRsp_builder{UserId: me, GroupVersionList: groups}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMNormalGroupListRsp).GetGroupVersionList(),
					(*pb.GroupVersionInfo).GetGroupId)
			}},
		"groups by id": {pb.IMGroupInfoListReq_builder{UserId: me}.Build(),
			pb.IMGroupInfoListRsp_builder{UserId: me, GroupInfoList: infos}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMGroupInfoListRsp).GetGroupInfoList(),
					(*pb.GroupInfo).GetGroupId)
			}},
		"files": {pb.IMFileHasOfflineReq_builder{UserId: me}.Build(),
			pb.IMFileHasOfflineRsp_builder{UserId: me, OfflineFileList: files}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMFileHasOfflineRsp).GetOfflineFileList(),
					(*pb.OfflineFileInfo).GetFromUserId)
			}},
		"history": {pb.IMGetMsgListReq_builder{UserId: me, SessionType: typ, SessionId: me,
			MsgIdBegin: me, MsgCnt: me}.Build(),
			pb.IMGetMsgListRsp_builder{UserId: me, SessionType: typ, SessionId: me, MsgIdBegin: me,
				MsgList: sounds(20, 60_000)}.Build(),
			func(m pb.Message) []uint32 { return messages(m.(*pb.IMGetMsgListRsp).GetMsgList()) }},
		"messages by id": {pb.IMGetMsgByIdReq_builder{UserId: me, SessionType: typ,
			SessionId: me}.Build(),
			pb.IMGetMsgByIdRsp_builder{UserId: me, SessionType: typ, SessionId: me,
				MsgList: sounds(20, 60_000)}.Build(),
			func(m pb.Message) []uint32 { return messages(m.(*pb.IMGetMsgByIdRsp).GetMsgList()) }},
	}
}

func idsOf[T any](list []T, id func(T) uint32) []uint32 {
	ids := make([]uint32, len(list))
	for i := range list {
		ids[i] = id(list[i])
	}
	return ids
}

// TestAndroidFrames: no answer to Android is longer than it reads, whether it came
// decoded or encoded. Lists of messages end where no more fit, the newest being there;
// all others come whole, in several answers. Other clients get one frame.
func TestAndroidFrames(t *testing.T) {
	for name, test := range longAnswers() {
		for _, sends := range []string{"typed", "encoded"} {
			if name == "files" && sends == "encoded" {
				continue // this server looks into them
			}
			t.Run(fmt.Sprint(name, " ", sends), func(t *testing.T) {
				inWorld(t, Options{}, func(w *world) {
					phone, others := w.user(0, 1, android), []*device{w.user(0, 2, win), w.user(1,
						3, mac), w.user(1, 4, ios)}
					phone.got()
					var answer pb.Message = test.rsp
					if sends == "encoded" {
						e, err := pb.Encode(test.rsp)
						if err != nil {
							t.Fatal(err)
						}
						answer = e
					}
					w.db.also = func(pb.Message) (pb.Message, error) {
						if m, ok := answer.(interface{ SetUserId(uint32) }); ok {
							m.SetUserId(1)
						}
						return answer, nil
					}
					phone.send(9, test.req)
					frames := phone.got()
					all, want := []uint32(nil), test.ids(test.rsp)
					for _, f := range frames {
						if n := frameLen(t, f.m); n > pdu.MaxAndroidFrame || f.seq != 9 ||
							f.m.Command() != test.rsp.Command() {
							t.Errorf("%s of %d bytes with seq %d", f.m.Command(), n, f.seq)
						}
						if m, ok := f.m.(interface{ GetLatestUpdateTime() uint32 }); ok &&
							strings.HasPrefix(name, "users") && m.GetLatestUpdateTime() != 77 {
							t.Errorf("time %d", m.GetLatestUpdateTime())
						}
						all = append(all, test.ids(f.m)...)
					}
					cmd := test.rsp.Command()
					parts := cmd != pb.CmdGetMsgListRsp && cmd != pb.CmdGetMsgByIdRsp
					switch {
					case parts && (len(frames) < 2 || fmt.Sprint(all) != fmt.Sprint(want)):
						t.Errorf("%d frames with %d of %d", len(frames), len(all), len(want))
					case !parts && (len(frames) != 1 || len(all) != 6 ||
						fmt.Sprint(all) != fmt.Sprint(want[:6])):
						t.Errorf("%d frames with %v of %v", len(frames), all, want)
					}
					for _, d := range others {
						d.got()
						d.send(9, test.req)
						if got := d.want(test.rsp.Command()); len(test.ids(got[0].m)) != len(want) {
							t.Errorf("client type %s got %d of %d", d.s.ClientType,
								len(test.ids(got[0].m)), len(want))
						}
					}
				})
			})
		}
	}
}

// TestAndroidLongSound: the longest sound there may be is a text to Android, live as in
// the history, under its own id; every other client gets the sound.
func TestAndroidLongSound(t *testing.T) {
	inWorld(t, Options{Rate: -1}, func(w *world) {
		from, phone, pc := w.user(0, 1, win), w.user(0, 2, android), w.user(1, 2, win)
		w.db.addGroup(50, 1, 2)
		for _, d := range []*device{from, phone, pc} {
			d.got()
		}
		cipher, err := im.NewTextCipher("")
		if err != nil {
			t.Fatal(err)
		}
		wantText := func(typ, want pb.MsgType, body []byte) {
			t.Helper()
			if text, err := cipher.Decrypt(body); err != nil || typ != want ||
				text != conversation.SoundTooLong {
				t.Errorf("type %s: %q, %v", typ, text, err)
			}
		}
		for _, c := range []struct {
			to          uint32
			sound, text pb.MsgType
		}{{2, pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_SINGLE_TEXT}, {50,
			pb.MsgType_MSG_TYPE_GROUP_AUDIO, pb.MsgType_MSG_TYPE_GROUP_TEXT}} {
			m := text(c.to, "")
			m.Type, m.Data = c.sound, make([]byte, im.MaxAudio+audioHead)
			from.send(5, m)
			got := phone.want(pb.CmdMsgData)[0].m.(*pb.MsgData)
			wantText(got.Type, c.text, got.Data)
			if got.MsgID != 1 || got.FromUserID != 1 || got.ToSessionID != c.to {
				t.Errorf("got %d from %d to %d", got.MsgID, got.FromUserID, got.ToSessionID)
			}
			if got := pc.want(pb.CmdMsgData)[0].m.(*pb.MsgData); got.Type != c.sound ||
				len(got.Data) != len(m.Data) {
				t.Errorf("the pc got %d bytes of type %s", len(got.Data), got.Type)
			}
			m.Data = m.Data[:60_000] // as phones record
			from.send(6, m)
			if got := phone.want(pb.CmdMsgData)[0].m.(*pb.MsgData); got.Type != c.sound {
				t.Errorf("a short sound is %s", got.Type)
			}
			pc.want(pb.CmdMsgData)
		}
		list := sounds(3, 100)
		list[1].SetMsgData(make([]byte, im.MaxAudio+audioHead))
		typ := pb.SessionType_SESSION_TYPE_SINGLE.Enum()
		w.db.also = func(pb.Message) (pb.Message, error) {
			return pb.IMGetMsgListRsp_builder{UserId: new(uint32(2)), SessionType: typ,
				SessionId: new(uint32(1)), MsgIdBegin: new(uint32(0)), MsgList: list}.Build(), nil
		}
		phone.send(7, pb.IMGetMsgListReq_builder{UserId: new(uint32(2)), SessionType: typ,
			SessionId: new(uint32(1)), MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(3))}.Build())
		got := phone.want(pb.CmdGetMsgListRsp)[0].m.(*pb.IMGetMsgListRsp).GetMsgList()
		if fmt.Sprint(idsOf(got, (*pb.MsgInfo).GetMsgId)) != "[1000 999 998]" {
			t.Fatalf("history %v", idsOf(got, (*pb.MsgInfo).GetMsgId))
		}
		wantText(got[1].GetMsgType(), pb.MsgType_MSG_TYPE_SINGLE_TEXT, got[1].GetMsgData())
		if got[0].GetMsgType() != pb.MsgType_MSG_TYPE_SINGLE_AUDIO {
			t.Errorf("the others: %s", got[0].GetMsgType())
		}
	})
}
