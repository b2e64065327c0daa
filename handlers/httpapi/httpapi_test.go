package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// dbPeer does what a db_proxy does with the calls that come from here, on a real store.
type dbPeer struct{ store im.Store }

func (p dbPeer) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment, done func(pb.Message, error)) {
	done(p.answer(req), nil)
}

func (p dbPeer) answer(req pb.Attachment) pb.Message {
	ctx := context.Background()
	switch m := req.(type) {
	case *pb.IMGroupCreateReq:
		rsp := &pb.IMGroupCreateRsp{}
		g, err := p.store.CreateGroup(ctx, im.Group{Name: m.GetGroupName(), Type: m.GetGroupType(), Creator: m.GetUserId(), Members: m.GetMemberIdList()})
		if err != nil {
			rsp.SetResultCode(1)
			return rsp
		}
		rsp.SetGroupId(g.ID)
		return rsp
	case *pb.IMGroupChangeMemberReq:
		rsp := &pb.IMGroupChangeMemberRsp{}
		change, err := p.store.ChangeMembers(ctx, m.GetGroupId(), m.GetChangeType(), m.GetMemberIdList(), func(g *im.Group) error {
			if by := m.GetUserId(); by != 0 && by != g.Creator {
				return im.Errorf(im.Denied, "not the creator")
			}
			return nil
		})
		if err != nil {
			rsp.SetResultCode(1)
			return rsp
		}
		rsp.SetCurUserIdList(change.Current)
		rsp.SetChgUserIdList(change.Changed)
		rsp.SetVersion(change.Version)
		return rsp
	case *pb.MsgData:
		row := &im.Message{From: m.FromUserID, To: m.ToSessionID, Created: m.CreateTime, Type: m.Type, Data: m.Data, ClientID: m.ClientMsgID}
		p.store.AppendMessages(ctx, []*im.Message{row})
		m.MsgID, m.Duplicate, m.GroupVersion = row.ID, row.Duplicate, row.GroupVersion
		return m
	}
	return nil
}

func (p dbPeer) Send(uint64, uint16, pb.Message) error { return nil }

// routePeer is a route server as far as it is asked here.
type routePeer struct {
	mu   sync.Mutex
	sent []pb.Message
	down bool
}

