package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// dbPeer is a db_proxy for the calls of this package, with a real store.
type dbPeer struct {
	store im.Store
	old   bool          // it does not say why it refuses a message, as C++ db_proxies
	asked *atomic.Int32 // requests for users
}

func (p dbPeer) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	rsp := p.answer(req)
	if m, ok := rsp.(*pb.MsgData); ok && m.MsgID == 0 && !p.old {
		done(nil, im.WithKind(im.Invalid, "refused by dbproxy", &link.Refusal{Reason: "rejected"}))
		return
	}
	done(rsp, nil)
}

func (p dbPeer) answer(req pb.Attachment) pb.Message {
	ctx := context.Background()
	switch m := req.(type) {
	case *pb.IMGroupCreateReq:
		rsp := &pb.IMGroupCreateRsp{}
		g, err := p.store.CreateGroup(ctx, im.Group{Name: m.GetGroupName(), Type: m.GetGroupType(),
			Creator: m.GetUserId(), Members: m.GetMemberIdList()}, m.GetUserId())
		if err != nil {
			rsp.SetResultCode(1)
			return rsp
		}
		rsp.SetGroupId(g.ID)
		return rsp
	case *pb.IMGroupChangeMemberReq:
		rsp := &pb.IMGroupChangeMemberRsp{}
		change, err := p.store.ChangeMembers(ctx, im.MemberEdit{Group: m.GetGroupId(),
			Type: m.GetChangeType(), Users: m.GetMemberIdList(), By: m.GetUserId(),
			Allow: func(g *im.Group, _ []uint32) ([]uint32, error) {
				if by := m.GetUserId(); by != 0 && by != g.Creator {
					return nil, im.Errorf(im.Denied, "not the creator")
				}
				return m.GetMemberIdList(), nil
			}})
		if err != nil {
			rsp.SetResultCode(1)
			return rsp
		}
		rsp.SetCurUserIdList(change.Current)
		rsp.SetChgUserIdList(change.Changed)
		rsp.SetVersion(change.Version)
		return rsp
	case *pb.MsgData:
		row := &im.Message{From: m.FromUserID, To: m.ToSessionID, Created: m.CreateTime,
			Type: m.Type, Data: m.Data, ClientID: m.ClientMsgID}
		p.store.AppendMessages(ctx, []*im.Message{row})
		m.MsgID, m.Duplicate, m.GroupVersion = row.ID, row.Duplicate, row.GroupVersion
		return m
	case *pb.IMUsersInfoReq:
		p.asked.Add(1)
		rsp := &pb.IMUsersInfoRsp{}
		list, err := p.store.Users(ctx, m.GetUserIdList())
		if err != nil {
			panic(err)
		}
		for _, u := range list {
			info := &pb.UserInfo{}
			info.SetUserId(u.ID)
			rsp.SetUserInfoList(append(rsp.GetUserInfoList(), info))
		}
		return rsp
	}
	return nil
}

func (p dbPeer) Send(uint64, uint16, pb.Message) error { return nil }

// routePeer is a route server for the calls of this package.
type routePeer struct {
	mu   sync.Mutex
	sent []pb.Message
	down bool
}

func (p *routePeer) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	rsp := &pb.IMUsersStatRsp{}
	rsp.SetUserId(0)
	q := req.(*pb.IMUsersStatReq)
	var list []*pb.UserStat
	for _, u := range q.GetUserIdList() {
		st := &pb.UserStat{}
		st.SetUserId(u)
		st.SetStatus(pb.UserStatType_USER_STATUS_OFFLINE)
		// This user has only a phone.
		if u%2 == 0 && q.HasScope() && q.GetScope() == pb.DeviceScope_DEVICE_SCOPE_ANY {
			st.SetStatus(pb.UserStatType_USER_STATUS_ONLINE)
		}
		list = append(list, st)
	}
	rsp.SetUserStatList(list)
	done(rsp, nil)
}

func (p *routePeer) Send(_ uint64, _ uint16, m pb.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return im.Errorf(im.Unavailable, "down")
	}
	p.sent = append(p.sent, m)
	return nil
}

