package dbproxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

func tokenReq(user uint32, client pb.ClientType, token string) *pb.IMDeviceTokenReq {
	req := pb.IMDeviceTokenReq_builder{UserId: &user, DeviceToken: &token}.Build()
	if client != 0 {
		req.SetClientType(client)
	}
	return req
}

// targets returns the push targets of users as text: "user/client type/token/unread/push
// type …".
func targets(p *peer, users ...uint32) string {
	p.t.Helper()
	rsp := ask[*pb.IMGetDeviceTokenRsp](p, 30,
		pb.IMGetDeviceTokenReq_builder{UserId: users, AttachData: []byte("way back")}.Build())
	if string(rsp.GetAttachData()) != "way back" {
		p.t.Errorf("attach_data %q", rsp.GetAttachData())
	}
	var s []string
	for _, u := range rsp.GetUserTokenInfo() {
		s = append(s, fmt.Sprintf("%d/%#x/%.3s/%d/%d", u.GetUserId(), int32(u.GetUserType()),
			u.GetToken(), u.GetPushCount(), u.GetPushType()))
	}
	return strings.Join(s, " ")
}

// TestPushTargets: a user with a token is a push target, with the number of its unread
// messages.
func TestPushTargets(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{Sounds: newSounds(t)}})
	h.clock.set(time.Date(2026, 1, 2, 12, 0, 0, 0, time.Local))
	p := h.dial()
	const ios, android = pb.ClientType_CLIENT_TYPE_IOS, pb.ClientType_CLIENT_TYPE_ANDROID
	apple := strings.Repeat("0aF9", 16)
	for i, req := range []*pb.IMDeviceTokenReq{
		tokenReq(4, android, "droid"), tokenReq(1, ios, apple), tokenReq(2, 0, "b"+apple[1:]),
		tokenReq(3, 0, "google:x"),
	} {
		if rsp := ask[*pb.IMDeviceTokenRsp](p, uint16(i),
			req); rsp.GetUserId() != req.GetUserId() || !rsp.HasAttachData() {
			t.Errorf("answer %v", rsp)
		}
	}
	expect := func(t *testing.T, want string, users ...uint32) {
		t.Helper()
		if got := targets(p, users...); got != want {
			t.Errorf("targets %s, want %s", got, want)
		}
	}
	expect(t, "1/0x11/0aF/0/1 2/0x11/baF/0/1 3/0x12/goo/0/1 4/0x12/dro/0/1", 4, 3, 2, 1, 5, 99, 2)
	expect(t, "", 5)
	expect(t, "")

	t.Run("unread messages", func(t *testing.T) {
		// A message counts as unread as soon as it is answered: of users, of groups, with
		// sounds.
		g := makeGroup(p, 1, temporary, 1, 2, 4)
		ask[*pb.MsgData](p, 5, text(3, 1, "a"))
		ask[*pb.MsgData](p, 6, audioMessage(2, 1, 1, 10))
		ask[*pb.MsgData](p, 7, groupText(4, g, "b"))
		expect(t, "1/0x11/0aF/3/1 2/0x11/baF/1/1 4/0x12/dro/0/1", 1, 2, 4)
	})

	t.Run("tokens change", func(t *testing.T) {
		// A token that another user has now, a new token, no token.
		ask[*pb.IMDeviceTokenRsp](p, 8, tokenReq(5, ios, apple))
		ask[*pb.IMDeviceTokenRsp](p, 9, tokenReq(2, android, "new"))
		ask[*pb.IMDeviceTokenRsp](p, 10, tokenReq(3, 0, ""))
		expect(t, "2/0x12/new/1/1 5/0x11/0aF/0/1", 1, 2, 3, 5)
		// A pc cannot have a token: this request is not answered.
		p.send(11, tokenReq(3, pb.ClientType_CLIENT_TYPE_WINDOWS, "x"))
		expect(t, "", 3)
	})
}