func (p *routePeer) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment, done func(pb.Message, error)) {
	rsp := &pb.IMUsersStatRsp{}
	rsp.SetUserId(0)
	q := req.(*pb.IMUsersStatReq)
	var list []*pb.UserStat
	for _, u := range q.GetUserIdList() {
		st := &pb.UserStat{}
		st.SetUserId(u)
		st.SetStatus(pb.UserStatType_USER_STATUS_OFFLINE)
		if u%2 == 0 && q.HasScope() && q.GetScope() == pb.DeviceScope_DEVICE_SCOPE_ANY { // at a phone
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

// pushed keeps what pushes were to be decided about.
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
	users []uint32
	url   string
	text  *im.TextCipher
	web   *web.Server
}

const goodKey = "0123456789abcdef"

func newRig(t *testing.T, change func(o *Options)) *rig {
	t.Helper()
	return newRigOn(t, change, web.Options{})
}

// newRigOn makes a server on a port with those limits.
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
	r := &rig{T: t, store: store, route: &routePeer{}, text: text}
	var accounts []im.Account
	for i := range 4 {
		accounts = append(accounts, im.Account{User: im.User{Name: fmt.Sprint("user", i), Nick: "x"}})
	}
	if r.users, err = store.CreateUsers(context.Background(), accounts); err != nil {
		t.Fatal(err)
	}
	o := Options{DB: dbPeer{store}, Route: r.route, Text: text, Apps: []App{{Name: "all", Key: goodKey, Rate: 1e6}}}
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

// call posts a JSON object and returns the answer's.
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

// want calls and fails unless the error_code is code.
func (r *rig) want(code int, name, format string, args ...any) map[string]any {
	r.Helper()
	body := fmt.Sprintf(strings.ReplaceAll(format, "KEY", `"app_key":"`+goodKey+`"`), args...)
	a := r.call(name, body)
	if a["error_code"] != float64(code) || (code == 0) != (a["error_msg"] == "成功") {
		r.Errorf("%s %s: %v, want code %d", name, body, a, code)
	}
	return a
}

func TestGroups(t *testing.T) {
	r := newRig(t, nil)
	u := r.users
	a := r.want(0, "CreateGroup", `{KEY,"req_user_id":0,"group_name":"judge","group_type":1,"group_avatar":"","user_id_list":[%d,%d]}`, u[1], u[0])
	group := uint32(a["group_id"].(float64))
	if sent := r.route.take(); len(sent) != 0 {
		t.Errorf("a new group was told of: %v", sent)
	}
	r.want(0, "ChangeMembers", `{KEY,"req_user_id":0,"group_id":%d,"modify_type":1,"user_id_list":[%d]}`, group, u[2])
	sent := r.route.take()
	if len(sent) != 1 {
		t.Fatalf("told of a change: %v", sent)
	}
	n := sent[0].(*pb.IMGroupChangeMemberNotify)
	if n.GetUserId() != 0 || n.GetGroupId() != group || n.GetChangeType() != pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD || n.GetVersion() != 2 ||
		!slices.Equal(n.GetCurUserIdList(), u[:3]) || !slices.Equal(n.GetChgUserIdList(), u[2:3]) {
		t.Errorf("notify: %v", n)
	}
	r.want(3, "ChangeMembers", `{KEY,"req_user_id":%d,"group_id":%d,"modify_type":2,"user_id_list":[%d]}`, u[1], group, u[2]) // not the creator
	r.want(0, "ChangeMembers", `{KEY,"req_user_id":0,"group_id":%d,"modify_type":2,"user_id_list":[%d]}`, group, u[0])
	groups, err := r.store.Groups(context.Background(), []uint32{group})
	if err != nil || len(groups) != 1 || !slices.Equal(groups[0].Members, u[1:3]) {
		t.Errorf("members: %+v, %v", groups, err)
	}
	for _, body := range []string{
		`{KEY,"group_name":"","group_type":1,"user_id_list":[1]}`, `{KEY,"group_name":"x","group_type":3,"user_id_list":[1]}`,
		`{KEY,"group_name":"x","group_type":1,"user_id_list":[]}`, `{KEY,"group_name":"x","group_type":1,"user_id_list":[999999]}`,
		`{KEY,"group_name":"x","group_type":-1,"user_id_list":[1]}`, `{KEY,"group_name":"` + strings.Repeat("x", 257) + `","group_type":1,"user_id_list":[1]}`,
	} {
		r.want(1, "CreateGroup", "%s", strings.ReplaceAll(body, "KEY", `"app_key":"`+goodKey+`"`))
	}
	r.want(1, "ChangeMembers", `{KEY,"group_id":0,"modify_type":1,"user_id_list":[1]}`)
	r.want(1, "ChangeMembers", `{KEY,"group_id":1,"modify_type":0,"user_id_list":[1]}`)
	r.want(3, "ChangeMembers", `{KEY,"group_id":99999,"modify_type":1,"user_id_list":[1]}`)
}

func TestSendMessage(t *testing.T) {
	phones := &pushed{}
	r := newRig(t, func(o *Options) { o.Pushes = phones })
	u, ctx := r.users, context.Background()
	a := r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"你好 \ud83d\ude00"}`, u[0], u[1])
	if a["msg_id"] != 1.0 {
		t.Errorf("answer %v", a)
	}
	list, err := r.store.History(ctx, u[1], u[0], 0, 10)
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
	if m := sent[0].(*pb.MsgData); m.MsgID != 1 || m.FromUserID != u[0] || m.ToSessionID != u[1] || !bytes.Equal(m.Data, list[0].Data) || m.HasAttachData() {
		t.Errorf("forwarded: %+v", m)
	}
	for range 2 {
		if a := r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"once","client_msg_id":"x"}`, u[0], u[1]); a["msg_id"] != 2.0 {
			t.Errorf("answer %v", a)
		}
	}
	if sent := r.route.take(); len(sent) != 1 || sent[0].(*pb.MsgData).ClientMsgID != nil {
		t.Errorf("forwarded: %v", sent)
	}
	g, err := r.store.CreateGroup(ctx, im.Group{Name: "g", Type: pb.GroupType_GROUP_TYPE_TMP, Members: u[:2]})
	if err != nil {
		t.Fatal(err)
	}
	r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_group_id":%d,"text":"all"}`, u[0], g.ID)
	if sent := r.route.take(); len(sent) != 1 || !sent[0].(*pb.MsgData).Type.IsGroup() || sent[0].(*pb.MsgData).GroupVersion != g.Version {
		t.Errorf("forwarded: %+v", sent)
	}
	if len(phones.got) != 3 || phones.got[0].ToSessionID != u[1] || phones.got[1].MsgID != 2 || phones.got[2].ToSessionID != g.ID || !phones.got[2].Type.IsGroup() {
		t.Errorf("pushed to about %+v", phones.got)
	}
	r.want(4, "SendMessage", `{KEY,"req_user_id":%d,"to_group_id":%d,"text":"not in"}`, u[2], g.ID)
	r.want(4, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":99999,"text":"nobody"}`, u[2])
	for _, body := range []string{`"to_user_id":2,"text":"x"`, `"req_user_id":1,"text":"x"`, `"req_user_id":1,"to_user_id":2,"to_group_id":3,"text":"x"`,
		`"req_user_id":1,"to_user_id":1,"text":"x"`, `"req_user_id":1,"to_user_id":2,"text":""`, `"req_user_id":1,"to_user_id":2,"text":"` + strings.Repeat("x", im.MaxText+1) + `"`} {
		r.want(1, "SendMessage", `{KEY,`+body+`}`)
	}
	r.route.down = true
	r.want(0, "SendMessage", `{KEY,"req_user_id":%d,"to_user_id":%d,"text":"stored"}`, u[0], u[1])
	if len(phones.got) != 4 { // what was not stored is not among them
		t.Errorf("pushed to about %d messages", len(phones.got))
	}
}

