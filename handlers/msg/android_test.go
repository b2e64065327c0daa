package msg

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/handlers/msg/fanout"
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

// longAnswer is an answer that may be too long for Android, its request, and the ids in its
// list.
type longAnswer struct {
	req, rsp pb.Attachment
	ids      func(m pb.Message) []uint32
}

// longAnswers returns an answer of each kind that may be too long for Android.
func longAnswers() map[string]longAnswer {
	all := map[string]longAnswer{}
	for _, some := range []map[string]longAnswer{longDirectories(), longConversations(),
		longGroups(), longFiles(), longHistories()} {
		maps.Copy(all, some)
	}
	return all
}

// one is the value of fields that a test does not look at.
var one = proto.Uint32(1)

// oneToOne is a conversation between two users.
var oneToOne = pb.SessionType_SESSION_TYPE_SINGLE.Enum()

func longDirectories() map[string]longAnswer {
	users := make([]*pb.UserInfo, 2000) // two or three frames for Android, as all below
	for i := range users {
		users[i] = fullUser(uint32(i))
	}
	departs := make([]*pb.DepartInfo, 4000)
	for i := range departs {
		departs[i] = pb.DepartInfo_builder{DeptId: proto.Uint32(uint32(i)), Priority: one,
			DeptName: proto.String(strings.Repeat("部", 64)), ParentDeptId: one,
			DeptStatus: pb.DepartmentStatusType_DEPT_STATUS_OK.Enum()}.Build()
	}
	allUsers := func(since uint32) longAnswer {
		return longAnswer{pb.IMAllUserReq_builder{UserId: one, LatestUpdateTime: &since}.Build(),
			pb.IMAllUserRsp_builder{UserId: one, LatestUpdateTime: proto.Uint32(77),
				UserList: users}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMAllUserRsp).GetUserList(), (*pb.UserInfo).GetUserId)
			}}
	}
	return map[string]longAnswer{
		"users":       allUsers(0),
		"users since": allUsers(5),
		"departments": {pb.IMDepartmentReq_builder{UserId: one,
			LatestUpdateTime: proto.Uint32(0)}.Build(),
			pb.IMDepartmentRsp_builder{UserId: one, LatestUpdateTime: proto.Uint32(77),
				DeptList: departs}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMDepartmentRsp).GetDeptList(), (*pb.DepartInfo).GetDeptId)
			}},
		"users by id": {pb.IMUsersInfoReq_builder{UserId: one}.Build(),
			pb.IMUsersInfoRsp_builder{UserId: one, UserInfoList: users[:1000]}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMUsersInfoRsp).GetUserInfoList(), (*pb.UserInfo).GetUserId)
			}},
	}
}

func longConversations() map[string]longAnswer {
	recent := make([]*pb.ContactSessionInfo, 150)
	unread := make([]*pb.UnreadInfo, 150)
	text := bytes.Repeat([]byte("x"), im.MaxContent)
	for i := range recent {
		id := proto.Uint32(uint32(i))
		recent[i] = pb.ContactSessionInfo_builder{SessionId: id, SessionType: oneToOne,
			SessionStatus: pb.SessionStatusType_SESSION_STATUS_OK.Enum(), UpdatedTime: one,
			LatestMsgId: one, LatestMsgData: text,
			LatestMsgType:       pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum(),
			LatestMsgFromUserId: one}.Build()
		unread[i] = pb.UnreadInfo_builder{SessionId: id, SessionType: oneToOne, UnreadCnt: one,
			LatestMsgId: one, LatestMsgData: text,
			LatestMsgType:       pb.MsgType_MSG_TYPE_SINGLE_TEXT.Enum(),
			LatestMsgFromUserId: one}.Build()
	}
	return map[string]longAnswer{
		"conversations": {pb.IMRecentContactSessionReq_builder{UserId: one,
			LatestUpdateTime: one}.Build(),
			pb.IMRecentContactSessionRsp_builder{UserId: one, ContactSessionList: recent}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMRecentContactSessionRsp).GetContactSessionList(),
					(*pb.ContactSessionInfo).GetSessionId)
			}},
		"unread": {pb.IMUnreadMsgCntReq_builder{UserId: one}.Build(),
			pb.IMUnreadMsgCntRsp_builder{UserId: one, TotalCnt: one,
				UnreadinfoList: unread}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMUnreadMsgCntRsp).GetUnreadinfoList(),
					(*pb.UnreadInfo).GetSessionId)
			}},
	}
}