// TestPushShield: users with a push shield receive no pushes from 22:00 until 07:00.
func TestPushShield(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	shield := func(user, status uint32) *pb.IMPushShieldRsp {
		return ask[*pb.IMPushShieldRsp](p, 1,
			pb.IMPushShieldReq_builder{UserId: &user, ShieldStatus: &status,
				AttachData: []byte("x")}.Build())
	}
	query := func(user uint32) *pb.IMQueryPushShieldRsp {
		return ask[*pb.IMQueryPushShieldRsp](p, 2,
			pb.IMQueryPushShieldReq_builder{UserId: &user, AttachData: []byte("x")}.Build())
	}
	if rsp := query(1); rsp.GetResultCode() != 0 || !rsp.HasShieldStatus() ||
		rsp.GetShieldStatus() != 0 {
		t.Errorf("at first: %v", rsp)
	}
	if rsp := shield(1, 1); rsp.GetResultCode() != 0 || rsp.GetShieldStatus() != 1 ||
		string(rsp.GetAttachData()) != "x" {
		t.Errorf("on: %v", rsp)
	}
	if rsp := query(1); rsp.GetResultCode() != 0 || rsp.GetShieldStatus() != 1 ||
		string(rsp.GetAttachData()) != "x" {
		t.Errorf("when on: %v", rsp)
	}
	for _, code := range []uint32{shield(99, 1).GetResultCode(), query(99).GetResultCode()} {
		if code != 1 {
			t.Errorf("result %d for an unknown user", code)
		}
	}
	ask[*pb.IMDeviceTokenRsp](p, 3, tokenReq(1, pb.ClientType_CLIENT_TYPE_ANDROID, "one"))
	ask[*pb.IMDeviceTokenRsp](p, 4, tokenReq(2, pb.ClientType_CLIENT_TYPE_ANDROID, "two"))
	for _, test := range []struct {
		hour, minute int
		want         string
	}{{12, 0, "12"}, {21, 59, "12"}, {22, 0, "2"}, {23, 59, "2"}, {0, 0, "2"}, {6, 59, "2"},
		{7, 0, "12"}} {
		h.clock.set(time.Date(2026, 1, 2, test.hour, test.minute, 30, 0, time.Local))
		got := ""
		for _, s := range strings.Fields(targets(p, 1, 2)) {
			got += s[:1]
		}
		if got != test.want {
			t.Errorf("at %02d:%02d pushes to %s, want %s", test.hour, test.minute, got, test.want)
		}
	}
	shield(1, 0)
	h.clock.set(time.Date(2026, 1, 2, 23, 0, 0, 0, time.Local))
	if got := targets(p, 1); got == "" {
		t.Error("no push without the shield")
	}
}

// TestGroupShield: a group shield is set by members only, and answered for each user.
func TestGroupShield(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	g := makeGroup(p, 1, temporary, 1, 2, 3)
	shield := func(user, group, status uint32) uint32 {
		rsp := ask[*pb.IMGroupShieldRsp](p, 1,
			pb.IMGroupShieldReq_builder{UserId: &user, GroupId: &group, ShieldStatus: &status,
				AttachData: []byte("x")}.Build())
		if rsp.GetUserId() != user || rsp.GetGroupId() != group ||
			string(rsp.GetAttachData()) != "x" {
			t.Errorf("answer %v", rsp)
		}
		return rsp.GetResultCode()
	}
	shields := func(users ...uint32) (s string) {
		rsp := ask[*pb.IMGroupGetShieldRsp](p, 2,
			pb.IMGroupGetShieldReq_builder{GroupId: &g, UserId: users,
				AttachData: []byte("x")}.Build())
		for _, u := range rsp.GetShieldStatusList() {
			s += fmt.Sprintf("%d=%d ", u.GetUserId(), u.GetShieldStatus())
		}
		return s
	}
	for _, code := range []uint32{shield(2, g, 1), shield(3, g, 7), shield(4, g, 1) - 1,
		shield(1, 99999, 1) - 1} {
		if code != 0 {
			t.Errorf("a result is off by %d", code)
		}
	}
	if got := shields(3, 1, 2, 4); got != "3=1 1=0 2=1 4=0 " {
		t.Errorf("shields: %s", got)
	}
	if got := shields(); got != "" {
		t.Errorf("shields without users: %s", got)
	}
	shield(2, g, 0)
	if got := shields(2, 3); got != "2=0 3=1 " {
		t.Errorf("shields: %s", got)
	}
	info := func(user uint32) uint32 {
		req := pb.IMGroupInfoListReq_builder{UserId: &user,
			GroupVersionList: []*pb.GroupVersionInfo{
				pb.GroupVersionInfo_builder{GroupId: &g, Version: proto.Uint32(0)}.Build()}}.Build()
		return ask[*pb.IMGroupInfoListRsp](p, 3, req).GetGroupInfoList()[0].GetShieldStatus()
	}
	if a, b := info(2), info(3); a != 0 || b != 1 {
		t.Errorf("shield_status of 2 is %d, of 3 %d", a, b)
	}
}