func TestStatusAndKick(t *testing.T) {
	r := newRig(t, nil)
	a := r.want(0, "GetUserStatus", `{KEY,"user_id_list":[4,5]}`)
	if got := fmt.Sprint(a["user_stat_list"]); got != "[map[status:1 user_id:4] map[status:2 user_id:5]]" {
		t.Errorf("statuses: %s", got)
	}
	r.want(1, "GetUserStatus", `{KEY,"user_id_list":[]}`)
	r.want(0, "KickUser", `{KEY,"user_id":7}`)
	sent := r.route.take()
	if len(sent) != 2 || sent[0].(*pb.IMServerKickUser).GetClientType().IsMobile() || !sent[1].(*pb.IMServerKickUser).GetClientType().IsMobile() {
		t.Errorf("kicks: %v", sent)
	}
	r.want(1, "KickUser", `{KEY}`)
	r.route.down = true
	r.want(9, "KickUser", `{KEY,"user_id":7}`)
}

// TestAdmission: who may call what, from where, how often.
func TestAdmission(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key := func(c string) string { return strings.Repeat(c, MinKey) }
	r := newRig(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Apps = []App{
			{Name: "all", Key: goodKey, Rate: 1000},
			{Name: "status", Key: key("s"), Calls: []string{"GetUserStatus"}, Users: []uint32{1, 2}},
			{Name: "bot", Key: key("b"), As: []uint32{1}, Users: []uint32{2}, Groups: []uint32{3}},
			{Name: "elsewhere", Key: key("e"), Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
			{Name: "slow", Key: key("l"), Rate: 1, Burst: 2},
		}
	})
	as := func(c, format string, args ...any) string {
		return `{"app_key":"` + key(c) + `",` + fmt.Sprintf(format, args...) + `}`
	}
	for _, c := range []struct {
		code int
		call string
		body string
	}{
		{0, "GetUserStatus", as("s", `"user_id_list":[1,2]`)}, {3, "GetUserStatus", as("s", `"user_id_list":[1,3]`)}, {3, "KickUser", as("s", `"user_id":1`)},
		{3, "SendMessage", as("b", `"req_user_id":2,"to_user_id":1,"text":"x"`)}, {3, "SendMessage", as("b", `"req_user_id":1,"to_user_id":3,"text":"x"`)},
		{3, "SendMessage", as("b", `"req_user_id":1,"to_group_id":4,"text":"x"`)}, {0, "SendMessage", as("b", `"req_user_id":%d,"to_user_id":%d,"text":"x"`, r.users[0], r.users[1])},
		{3, "CreateGroup", as("b", `"req_user_id":1,"group_name":"x","group_type":1,"user_id_list":[3]`)},
		{3, "ChangeMembers", as("b", `"req_user_id":1,"group_id":9,"modify_type":1,"user_id_list":[2]`)},
		{3, "KickUser", as("b", `"user_id":1`)},
		{2, "GetUserStatus", as("e", `"user_id_list":[1]`)},
		{0, "KickUser", as("l", `"user_id":1`)}, {0, "KickUser", as("l", `"user_id":1`)}, {8, "KickUser", as("l", `"user_id":1`)},
		{2, "KickUser", `{"app_key":"wrong","user_id":1}`}, {2, "KickUser", `{"user_id":1}`}, {2, "KickUser", `{}`},
		{1, "KickUser", ``}, {1, "KickUser", `[]`}, {1, "KickUser", `{"user_id":"x"}`}, {1, "KickUser", `{"user_id":-1}`}, {1, "KickUser", `{} {}`},
		{1, "KickUser", `{"app_key":"` + strings.Repeat("x", 2<<20) + `"}`},
	} {
		if a := r.call(c.call, c.body); a["error_code"] != float64(c.code) {
			t.Errorf("%s %.80s: %v, want code %d", c.call, c.body, a, c.code)
		}
	}
	// Wrong keys are limited, but do not lock out an app that calls from the same address.
	last := 0.0
	for range triesAtOnce {
		last = r.call("KickUser", `{"app_key":"wrong"}`)["error_code"].(float64)
	}
	if last != 8 {
		t.Errorf("after %d wrong keys: code %v", triesAtOnce, last)
	}
	r.want(0, "KickUser", `{KEY,"user_id":1}`)
	r.want(8, "KickUser", `{"app_key":"wrong"}`)
	r.want(8, "KickUser", as("e", `"user_id":1`)) // a right key from a wrong network is a wrong key
	now = now.Add(time.Minute)
	r.want(2, "KickUser", `{"app_key":"wrong"}`)
	for _, path := range []string{"/", "/query/Nothing", "/query/Register"} {
		if rsp, err := http.Post(r.url+path, "application/json", nil); err != nil || rsp.StatusCode != 404 {
			t.Errorf("POST %s: %v, %v", path, rsp, err)
		}
	}
	if rsp, err := http.Get(r.url + "/query/KickUser"); err != nil || rsp.StatusCode != 405 {
		t.Errorf("GET: %v, %v", rsp, err)
	}
}

