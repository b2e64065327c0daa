package loginserver

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
)

func TestParseDiscoveryAcceptsAllForms(t *testing.T) {
	for _, c := range []struct {
		body string
		want []string
		kind im.Kind
	}{
		{`{"code":0,"msg":"","priorIP":"10.0.0.1","backupIP":"10.0.0.2","msfsPrior":"x",` +
			`"discovery":"y","port":"8000"}`, []string{"10.0.0.1:8000", "10.0.0.2:8000"}, 0},
		{`{"code":0,"priorIP":"10.0.0.1","backupIP":"10.0.0.1","port":"8000"}`,
			[]string{"10.0.0.1:8000"}, 0},
		{`{"priorIP":"chat.example.com","backupIP":"","port":8000}`,
			[]string{"chat.example.com:8000"}, 0},
		{`{"priorIP":"::1","backupIP":"","port":"8000"}`, []string{"[::1]:8000"}, 0},
		{`{"code":1,"msg":"没有msg_server"}`, nil, im.Unavailable},
		{`{"code":2,"msg":"负载过高"}`, nil, im.Busy},
		{`{"code":0,"priorIP":"10.0.0.1","port":"0"}`, nil, im.Malformed},
		{`{"code":0,"priorIP":"10.0.0.1","port":"70000"}`, nil, im.Malformed},
		{`{"code":0,"priorIP":"10.0.0.1"}`, nil, im.Malformed},
		{`{"code":0,"priorIP":"a b","backupIP":"x\n","port":"8000"}`, nil, im.Malformed},
		{`<html>`, nil, im.Malformed},
		{``, nil, im.Malformed},
	} {
		var got []string
		d, err := parseDiscovery([]byte(c.body))
		if err == nil {
			got, err = d.addrs()
		}
		if !slices.Equal(got, c.want) || c.want == nil && (err == nil || im.KindOf(err) != c.kind) {
			t.Errorf("%s: %v, %v", c.body, got, err)
		}
	}
}

// loginStand is a login server with a set answer.
type loginStand struct {
	*httptest.Server
	status int
	body   string
}

func newLoginStand(t *testing.T) *loginStand {
	s := &loginStand{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/msg_server" || r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		w.WriteHeader(s.status)
		_, _ = w.Write([]byte(s.body))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestDiscoverCompletesURL(t *testing.T) {
	s := newLoginStand(t)
	s.body = `{"code":0,"priorIP":"127.0.0.1","backupIP":"","port":"8000"}`
	for _, url := range []string{
		s.URL, s.URL + "/", s.URL + "/msg_server", strings.TrimPrefix(s.URL, "http://"),
	} {
		got, err := Discover(t.Context(), s.Client(), url)
		if err != nil || !slices.Equal(got, []string{"127.0.0.1:8000"}) {
			t.Errorf("%s: %v, %v", url, got, err)
		}
	}
}

func TestDiscoverFailsWithKind(t *testing.T) {
	s := newLoginStand(t)
	long := `{"code":0,"msg":"` + strings.Repeat("x", maxDiscovery) + `"}`
	for _, c := range []struct {
		name, body, url string
		status          int
		want            im.Kind
	}{
		{"long answer", long, s.URL, http.StatusOK, im.Malformed},
		{"bad gateway", "{}", s.URL, http.StatusBadGateway, im.Unavailable},
		{"other scheme", "{}", "ftp://x", http.StatusOK, im.Invalid},
	} {
		s.status, s.body = c.status, c.body
		if _, err := Discover(t.Context(), s.Client(), c.url); im.KindOf(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	s.Close()
	if _, err := Discover(t.Context(), s.Client(), s.URL); im.KindOf(err) != im.Unavailable {
		t.Errorf("server down: %v", err)
	}
}

func FuzzDiscovery(f *testing.F) {
	f.Add([]byte(`{"code":0,"msg":"","priorIP":"10.0.0.1","backupIP":"10.0.0.2","msfsPrior":"x",` +
		`"discovery":"y","port":"8000"}`))
	f.Add([]byte(`{"code":1,"msg":"none"}`))
	f.Add([]byte(`{"priorIP":"::1%eth0","port":1e3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := parseDiscovery(body)
		if err != nil {
			return
		}
		addrs, err := d.addrs()
		if (err == nil) != (len(addrs) > 0) || len(addrs) > 2 {
			t.Errorf("%v, %v", addrs, err)
		}
		for _, a := range addrs {
			if strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				t.Errorf("address %q", a)
			}
		}
	})
}