func longGroups() map[string]longAnswer {
	groups := make([]*pb.GroupVersionInfo, 50_000)
	for i := range groups {
		groups[i] = pb.GroupVersionInfo_builder{GroupId: proto.Uint32(math.MaxUint32 - uint32(i)),
			Version: one}.Build()
	}
	infos := make([]*pb.GroupInfo, 20)
	members := make([]uint32, im.MaxGroupMembers)
	for i := range members {
		members[i] = math.MaxUint32 - uint32(i)
	}
	for i := range infos {
		infos[i] = groupInfo(uint32(i), &dbGroup{members: members})
	}
	return map[string]longAnswer{
		"groups": {pb.IMNormalGroupListReq_builder{UserId: one}.Build(),
			pb.IMNormalGroupListRsp_builder{UserId: one, GroupVersionList: groups}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMNormalGroupListRsp).GetGroupVersionList(),
					(*pb.GroupVersionInfo).GetGroupId)
			}},
		"groups by id": {pb.IMGroupInfoListReq_builder{UserId: one}.Build(),
			pb.IMGroupInfoListRsp_builder{UserId: one, GroupInfoList: infos}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMGroupInfoListRsp).GetGroupInfoList(),
					(*pb.GroupInfo).GetGroupId)
			}},
	}
}

func longFiles() map[string]longAnswer {
	files := make([]*pb.OfflineFileInfo, 500)
	for i := range files {
		files[i] = pb.OfflineFileInfo_builder{FromUserId: proto.Uint32(uint32(i)),
			TaskId:   proto.String("t"),
			FileName: proto.String(strings.Repeat("\U0001f4c4", im.MaxFileName)),
			FileSize: one}.Build()
	}
	return map[string]longAnswer{
		"files": {pb.IMFileHasOfflineReq_builder{UserId: one}.Build(),
			pb.IMFileHasOfflineRsp_builder{UserId: one, OfflineFileList: files}.Build(),
			func(m pb.Message) []uint32 {
				return idsOf(m.(*pb.IMFileHasOfflineRsp).GetOfflineFileList(),
					(*pb.OfflineFileInfo).GetFromUserId)
			}},
	}
}