func TestRegister(t *testing.T) {
	var store im.Store
	r := newRig(t, func(o *Options) {
		o.Register = &Register{Accounts: accounts{&store}, Invites: []string{"come in!"}, Depart: 0}
	})
	store = r.store
	a := r.want(0, "Register", `{"user_name":"carol","password":"long enough","nick_name":"Carol","invite_code":"come in!"}`)
	account, err := store.AccountByName(context.Background(), "carol")
	if err != nil || float64(account.ID) != a["user_id"] || !account.Check(im.ClientPassword("long enough")) || account.Nick != "Carol" {
		t.Errorf("account: %+v, %v, answer %v", account.User, err, a)
	}
	r.want(3, "Register", `{"user_name":"CAROL","password":"long enough","invite_code":"come in!"}`)
	r.want(2, "Register", `{"user_name":"dave","password":"long enough","invite_code":"come in?"}`)
	r.want(2, "Register", `{"user_name":"dave","password":"long enough"}`)
	for _, body := range []string{`"user_name":"d","password":"long enough"`, `"user_name":"da ve","password":"long enough"`, `"user_name":"dave","password":"short"`,
		`"user_name":"dave","password":"long enough","nick_name":"` + strings.Repeat("x", 33) + `"`, `"user_name":"dave","password":"long enough","nick_name":"\u001b[2J"`} {
		r.want(1, "Register", `{"invite_code":"come in!",`+body+`}`)
	}
	last := 0.0
	for range triesAtOnce {
		last = r.call("Register", `{"user_name":"dave","password":"long enough","invite_code":"wrong"}`)["error_code"].(float64)
	}
	if last != 8 {
		t.Errorf("after %d tries: code %v", triesAtOnce, last)
	}
	r.want(0, "GetUserStatus", `{"app_key":%q,"user_id_list":[1]}`, goodKey) // a portal's calls from the same address go on
}