// TestOwnData: a user's changes of its own data are in the next answer, and refusals are
// answered with a code.
func TestOwnData(t *testing.T) {
	h := open(t, options{users: 3})
	p := h.dial()
	all := func() (s string) {
		rsp := ask[*pb.IMAllUserRsp](p, 1, pb.IMAllUserReq_builder{UserId: proto.Uint32(3),
			LatestUpdateTime: proto.Uint32(0)}.Build())
		for _, u := range rsp.GetUserList() {
			s += u.GetSignInfo() + "," + u.GetAvatarUrl() + ";"
		}
		return s
	}
	sign := func(user uint32, text string) *pb.IMChangeSignInfoRsp {
		return ask[*pb.IMChangeSignInfoRsp](p, 2,
			pb.IMChangeSignInfoReq_builder{UserId: &user, SignInfo: &text}.Build())
	}
	avatar := func(user uint32, url string) *pb.IMChangeAvatarRsp {
		return ask[*pb.IMChangeAvatarRsp](p, 3,
			pb.IMChangeAvatarReq_builder{UserId: &user, AvatarUrl: &url,
				AttachData: []byte("x")}.Build())
	}
	if got := all(); got != ",;,;,;" {
		t.Errorf("at first: %s", got)
	}
	if rsp := sign(2, "早上好 🌞"); rsp.GetResultCode() != 0 || rsp.GetSignInfo() != "早上好 🌞" {
		t.Errorf("sign info: %v", rsp)
	}
	if got := all(); got != ",;早上好 🌞,;,;" { // without a pause
		t.Errorf("after the sign info: %s", got)
	}
	if rsp := avatar(1, "http://files/a.png"); rsp.GetResultCode() != 0 || string(rsp.GetAttachData()) != "x" {
		t.Errorf("avatar: %v", rsp)
	}
	if got := all(); got != ",http://files/a.png;早上好 🌞,;,;" {
		t.Errorf("after the avatar: %s", got)
	}
	for name, code := range map[string]uint32{
		"sign info too long":  sign(2, strings.Repeat("早", 129)).GetResultCode(),
		"sign info of nobody": sign(99, "x").GetResultCode(),
		"avatar too long":     avatar(2, strings.Repeat("x", 256)).GetResultCode(),
		"avatar of nobody":    avatar(99, "x").GetResultCode(),
	} {
		if code != 1 {
			t.Errorf("%s: result %d", name, code)
		}
	}
	if got := all(); got != ",http://files/a.png;早上好 🌞,;,;" {
		t.Errorf("after refusals: %s", got)
	}
}

// TestDepartments: departments are answered by their time of change.
func TestDepartments(t *testing.T) {
	h := open(t, options{recorded: true})
	p := h.dial()
	began := h.recorded.Now()
	head, err := h.store.CreateDepart(t.Context(), im.Depart{Name: "head", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	h.recorded.Add(time.Minute)
	sub, err := h.store.CreateDepart(t.Context(), im.Depart{Name: "sub", Parent: head, Priority: 2})
	if err != nil {
		t.Fatal(err)
	}
	list := func(since int64) (s string) {
		rsp := ask[*pb.IMDepartmentRsp](p, 1,
			pb.IMDepartmentReq_builder{UserId: proto.Uint32(1),
				LatestUpdateTime: proto.Uint32(uint32(since))}.Build())
		for _, d := range rsp.GetDeptList() {
			s += fmt.Sprintf("%d %s %d %d %d;", d.GetDeptId(), d.GetDeptName(), d.GetParentDeptId(),
				d.GetPriority(), d.GetDeptStatus())
		}
		return fmt.Sprint(s, rsp.GetLatestUpdateTime()-uint32(began.Unix()))
	}
	expect := func(since int64, want string) {
		t.Helper()
		if got := list(since); got != want {
			t.Errorf("departments since %d: %s, want %s", since, got, want)
		}
	}
	a, b := fmt.Sprintf("%d head 0 1 0;", head), fmt.Sprintf("%d sub %d 2 0;", sub, head)
	expect(0, a+b+"60")
	expect(began.Unix(), b+"60")
	expect(began.Unix()+60, "60")
	// The time is not that of a department: a client's own clock may be off by a minute.
	expect(began.Unix()+59, a+b+"60")
	expect(began.Unix()+121, "60")
	expect(h.clock.Now().Unix()+1, a+b+"60") // ahead counts as 0, and is not echoed
	h.recorded.Add(time.Minute)
	if err := h.store.UpdateDepart(t.Context(),
		im.Depart{ID: sub, Name: "sub", Parent: head, Priority: 2,
			Status: pb.DepartmentStatusType_DEPT_STATUS_DELETE}); err != nil {
		t.Fatal(err)
	}
	h.clock.Add(time.Second)
	expect(0, a+"120")
	expect(began.Unix()+60, fmt.Sprintf("%d sub %d 2 1;120", sub, head))
}
