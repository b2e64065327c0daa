package route_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// forwardCase is a command from server 1, and which servers receive it.
type forwardCase struct {
	name string
	m    pb.Message
	want [3]bool
}

// forwardedTexts returns messages and acks.
func forwardedTexts() []forwardCase {
	single, group := pb.SessionType_SESSION_TYPE_SINGLE, pb.SessionType_SESSION_TYPE_GROUP
	message := func(from, to uint32, typ pb.MsgType) pb.Message {
		return &pb.MsgData{FromUserID: from, ToSessionID: to, MsgID: 5, CreateTime: 6, Type: typ,
			Data:       []byte("text"),
			AttachData: []byte{}, ClientMsgID: []byte("id")}
	}
	ack := func(user, session uint32, typ pb.SessionType) pb.Message {
		return pb.IMMsgDataAck_builder{UserId: proto.Uint32(user), SessionId: proto.Uint32(session),
			MsgId: proto.Uint32(5), SessionType: typ.Enum()}.Build()
	}
	return []forwardCase{
		{"message, both elsewhere", message(1, 3, pb.MsgType_MSG_TYPE_SINGLE_TEXT),
			[3]bool{false, true, true}},
		{"message, recipient elsewhere", message(4, 2, pb.MsgType_MSG_TYPE_SINGLE_AUDIO),
			[3]bool{false, true, false}},
		{"message, sender elsewhere too", message(1, 4, pb.MsgType_MSG_TYPE_SINGLE_TEXT),
			[3]bool{false, true, false}},
		{"message, nobody elsewhere", message(4, 99, pb.MsgType_MSG_TYPE_SINGLE_TEXT), [3]bool{}},
		{"message to a group", message(1, 99, pb.MsgType_MSG_TYPE_GROUP_TEXT),
			[3]bool{false, true, true}},
		{"ack for a sender elsewhere", ack(4, 3, single), [3]bool{false, false, true}},
		{"ack for a sender here and elsewhere", ack(4, 1, single), [3]bool{false, true, false}},
		{"ack for a sender here", ack(1, 4, single), [3]bool{}},
		{"ack in a group", ack(4, 3, group), [3]bool{}},
	}
}

// forwardedNotices returns all other commands.
func forwardedNotices() []forwardCase {
	single := pb.SessionType_SESSION_TYPE_SINGLE
	return []forwardCase{
		{"p2p", pb.IMP2PCmdMsg_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(3),
			CmdMsgData: proto.String("typing")}.Build(),
			[3]bool{false, true, true}},
		{"read notify", pb.IMMsgDataReadNotify_builder{UserId: proto.Uint32(1),
			SessionId: proto.Uint32(3), MsgId: proto.Uint32(5),
			SessionType: single.Enum()}.Build(), [3]bool{false, true, false}},
		{"removed session", pb.IMRemoveSessionNotify_builder{UserId: proto.Uint32(1),
			SessionId: proto.Uint32(3), SessionType: single.Enum()}.Build(),
			[3]bool{false, true, false}},
		{"file", pb.IMFileNotify_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(3),
			FileName: proto.String("f"),
			FileSize: proto.Uint32(1), TaskId: proto.String("t"),
			TransMode:    pb.TransferFileType_FILE_TYPE_ONLINE.Enum(),
			OfflineReady: proto.Uint32(0)}.Build(), [3]bool{false, false, true}},
		{"kick", kick(1, windows, pb.KickReasonType_KICK_REASON_DUPLICATE_USER),
			[3]bool{false, true, false}},
		{"kick of nobody", kick(99, windows, pb.KickReasonType_KICK_REASON_MOBILE_KICK), [3]bool{}},
		{"members changed", pb.IMGroupChangeMemberNotify_builder{UserId: proto.Uint32(1),
			GroupId:       proto.Uint32(8),
			ChangeType:    pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD.Enum(),
			CurUserIdList: []uint32{4}}.Build(), [3]bool{false, true, true}},
		{"sign info", pb.IMSignInfoChangedNotify_builder{ChangedUserId: proto.Uint32(1),
			SignInfo: proto.String("busy")}.Build(),
			[3]bool{true, true, true}},
		{"avatar", pb.IMAvatarChangedNotify_builder{ChangedUserId: proto.Uint32(1),
			AvatarUrl: proto.String("http://x/y.png")}.Build(),
			[3]bool{true, true, true}},
		{"heartbeat", &pb.IMHeartBeat{}, [3]bool{}},
	}
}