func (p *routePeer) take() []pb.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent
	p.sent = nil
	return sent
}

// pushed records the messages that were reported for pushes.
type pushed struct{ got []pb.MsgData }

func (p *pushed) Stored(m *pb.MsgData, members []uint32) {
	if members != nil {
		panic("members are not known here")
	}
	p.got = append(p.got, *m)
}

type rig struct {
	*testing.T
	store im.Store
	route *routePeer
	asked *atomic.Int32 // requests to db_proxy for users
	users []uint32
	url   string
	text  *im.TextCipher
	web   *web.Server
}

const goodKey = "0123456789abcdef"

// in returns r for a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.T = t
	return &sub
}

func newRig(t *testing.T, change func(o *Options)) *rig {
	t.Helper()
	return newRigOn(t, change, web.Options{})
}

// newRigOn starts a server on a port with these limits.
func newRigOn(t *testing.T, change func(o *Options), limits web.Options) *rig {
	t.Helper()
	store, err := embedded.Open(context.Background(), embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{T: t, asked: new(atomic.Int32), store: store, route: &routePeer{}, text: text}
	var accounts []im.Account
	for i := range 4 {
		accounts = append(accounts, im.Account{User: im.User{Name: fmt.Sprint("user", i),
			Nick: "x"}})
	}
	if r.users, err = store.CreateUsers(context.Background(), accounts); err != nil {
		t.Fatal(err)
	}
	o := Options{DB: dbPeer{store: store, asked: r.asked}, Route: r.route,
		Routes: NewRoutes(mono.Now, nil), Text: text,
		Apps: []App{{Name: "all", Key: goodKey, Rate: 1e6}}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	limits.Handler = s
	r.web = webtest.Serve(t, limits)
	r.url = "http://" + r.web.Addr().String()
	return r
}

// call posts a JSON object and returns the answer.
func (r *rig) call(name, body string) map[string]any {
	r.Helper()
	rsp, err := http.Post(r.url+"/query/"+name, "application/json", strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	if err != nil || rsp.StatusCode != 200 {
		r.Fatalf("%s: status %d, %s, %v", name, rsp.StatusCode, data, err)
	}
	var a map[string]any
	if err := json.Unmarshal(data, &a); err != nil {
		r.Fatalf("%s: %s: %v", name, data, err)
	}
	return a
}

// want makes a call and fails unless the error_code is code.
func (r *rig) want(code int, name, format string, args ...any) map[string]any {
	r.Helper()
	body := fmt.Sprintf(strings.ReplaceAll(format, "KEY", `"app_key":"`+goodKey+`"`), args...)
	a := r.call(name, body)
	if a["error_code"] != float64(code) || (code == 0) != (a["error_msg"] == "成功") {
		r.Errorf("%s %s: %v, want code %d", name, body, a, code)
	}
	return a
}

// TestGroups creates a group and changes its members. Members are notified of changes
// only.
func TestGroups(t *testing.T) {
	r := newRig(t, nil)
	u := r.users
	a := r.want(0, "CreateGroup", `{KEY,"req_user_id":0,"group_name":"judge","group_type":1,`+
		`"group_avatar":"","user_id_list":[%d,%d]}`, u[1], u[0])
	group := uint32(a["group_id"].(float64))
	if sent := r.route.take(); len(sent) != 0 {
		t.Errorf("notified of a new group: %v", sent)
	}
	r.want(0, "ChangeMembers",
		`{KEY,"req_user_id":0,"group_id":%d,"modify_type":1,"user_id_list":[%d]}`, group, u[2])
	sent := r.route.take()
	if len(sent) != 1 {
		t.Fatalf("notified of a change: %v", sent)
	}
	n := sent[0].(*pb.IMGroupChangeMemberNotify)
	if n.GetUserId() != 0 || n.GetGroupId() != group ||
		n.GetChangeType() != pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD || n.GetVersion() != 2 ||
		!slices.Equal(n.GetCurUserIdList(), u[:3]) || !slices.Equal(n.GetChgUserIdList(), u[2:3]) {
		t.Errorf("notify: %v", n)
	}
	// This user is not the creator.
	r.want(3, "ChangeMembers",
		`{KEY,"req_user_id":%d,"group_id":%d,"modify_type":2,"user_id_list":[%d]}`, u[1], group,
		u[2])
	r.want(0, "ChangeMembers",
		`{KEY,"req_user_id":0,"group_id":%d,"modify_type":2,"user_id_list":[%d]}`, group, u[0])
	groups, err := r.store.Groups(context.Background(), []uint32{group})
	if err != nil || len(groups) != 1 || !slices.Equal(groups[0].Members, u[1:3]) {
		t.Errorf("members: %+v, %v", groups, err)
	}
	for _, body := range []string{
		`{KEY,"group_name":"","group_type":1,"user_id_list":[1]}`,
		`{KEY,"group_name":"x","group_type":3,"user_id_list":[1]}`,
		`{KEY,"group_name":"x","group_type":1,"user_id_list":[]}`,
		`{KEY,"group_name":"x","group_type":1,"user_id_list":[999999]}`,
		`{KEY,"group_name":"x","group_type":-1,"user_id_list":[1]}`,
		`{KEY,"group_name":"` + strings.Repeat("x", 257) + `","group_type":1,"user_id_list":[1]}`,
	} {
		r.want(1, "CreateGroup", "%s", strings.ReplaceAll(body, "KEY", `"app_key":"`+goodKey+`"`))
	}
	a = r.want(4, "CreateGroup",
		`{KEY,"req_user_id":99999,"group_name":"x","group_type":1,"user_id_list":[%d]}`, u[0])
	if text := a["error_msg"]; text != "no user has the id 99999 (req_user_id)" {
		t.Errorf("a group that nobody makes: %v", text)
	}
	r.want(1, "ChangeMembers", `{KEY,"group_id":0,"modify_type":1,"user_id_list":[1]}`)
	r.want(1, "ChangeMembers", `{KEY,"group_id":1,"modify_type":0,"user_id_list":[1]}`)
	r.want(3, "ChangeMembers", `{KEY,"group_id":99999,"modify_type":1,"user_id_list":[1]}`)
}

// TestSendMessage: a text is stored once, forwarded to its receivers and reported for
// pushes.
func TestSendMessage(t *testing.T) {
	phones := &pushed{}
	r := newRig(t, func(o *Options) { o.Pushes = phones })
	u := r.users
	t.Run("to a user", func(t *testing.T) { sendText(t, r.in(t)) })
	t.Run("repeated with the same id", func(t *testing.T) {
		r := r.in(t)
		for range 2 {
			if a := r.want(0, "SendMessage",
				`{KEY,"req_user_id":%d,"to_user_id":%d,"text":"once","client_msg_id":"x"}`, u[0],
				u[1]); a["msg_id"] != 2.0 {
				t.Errorf("answer %v", a)
			}
		}
		if sent := r.route.take(); len(sent) != 1 || sent[0].(*pb.MsgData).ClientMsgID != nil {
			t.Errorf("forwarded: %v", sent)
		}
	})
	if n := r.asked.Load(); n != 1 {
		t.Errorf("db_proxy was asked %d times whether the sender exists, want once", n)
	}
	g, err := r.store.CreateGroup(t.Context(), im.Group{Name: "g",
		Type: pb.GroupType_GROUP_TYPE_TMP, Members: u[:2]}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("to a group", func(t *testing.T) {
		r := r.in(t)
		r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_group_id":%d,"text":"all"}`, u[0], g.ID)
		if sent := r.route.take(); len(sent) != 1 || !sent[0].(*pb.MsgData).Type.IsGroup() ||
			sent[0].(*pb.MsgData).GroupVersion != g.Version {
			t.Errorf("forwarded: %+v", sent)
		}
	})
	if len(phones.got) != 3 || phones.got[0].ToSessionID != u[1] || phones.got[1].MsgID != 2 ||
		phones.got[2].ToSessionID != g.ID || !phones.got[2].Type.IsGroup() {
		t.Errorf("reported for pushes: %+v", phones.got)
	}
	t.Run("refused", func(t *testing.T) {
		old := newRig(t, func(o *Options) { o.DB = dbPeer{o.DB.(dbPeer).store, true, r.asked} })
		refuseTexts(t, r.in(t), g.ID)
		refuseTexts(t, old, g.ID)
		r := r.in(t)
		for _, body := range []string{`"to_user_id":2,"text":"x"`, `"req_user_id":1,"text":"x"`,
			`"req_user_id":1,"to_user_id":2,"to_group_id":3,"text":"x"`,
			`"req_user_id":1,"to_user_id":1,"text":"x"`, `"req_user_id":1,"to_user_id":2,"text":""`,
			`"req_user_id":1,"to_user_id":2,"text":"` + strings.Repeat("x", im.MaxText+1) + `"`} {
			r.want(1, "SendMessage", `{KEY,`+body+`}`)
		}
	})
	t.Run("without a route server", func(t *testing.T) {
		r := r.in(t)
		r.route.down = true
		r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"stored"}`, u[0],
			u[1])
	})
	if len(phones.got) != 4 { // refused messages are not reported
		t.Errorf("%d messages reported for pushes", len(phones.got))
	}
}

// refuseTexts sends texts of nobody, to nobody, and to a group without the sender.
func refuseTexts(t *testing.T, r *rig, group uint32) {
	const toUser = `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"x"}`
	r.want(4, "SendMessage", toUser, r.users[2], 99999)
	r.want(4, "SendMessage", toUser, 99999, r.users[2])
	if n, err := r.store.LatestID(t.Context(), r.users[2], 99999); n != 0 || err != nil {
		t.Errorf("a message of nobody is stored: %d, %v", n, err)
	}
	r.want(4, "SendMessage", `{KEY,"req_user_id":%d,"to_group_id":%d,"text":"x"}`, r.users[2],
		group)
}

// sendText sends a text to a user. It is stored encrypted, and forwarded.
func sendText(t *testing.T, r *rig) {
	u := r.users
	a := r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"你好 \ud83d\ude00"}`,
		u[0], u[1])
	if a["msg_id"] != 1.0 {
		t.Errorf("answer %v", a)
	}
	list, err := r.store.History(t.Context(), u[1], u[0], 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("history: %v, %v", list, err)
	}
	if text, err := r.text.Decrypt(list[0].Data); text != "你好 😀" || err != nil {
		t.Errorf("stored %q, %v", text, err)
	}
	sent := r.route.take()
	if len(sent) != 1 {
		t.Fatalf("forwarded: %v", sent)
	}
	if m := sent[0].(*pb.MsgData); m.MsgID != 1 || m.FromUserID != u[0] || m.ToSessionID != u[1] ||
		!bytes.Equal(m.Data, list[0].Data) || m.HasAttachData() {
		t.Errorf("forwarded: %+v", m)
	}
}

// TestStatusAndKick: the status of a user includes phones, and a kick covers both device
// classes.
func TestStatusAndKick(t *testing.T) {
	r := newRig(t, nil)
	a := r.want(0, "GetUserStatus", `{KEY,"user_id_list":[4,5]}`)
	const want = "[map[status:1 user_id:4] map[status:2 user_id:5]]"
	if got := fmt.Sprint(a["user_stat_list"]); got != want {
		t.Errorf("statuses: %s", got)
	}
	r.want(1, "GetUserStatus", `{KEY,"user_id_list":[]}`)
	r.want(0, "KickUser", `{KEY,"user_id":7}`)
	sent := r.route.take()
	if len(sent) != 2 || sent[0].(*pb.IMServerKickUser).GetClientType().IsMobile() ||
		!sent[1].(*pb.IMServerKickUser).GetClientType().IsMobile() ||
		sent[0].(*pb.IMServerKickUser).HasAge() { // with one it ends no login in progress
		t.Errorf("kicks: %v", sent)
	}
	r.want(1, "KickUser", `{KEY}`)
	r.route.down = true
	r.want(9, "KickUser", `{KEY,"user_id":7}`)
}