func longHistories() map[string]longAnswer {
	messages := func(list []*pb.MsgInfo) []uint32 {
		return idsOf(list, (*pb.MsgInfo).GetMsgId)
	}
	return map[string]longAnswer{
		"history": {pb.IMGetMsgListReq_builder{UserId: one, SessionType: oneToOne, SessionId: one,
			MsgIdBegin: one, MsgCnt: one}.Build(),
			pb.IMGetMsgListRsp_builder{UserId: one, SessionType: oneToOne, SessionId: one,
				MsgIdBegin: one, MsgList: sounds(20, 60_000)}.Build(),
			func(m pb.Message) []uint32 { return messages(m.(*pb.IMGetMsgListRsp).GetMsgList()) }},
		"messages by id": {pb.IMGetMsgByIdReq_builder{UserId: one, SessionType: oneToOne,
			SessionId: one}.Build(),
			pb.IMGetMsgByIdRsp_builder{UserId: one, SessionType: oneToOne, SessionId: one,
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
// all others come whole, in several answers. Other clients get one frame: each answer is asked
// for by one of them, in turn, since reading such answers takes most of the test's time.
func TestAndroidFrames(t *testing.T) {
	answers := longAnswers()
	turn := 0
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		test := answers[name]
		for _, sends := range []string{"typed", "encoded"} {
			if name == "files" && sends == "encoded" {
				continue // this server looks into them
			}
			other := []pb.ClientType{win, mac, ios}[turn%3]
			turn++
			t.Run(fmt.Sprint(name, " ", sends), func(t *testing.T) {
				inWorld(t, Options{}, func(w *world) {
					phone, d := w.user(0, 1, android), w.user(1, 2, other)
					phone.got()
					w.answerAll(test.rsp, sends == "encoded")
					phone.send(9, test.req)
					test.fitsAndroid(t, phone.got(), strings.HasPrefix(name, "users"))
					d.got()
					d.send(9, test.req)
					got, want := d.want(test.rsp.Command()), test.ids(test.rsp)
					if len(test.ids(got[0].m)) != len(want) {
						t.Errorf("client type %s got %d of %d", d.s.ClientType,
							len(test.ids(got[0].m)), len(want))
					}
				})
			})
		}
	}
}

// answerAll lets db_proxy answer every request with rsp, decoded or encoded.
func (w *world) answerAll(rsp pb.Attachment, encoded bool) {
	w.t.Helper()
	var answer pb.Message = rsp
	if encoded {
		e, err := pb.Encode(rsp)
		if err != nil {
			w.t.Fatal(err)
		}
		answer = e
	}
	w.db.also = func(pb.Message) (pb.Message, error) {
		if m, ok := answer.(interface{ SetUserId(uint32) }); ok {
			m.SetUserId(1)
		}
		return answer, nil
	}
}

// fitsAndroid checks the frames of the answer to Android. timed lists have the time of
// the answer in each frame.
func (a *longAnswer) fitsAndroid(t *testing.T, frames []received, timed bool) {
	t.Helper()
	cmd := a.rsp.Command()
	all, want := []uint32(nil), a.ids(a.rsp)
	for _, f := range frames {
		if n := frameLen(t, f.m); n > pdu.MaxAndroidFrame || f.seq != 9 || f.m.Command() != cmd {
			t.Errorf("%s of %d bytes with seq %d", f.m.Command(), n, f.seq)
		}
		if m, ok := f.m.(interface{ GetLatestUpdateTime() uint32 }); ok && timed &&
			m.GetLatestUpdateTime() != 77 {
			t.Errorf("time %d", m.GetLatestUpdateTime())
		}
		all = append(all, a.ids(f.m)...)
	}
	parts := cmd != pb.CmdGetMsgListRsp && cmd != pb.CmdGetMsgByIdRsp
	switch {
	case parts && (len(frames) < 2 || !slices.Equal(all, want)):
		t.Errorf("%d frames with %d of %d", len(frames), len(all), len(want))
	case !parts && (len(frames) != 1 || !slices.Equal(all, want[:6])):
		t.Errorf("%d frames with %v of %v", len(frames), all, want)
	}
}

// wantSoundTooLong checks a message to Android in place of a sound.
func wantSoundTooLong(t *testing.T, typ, want pb.MsgType, body []byte) {
	t.Helper()
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := cipher.Decrypt(body); err != nil || typ != want ||
		text != fanout.SoundTooLong {
		t.Errorf("type %s: %q, %v", typ, text, err)
	}
}

// TestAndroidLongSound: the longest sound there may be is a text to Android, live as in
// the history, under its own id; every other client gets the sound.
func TestAndroidLongSound(t *testing.T) {
	t.Run("live", func(t *testing.T) {
		inWorld(t, Options{Rate: -1}, func(w *world) {
			from, phone, pc := w.user(0, 1, win), w.user(0, 2, android), w.user(1, 2, win)
			w.db.addGroup(50, 1, 2)
			for _, d := range []*device{from, phone, pc} {
				d.got()
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
				wantSoundTooLong(t, got.Type, c.text, got.Data)
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
		})
	})
	t.Run("in the history", func(t *testing.T) { inWorld(t, Options{}, longSoundInHistory) })
}

func longSoundInHistory(w *world) {
	t, phone := w.t, w.user(0, 2, android)
	phone.got()
	list := sounds(3, 100)
	list[1].SetMsgData(make([]byte, im.MaxAudio+audioHead))
	w.db.also = func(pb.Message) (pb.Message, error) {
		return pb.IMGetMsgListRsp_builder{UserId: new(uint32(2)), SessionType: oneToOne,
			SessionId: new(uint32(1)), MsgIdBegin: new(uint32(0)), MsgList: list}.Build(), nil
	}
	phone.send(7, pb.IMGetMsgListReq_builder{UserId: new(uint32(2)), SessionType: oneToOne,
		SessionId: new(uint32(1)), MsgIdBegin: new(uint32(0)), MsgCnt: new(uint32(3))}.Build())
	got := phone.want(pb.CmdGetMsgListRsp)[0].m.(*pb.IMGetMsgListRsp).GetMsgList()
	if ids := idsOf(got, (*pb.MsgInfo).GetMsgId); !slices.Equal(ids, []uint32{1000, 999, 998}) {
		t.Fatalf("history %v", ids)
	}
	wantSoundTooLong(t, got[1].GetMsgType(), pb.MsgType_MSG_TYPE_SINGLE_TEXT, got[1].GetMsgData())
	if got[0].GetMsgType() != pb.MsgType_MSG_TYPE_SINGLE_AUDIO {
		t.Errorf("the others: %s", got[0].GetMsgType())
	}
}