// TestRegisterNotForOthers: where people of some networks may register, neither a proxy there lets in everybody, nor a page of another site whom it meets.
func TestRegisterNotForOthers(t *testing.T) {
	near := &Register{Open: true, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	far := &Register{Open: true}
	for _, c := range []struct {
		reg         *Register
		name, value string
		code        float64
	}{
		{near, "Accept", "*/*", 0}, {near, "X-Forwarded-For", "192.0.2.1", 5}, {near, "Forwarded", "for=192.0.2.1", 5}, {near, "Via", "1.1 front", 5}, {near, "X-Real-IP", "192.0.2.1", 5},
		{far, "X-Forwarded-For", "192.0.2.1", 0}, {far, "Origin", "https://elsewhere.example", 3}, {far, "Sec-Fetch-Site", "cross-site", 3}, {far, "Sec-Fetch-Site", "same-origin", 0},
	} {
		r := newRig(t, func(o *Options) { o.Register = c.reg })
		c.reg.Accounts = r.store
		req, err := http.NewRequest("POST", r.url+"/query/Register", strings.NewReader(`{"user_name":"zoe","password":"long enough","nick_name":"  "}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(c.name, c.value)
		rsp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var a map[string]any
		err = json.NewDecoder(rsp.Body).Decode(&a)
		rsp.Body.Close()
		if err != nil || a["error_code"] != c.code {
			t.Errorf("%s: %s: %v, %v, want code %v", c.name, c.value, a, err, c.code)
		}
		if account, err := r.store.AccountByName(t.Context(), "zoe"); c.code == 0 && (err != nil || account.Nick != "zoe") {
			t.Errorf("a blank name to be shown: %q, %v", account.Nick, err)
		}
	}
}

// terms asks how to register.
func (r *rig) terms() string {
	r.Helper()
	rsp, err := http.Get(r.url + "/query/Register")
	if err != nil {
		r.Fatal(err)
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return fmt.Sprint(rsp.StatusCode, " ", strings.TrimSpace(string(data)))
}

// TestRegisterOpen: where registration is open to all nobody needs a code; how many are made in an hour is bounded; who may not register from there is told.
func TestRegisterOpen(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	open := &Register{Open: true, PerHour: 2, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	r := newRig(t, func(o *Options) { o.Register, o.Now = open, func() time.Time { return now } })
	open.Accounts = r.store
	if got, want := r.terms(), `200 {"error_code":0,"error_msg":"成功","invite_needed":false,"min_password":8}`; got != want {
		t.Errorf("terms %s, want %s", got, want)
	}
	one := func(code int, name, field string) {
		t.Helper()
		if a := r.want(code, "Register", `{"user_name":%q,"password":"long enough"}`, name); a["field"] != field {
			t.Errorf("%s: %v", name, a)
		}
	}
	one(0, "carol", "")
	one(1, "x", "user_name") // does not count: nobody was made
	one(0, "dave", "")
	one(8, "erin", "")
	now = now.Add(30 * time.Minute)
	one(3, "carol", "user_name")
	now = now.Add(30 * time.Minute)
	one(0, "erin", "")

	open.Networks = open.Networks[:1]
	open.Networks[0] = netip.MustParsePrefix("192.0.2.0/24")
	one(5, "frank", "")
	if got := r.terms(); !strings.Contains(got, `"error_code":5`) {
		t.Errorf("terms for who may not register: %s", got)
	}
	closed := newRig(t, nil)
	if got := closed.terms(); !strings.HasPrefix(got, "404 ") {
		t.Errorf("terms where nobody may register: %s", got)
	}
	invited := newRig(t, func(o *Options) { o.Register = &Register{Invites: []string{"come in!"}} })
	if got := invited.terms(); !strings.Contains(got, `"invite_needed":true`) {
		t.Errorf("terms with invite codes: %s", got)
	}
}

// TestSameNetwork: the addresses of one IPv6 network share their tries, as they have one owner.
func TestSameNetwork(t *testing.T) {
	a, now := newAddresses(), time.Unix(1_800_000_000, 0)
	for i := range triesAtOnce {
		a.try(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), now)
	}
	for addr, want := range map[string]bool{"2001::ffff": false, "2001:0:0:1::1": true, "192.0.2.1": true} {
		if got := a.try(netip.MustParseAddr(addr), now); got != want {
			t.Errorf("%s may try: %v", addr, got)
		}
	}
}

type accounts struct{ store *im.Store }

func (a accounts) CreateUsers(ctx context.Context, list []im.Account) ([]uint32, error) {
	return (*a.store).CreateUsers(ctx, list)
}

func TestApps(t *testing.T) {
	for _, list := range [][]App{
		{{Key: goodKey}}, {{Name: "a", Key: goodKey}, {Name: "a", Key: goodKey + "x"}},
		{{Name: "a", Key: goodKey}, {Name: "b", Key: goodKey}}, {{Name: "a", Key: goodKey, Calls: []string{"Nothing"}}}, {{Name: "a", Key: goodKey, Rate: -1}},
	} {
		if _, err := New(Options{Apps: list}); err == nil {
			t.Errorf("%+v was taken", list)
		}
	}
	for _, reg := range []*Register{{}, {Invites: []string{"short"}}, {Open: true, PerHour: -1}} {
		if _, err := New(Options{Register: reg}); err == nil {
			t.Errorf("%+v was taken", reg)
		}
	}
}

// TestShortKeys: a short key is for apps in private networks alone.
func TestShortKeys(t *testing.T) {
	const short = "asdfasdf"
	for _, c := range []struct {
		key, networks string
		want          string // part of the error; "": the app is taken
	}{
		{short, "127.0.0.0/8", ""},
		{short, "127.0.0.1/32 ::1/128 10.1.0.0/16 172.31.0.0/24 192.168.1.7/32 fd00::/8", ""},
		{"x", "fc00::/7", ""},
		{short, "", "app web: the key has 8 characters and networks is empty"},
		{short, "192.0.2.0/24", "its network 192.0.2.0/24 has public addresses"},
		{short, "10.0.0.0/8 172.0.0.0/8", "its network 172.0.0.0/8 has public"},
		{short, "8.0.0.0/6", "public"},
		{short, "10.0.0.0/7", "public"},
		{short, "172.16.0.0/8", "public"},
		{short, "fd00::/6", "public"},
		{short, "0.0.0.0/0", "public"},
		{short, "::/0", "public"},
		{short, "fe80::/10", "public"},
		{short, "::ffff:10.0.0.0/104", "public"},
		{short, "169.254.0.0/16", "public"},
		{"", "127.0.0.0/8", "app web: has no key"},
		{strings.Repeat("k", MinKey-1), "", "set a key of at least 16 characters, or networks to private"},
		{strings.Repeat("k", MinKey), "", ""},
	} {
		a := App{Name: "web", Key: c.key}
		for n := range strings.FieldsSeq(c.networks) {
			a.Networks = append(a.Networks, netip.MustParsePrefix(n))
		}
		_, err := New(Options{Apps: []App{a}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q from %q: %v, want %q", c.key, c.networks, err, c.want)
		}
	}
	r := newRig(t, func(o *Options) {
		o.Apps = []App{
			{Name: "web", Key: short, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			{Name: "far", Key: "qwer", Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}
	})
	r.want(0, "KickUser", `{"app_key":"asdfasdf","user_id":1}`)
	r.want(2, "KickUser", `{"app_key":"qwer","user_id":1}`)
}

// TestOpenAPI: the description names every call with every field, and nothing else.
func TestOpenAPI(t *testing.T) {
	r := newRig(t, nil)
	rsp, err := http.Get(r.url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	type schema struct {
		Properties map[string]any
	}
	type content struct {
		Content map[string]struct{ Schema schema }
	}
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody content
			Responses   map[string]content
		}
	}
	if err := json.NewDecoder(rsp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	calls := map[string][2]any{
		"CreateGroup": {createGroupRequest{}, createGroupResult{}}, "ChangeMembers": {changeMembersRequest{}, answer{}},
		"SendMessage": {sendMessageRequest{}, sendMessageResult{}}, "GetUserStatus": {userStatusRequest{}, userStatusResult{}},
		"KickUser": {kickUserRequest{}, answer{}}, "Register": {registerRequest{}, registerResult{}},
	}
	if len(doc.Paths) != len(calls) || len(calls) != len(Calls)+1 {
		t.Errorf("%d paths, %d calls, %d of apps", len(doc.Paths), len(calls), len(Calls))
	}
	for name, types := range calls {
		post := doc.Paths["/query/"+name]["post"]
		for i, described := range []map[string]any{post.RequestBody.Content["application/json"].Schema.Properties,
			post.Responses["200"].Content["application/json"].Schema.Properties} {
			want := fields(reflect.TypeOf(types[i]))
			var got []string
			for f := range described {
				got = append(got, f)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: described %v, is %v", name, got, want)
			}
		}
	}
}

// TestTermsDescribed: the description of the call that asks how to register names every field of the answer.
func TestTermsDescribed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct {
					Schema struct{ Properties map[string]any }
				}
			}
		}
	}
	if err := json.Unmarshal(description, &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for f := range doc.Paths["/query/Register"]["get"].Responses["200"].Content["application/json"].Schema.Properties {
		got = append(got, f)
	}
	slices.Sort(got)
	if want := fields(reflect.TypeFor[termsResult]()); !slices.Equal(got, want) {
		t.Errorf("described %v, is %v", got, want)
	}
}

// fields are the JSON names of a struct's fields, sorted.
func fields(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, fields(f.Type)...)
			continue
		}
		names = append(names, f.Tag.Get("json"))
	}
	slices.Sort(names)
	return names
}