// TestForwards sends each command from server 1 and checks which servers receive it. User
// 1 is on servers 1 and 2, user 2 on server 2, user 3 on server 3, user 4 on server 1.
func TestForwards(t *testing.T) {
	dial := start(t, route.Options{})
	peers := []*peer{dial(), dial(), dial()}
	peers[0].send(0, online(1, ios), online(4, ios))
	peers[1].send(0, online(1, android), online(2, ios))
	// 4 was on server 3 before
	peers[2].send(0, online(3, ios), online(4, android), gone(4, android))
	settleAll(peers...)
	for _, test := range append(forwardedTexts(), forwardedNotices()...) {
		t.Run(test.name, func(t *testing.T) {
			peers[0].send(321, test.m)
			for i, got := range settleAll(peers...) {
				var want []frame
				if test.want[i] {
					want = []frame{toFrame(t, 321, test.m)} // seq and attach_data as they came
				}
				if describe(got) != describe(want) {
					t.Errorf("server %d: the frames differ (-want +got):\n%s", i+1,
						cmp.Diff(describe(want), describe(got)))
				}
			}
		})
	}
}

// TestRepeatsForwarded: a message that was perhaps delivered before goes only to servers
// that remember what they have delivered.
func TestRepeatsForwarded(t *testing.T) {
	dial := start(t, route.Options{})
	peers := []*peer{dial(), dial(), dial()}
	peers[0].send(0, online(1, ios))
	peers[1].send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1),
		Features: proto.Uint32(3)}.Build(), online(2, ios))
	peers[2].send(0, pb.IMRoleSet_builder{Master: proto.Uint32(1),
		Features: proto.Uint32(1)}.Build(), online(2, android))
	settleAll(peers...)
	for _, kind := range []pb.MsgType{pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		pb.MsgType_MSG_TYPE_GROUP_TEXT} {
		m := &pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: 5, CreateTime: 6, Type: kind,
			Data: []byte("text"), Duplicate: true}
		peers[0].send(0, m)
		got := settleAll(peers...)
		expect(t, "knows repeats", got[1], m)
		expect(t, "does not", got[2])
	}
}

// event is a message of one of two message servers.
type event struct {
	server int
	m      pb.Message
}

// kicksHeard plays events, and returns the kicks that each of two message servers receives.
func kicksHeard(t *testing.T, l *listener, events []event) [][]frame {
	dial := l.serve(t, route.Options{})
	peers := []*peer{dial(), dial()}
	heard := make([][]frame, 2)
	for _, e := range events {
		peers[e.server].send(0, e.m)
		for i, got := range settleAll(peers...) {
			for _, f := range got {
				if f.cmd == pb.CmdServerKickUser {
					heard[i] = append(heard[i], f)
				}
			}
		}
	}
	return heard
}

// TestLoginsThatMeet: when two logins of a user on two servers overlap, so that neither
// kick finds the other client, the later login stays.
func TestLoginsThatMeet(t *testing.T) {
	dup := pb.KickReasonType_KICK_REASON_DUPLICATE_USER
	l := listen(t)
	for name, test := range map[string]struct {
		events         []event
		kicks1, kicks2 []pb.Message // kicks that each server receives
	}{
		"logins one after the other": {
			[]event{{0, kick(7, windows, dup)}, {0, online(7, windows)}, {1, kick(7, mac, dup)},
				{1, online(7, mac)}},
			[]pb.Message{kick(7, mac, dup)}, nil},
		"both kicks first, then the first client": {
			[]event{{0, kick(7, windows, dup)}, {1, kick(7, mac, dup)}, {0, online(7, windows)},
				{1, online(7, mac)}},
			[]pb.Message{kick(7, mac, dup)}, nil},
		"both kicks first, then the second client": {
			[]event{{0, kick(7, windows, dup)}, {1, kick(7, mac, dup)}, {1, online(7, mac)},
				{0, online(7, windows)}},
			[]pb.Message{kick(7, mac, dup)}, nil},
		"the other device class stays": {
			[]event{{0, kick(7, windows, dup)}, {1, kick(7, ios, dup)}, {0, online(7, windows)},
				{1, online(7, ios)}},
			nil, nil},
		"a kick by a phone does not count as a login": {
			[]event{{0, kick(7, windows, dup)},
				{1, kick(7, windows, pb.KickReasonType_KICK_REASON_MOBILE_KICK)},
				{0, online(7, windows)}},
			nil, nil},
		"kicks of both device classes, and a phone that logs in meanwhile": {
			[]event{{0, kick(7, windows, dup)}, {0, kick(7, ios, dup)}, {1, kick(7, ios, dup)},
				{0, online(7, windows)}, {1, online(7, ios)}},
			nil, nil},
		"a completed login is not kicked later": {
			[]event{{0, kick(7, windows, dup)}, {0, online(7, windows)}, {0, gone(7, windows)},
				{1, kick(7, mac, dup)}, {0, online(7, windows)}},
			nil, nil},
		"a kick that is sent late is of a completed login": {
			[]event{{0, online(7, windows)}, {0, lateKick(7, windows)}, {1, kick(7, mac, dup)},
				{1, online(7, mac)}, {0, gone(7, windows)}, {0, online(7, windows)}},
			[]pb.Message{kick(7, mac, dup)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			heard := kicksHeard(t, l, test.events)
			expect(t, "server 1", heard[0], test.kicks1...)
			expect(t, "server 2", heard[1], test.kicks2...)
		})
	}
}
