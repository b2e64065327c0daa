package httpapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestAdmission checks which apps may make which calls, from which networks and how
// often.
func TestAdmission(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	key := func(c string) string { return strings.Repeat(c, MinKey) }
	r := newRig(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Apps = []App{
			{Name: "all", Key: goodKey, Rate: 1000},
			{Name: "status", Key: key("s"), Calls: []string{"GetUserStatus"},
				Users: []uint32{1, 2}},
			{Name: "bot", Key: key("b"), As: []uint32{1}, Users: []uint32{2}, Groups: []uint32{3}},
			{Name: "elsewhere", Key: key("e"),
				Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
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
		{0, "GetUserStatus", as("s", `"user_id_list":[1,2]`)},
		{3, "GetUserStatus", as("s", `"user_id_list":[1,3]`)},
		{3, "KickUser", as("s", `"user_id":1`)},
		{3, "SendMessage", as("b", `"req_user_id":2,"to_user_id":1,"text":"x"`)},
		{3, "SendMessage", as("b", `"req_user_id":1,"to_user_id":3,"text":"x"`)},
		{3, "SendMessage", as("b", `"req_user_id":1,"to_group_id":4,"text":"x"`)},
		{0, "SendMessage", as("b", `"req_user_id":%d,"to_user_id":%d,"text":"x"`, r.users[0],
			r.users[1])},
		{3, "CreateGroup",
			as("b", `"req_user_id":1,"group_name":"x","group_type":1,"user_id_list":[3]`)},
		{3, "ChangeMembers",
			as("b", `"req_user_id":1,"group_id":9,"modify_type":1,"user_id_list":[2]`)},
		{3, "KickUser", as("b", `"user_id":1`)},
		{2, "GetUserStatus", as("e", `"user_id_list":[1]`)},
		{0, "KickUser", as("l", `"user_id":1`)}, {0, "KickUser", as("l", `"user_id":1`)},
		{8, "KickUser", as("l", `"user_id":1`)},
		{2, "KickUser", `{"app_key":"wrong","user_id":1}`}, {2, "KickUser", `{"user_id":1}`},
		{2, "KickUser", `{}`},
		{1, "KickUser", ``}, {1, "KickUser", `[]`}, {1, "KickUser", `{"user_id":"x"}`},
		{1, "KickUser", `{"user_id":-1}`}, {1, "KickUser", `{} {}`},
		{1, "KickUser", `{"app_key":"` + strings.Repeat("x", 2<<20) + `"}`},
	} {
		if a := r.call(c.call, c.body); a["error_code"] != float64(c.code) {
			t.Errorf("%s %.80s: %v, want code %d", c.call, c.body, a, c.code)
		}
	}
	t.Run("wrong keys are limited", func(t *testing.T) {
		limitedKeys(t, r.in(t), as("e", `"user_id":1`), func(d time.Duration) { now = now.Add(d) })
	})
	t.Run("other paths", func(t *testing.T) { otherPaths(t, r) })
}

// limitedKeys makes calls with wrong keys. They are limited, but do not lock out an app
// that calls from the same address. A valid key from a wrong network, in the body
// elsewhere, counts as wrong.
func limitedKeys(t *testing.T, r *rig, elsewhere string, pass func(time.Duration)) {
	last := 0.0
	for range triesAtOnce {
		last = r.call("KickUser", `{"app_key":"wrong"}`)["error_code"].(float64)
	}
	if last != 8 {
		t.Errorf("after %d wrong keys: code %v", triesAtOnce, last)
	}
	r.want(0, "KickUser", `{KEY,"user_id":1}`)
	r.want(8, "KickUser", `{"app_key":"wrong"}`)
	r.want(8, "KickUser", elsewhere)
	pass(time.Minute)
	r.want(2, "KickUser", `{"app_key":"wrong"}`)
}

// otherPaths requests paths and methods that are not calls.
func otherPaths(t *testing.T, r *rig) {
	for _, path := range []string{"/", "/query/Nothing", "/query/Register"} {
		if rsp, err := http.Post(r.url+path, "application/json", nil); err != nil ||
			rsp.StatusCode != 404 {
			t.Errorf("POST %s: %v, %v", path, rsp, err)
		}
	}
	if rsp, err := http.Get(r.url + "/query/KickUser"); err != nil || rsp.StatusCode != 405 {
		t.Errorf("GET: %v, %v", rsp, err)
	}
}

// TestApps: invalid apps and invalid settings of the registration are refused.
func TestApps(t *testing.T) {
	for _, list := range [][]App{
		{{Key: goodKey}}, {{Name: "a", Key: goodKey}, {Name: "a", Key: goodKey + "x"}},
		{{Name: "a", Key: goodKey}, {Name: "b", Key: goodKey}},
		{{Name: "a", Key: goodKey, Calls: []string{"Nothing"}}},
		{{Name: "a", Key: goodKey, Rate: -1}},
	} {
		if _, err := New(Options{Apps: list}); err == nil {
			t.Errorf("%+v was accepted", list)
		}
	}
	for _, reg := range []*Register{{}, {Invites: []string{"short"}}, {Open: true, PerHour: -1}} {
		if _, err := New(Options{Register: reg}); err == nil {
			t.Errorf("%+v was accepted", reg)
		}
	}
}

// TestShortKeys: only an app in private networks may have a short key.
func TestShortKeys(t *testing.T) {
	const short = "asdfasdf"
	for _, c := range []struct {
		key, networks string
		want          string // part of the error; "": the app is accepted
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
		{strings.Repeat("k", MinKey-1), "",
			"set a key of at least 16 characters, or networks to private"},
		{strings.Repeat("k", MinKey), "", ""},
	} {
		a := App{Name: "web", Key: c.key}
		for n := range strings.FieldsSeq(c.networks) {
			a.Networks = append(a.Networks, netip.MustParsePrefix(n))
		}
		_, err := New(Options{Apps: []App{a}})
		if c.want == "" && err != nil || c.want != "" &&
			(err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q from %q: %v, want %q", c.key, c.networks, err, c.want)
		}
	}
	r := newRig(t, func(o *Options) {
		o.Apps = []App{
			{Name: "web", Key: short,
				Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			{Name: "far", Key: "qwer",
				Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}
	})
	r.want(0, "KickUser", `{"app_key":"asdfasdf","user_id":1}`)
	r.want(2, "KickUser", `{"app_key":"qwer","user_id":1}`)
}
