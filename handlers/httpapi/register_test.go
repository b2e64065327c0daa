package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
)

// TestRegister: a new user needs an invite code and valid fields, and attempts are
// limited.
func TestRegister(t *testing.T) {
	var store im.Store
	r := newRig(t, func(o *Options) {
		o.Register = &Register{Accounts: accounts{&store}, Invites: []string{"come in!"}, Depart: 0}
	})
	store = r.store
	a := r.want(0, "Register", `{"user_name":"carol","password":"long enough",`+
		`"nick_name":"Carol","invite_code":"come in!"}`)
	account, err := store.AccountByName(context.Background(), "carol")
	if err != nil || float64(account.ID) != a["user_id"] ||
		!account.Check(im.ClientPassword("long enough")) || account.Nick != "Carol" {
		t.Errorf("account: %+v, %v, answer %v", account.User, err, a)
	}
	r.want(3, "Register", `{"user_name":"CAROL","password":"long enough","invite_code":"come in!"}`)
	r.want(2, "Register", `{"user_name":"dave","password":"long enough","invite_code":"come in?"}`)
	r.want(2, "Register", `{"user_name":"dave","password":"long enough"}`)
	for _, body := range []string{`"user_name":"d","password":"long enough"`,
		`"user_name":"da ve","password":"long enough"`, `"user_name":"dave","password":"short"`,
		`"user_name":"dave","password":"long enough","nick_name":"` + strings.Repeat("x", 33) + `"`,
		`"user_name":"dave","password":"long enough","nick_name":"\u001b[2J"`} {
		r.want(1, "Register", `{"invite_code":"come in!",`+body+`}`)
	}
	last := 0.0
	for range triesAtOnce {
		a := r.call("Register",
			`{"user_name":"dave","password":"long enough","invite_code":"wrong"}`)
		last = a["error_code"].(float64)
	}
	if last != 8 {
		t.Errorf("after %d attempts: code %v", triesAtOnce, last)
	}
	// Calls of an app from the same address are not limited.
	r.want(0, "GetUserStatus", `{"app_key":%q,"user_id_list":[1]}`, goodKey)
}

// TestRegisterNotForOthers: where registration is limited to networks, clients behind a
// proxy in them are refused, and so are pages of other sites.
func TestRegisterNotForOthers(t *testing.T) {
	near := &Register{Open: true, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("::1/128")}}
	far := &Register{Open: true}
	for _, c := range []struct {
		reg         *Register
		name, value string
		code        float64
	}{
		{near, "Accept", "*/*", 0}, {near, "X-Forwarded-For", "192.0.2.1", 5},
		{near, "Forwarded", "for=192.0.2.1", 5}, {near, "Via", "1.1 front", 5},
		{near, "X-Real-IP", "192.0.2.1", 5},
		{far, "X-Forwarded-For", "192.0.2.1", 0}, {far, "Origin", "https://elsewhere.example", 3},
		{far, "Sec-Fetch-Site", "cross-site", 3}, {far, "Sec-Fetch-Site", "same-origin", 0},
	} {
		r := newRig(t, func(o *Options) { o.Register = c.reg })
		c.reg.Accounts = r.store
		req, err := http.NewRequest("POST", r.url+"/query/Register",
			strings.NewReader(`{"user_name":"zoe","password":"long enough","nick_name":"  "}`))
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
		if account, err := r.store.AccountByName(t.Context(), "zoe"); c.code == 0 &&
			(err != nil || account.Nick != "zoe") {
			t.Errorf("nick of a user with a blank one: %q, %v", account.Nick, err)
		}
	}
}

// terms requests the terms of registration.
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

// TestRegisterOpen: open registration needs no code, and the users created in an hour are
// bounded. Clients in other networks are told that they may not register.
func TestRegisterOpen(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	open := &Register{Open: true, PerHour: 2,
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"),
			netip.MustParsePrefix("::1/128")}}
	r := newRig(t, func(o *Options) { o.Register, o.Now = open, func() time.Time { return now } })
	open.Accounts = r.store
	want := `200 {"error_code":0,"error_msg":"成功","invite_needed":false,"min_password":8}`
	if got := r.terms(); got != want {
		t.Errorf("terms %s, want %s", got, want)
	}
	one := func(code int, name, field string) {
		t.Helper()
		if a := r.want(code, "Register", `{"user_name":%q,"password":"long enough"}`,
			name); a["field"] != field {
			t.Errorf("%s: %v", name, a)
		}
	}
	one(0, "carol", "")
	one(1, "x", "user_name") // does not count: no user was created
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
		t.Errorf("terms in another network: %s", got)
	}
	closed := newRig(t, nil)
	if got := closed.terms(); !strings.HasPrefix(got, "404 ") {
		t.Errorf("terms without registration: %s", got)
	}
	invited := newRig(t, func(o *Options) { o.Register = &Register{Invites: []string{"come in!"}} })
	if got := invited.terms(); !strings.Contains(got, `"invite_needed":true`) {
		t.Errorf("terms with invite codes: %s", got)
	}
}

// TestSameNetwork: the addresses of one IPv6 network share their attempts, because they
// have one owner.
func TestSameNetwork(t *testing.T) {
	a, now := newAddresses(), time.Unix(1_800_000_000, 0)
	for i := range triesAtOnce {
		a.try(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), now)
	}
	for addr, want := range map[string]bool{"2001::ffff": false, "2001:0:0:1::1": true,
		"192.0.2.1": true} {
		if got := a.try(netip.MustParseAddr(addr), now); got != want {
			t.Errorf("%s may try: %v", addr, got)
		}
	}
}

type accounts struct{ store *im.Store }

func (a accounts) CreateUsers(ctx context.Context, list []im.Account) ([]uint32, error) {
	return (*a.store).CreateUsers(ctx, list)
}
