package loginserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"teamtalk/core/im"
)

// apiStand is an HTTP API with a set answer. It records the last request.
type apiStand struct {
	*httptest.Server
	status        int
	answer, asked string
}

func newAPIStand(t *testing.T) *apiStand {
	s := &apiStand{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.asked = fmt.Sprint(r.Method, " ", r.URL.Path, " ", string(body))
		if s.status/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(s.status)
		io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

// newTestRegistrar returns a Registrar for the stand.
func newTestRegistrar(t *testing.T, s *apiStand) *Registrar {
	t.Helper()
	r, err := NewRegistrar(nil, s.URL+"/")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegisterAndTerms(t *testing.T) {
	s := newAPIStand(t)
	r := newTestRegistrar(t, s)
	s.answer = `{"error_code":0,"error_msg":"成功","user_id":7,"field":""}`
	u := NewUser{Name: "carol", Password: "long enough", Invite: "come in!"}
	const asked = `POST /query/Register {"user_name":"carol","password":"long enough",` +
		`"invite_code":"come in!"}`
	if id, err := r.Register(t.Context(), u); id != 7 || err != nil || s.asked != asked {
		t.Errorf("user %d, %v, asked %s", id, err, s.asked)
	}
	s.answer = `{"error_code":0,"error_msg":"成功","invite_needed":true,"min_password":8}`
	terms, err := r.Terms(t.Context())
	want := Terms{Invite: true, MinPassword: 8}
	if err != nil || terms != want || s.asked != "GET /query/Register " {
		t.Errorf("terms %+v, %v, asked %s", terms, err, s.asked)
	}
}

// TestRegisterFailsWithKind also checks that no redirect is followed, which would send
// the password to another server.
func TestRegisterFailsWithKind(t *testing.T) {
	s := newAPIStand(t)
	r := newTestRegistrar(t, s)
	for _, c := range []struct {
		status int
		answer string
		kind   im.Kind
		field  string
	}{
		{200, `{"error_code":1,"error_msg":"x","field":"password"}`, im.Invalid, "password"},
		{200, `{"error_code":1,"error_msg":"x"}`, im.Invalid, ""},
		{200, `{"error_code":2,"error_msg":"x","field":"invite_code"}`, im.Denied, "invite_code"},
		{200, `{"error_code":3,"error_msg":"x","field":"user_name"}`, im.Exists, "user_name"},
		{200, `{"error_code":5,"error_msg":"x"}`, im.NotFound, ""},
		{200, `{"error_code":8,"error_msg":"x"}`, im.Busy, ""},
		{200, `{"error_code":9,"error_msg":"x"}`, im.Unavailable, ""},
		{404, `404 page not found`, im.NotFound, ""},
		{405, ``, im.NotFound, ""},
		{500, ``, im.Unavailable, ""},
		{307, ``, im.Unavailable, ""},
		{200, `{}`, im.Malformed, ""},
		{200, `<html>`, im.Malformed, ""},
		{200, `{"error_code":0}`, im.Malformed, ""},
		{200, `{"error_code":0,"error_msg":"` + strings.Repeat("x", maxDiscovery) + `"}`,
			im.Malformed, ""},
	} {
		s.status, s.answer = c.status, c.answer
		_, err := r.Register(t.Context(), NewUser{})
		var field *FieldError
		named := errors.As(err, &field)
		if err == nil || im.KindOf(err) != c.kind || named != (c.field != "") ||
			named && field.Field != c.field {
			t.Errorf("status %d, %.60s: %v of kind %v", c.status, c.answer, err, im.KindOf(err))
		}
		if !strings.HasPrefix(s.asked, "POST /query/Register ") {
			t.Errorf("asked %s: the password was sent elsewhere", s.asked)
		}
	}
	s.Close()
	if _, err := r.Register(t.Context(), NewUser{}); im.KindOf(err) != im.Unavailable {
		t.Errorf("server down: %v", err)
	}
}

func TestNewRegistrarChecksURL(t *testing.T) {
	for _, api := range []string{"", "ftp://x", "http://", "http://a b"} {
		if _, err := NewRegistrar(nil, api); im.KindOf(err) != im.Invalid {
			t.Errorf("%q: %v", api, err)
		}
	}
}

func TestFindRegistrarReadsLoginServersAnswer(t *testing.T) {
	s := newAPIStand(t)
	const found = `{"code":0,"priorIP":"10.0.0.1","backupIP":"","port":"8000","register":%q}`
	for _, c := range []struct {
		answer, url string
		kind        im.Kind
	}{
		{fmt.Sprintf(found, "https://api.example.com/im"),
			"https://api.example.com/im/query/Register", 0},
		{fmt.Sprintf(found, ""), "", im.NotFound},
		{`{"code":0,"priorIP":"10.0.0.1","backupIP":"","port":"8000"}`, "", im.NotFound},
		{fmt.Sprintf(found, "file:///etc/passwd"), "", im.Malformed},
		{`{"code":1}`, "", im.Unavailable},
		{`[]`, "", im.Malformed},
	} {
		s.answer = c.answer
		r, err := FindRegistrar(t.Context(), nil, s.URL)
		if c.url == "" {
			if im.KindOf(err) != c.kind || err == nil {
				t.Errorf("%s: %v", c.answer, err)
			}
		} else if err != nil || r.URL() != c.url {
			t.Errorf("%s: %+v, %v", c.answer, r, err)
		}
	}
}

// FuzzRegisterAnswer checks that any answer is either a success or an error with a kind.
func FuzzRegisterAnswer(f *testing.F) {
	for _, s := range []string{`{"error_code":0,"user_id":7}`,
		`{"error_code":1,"error_msg":"x","field":"password"}`, `{"error_code":null}`,
		`{"error_code":1e9}`, `[]`, `{"user_id":-1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var a registerAnswer
		err := a.parse(body)
		done := a.Code != nil && *a.Code == registerOK && json.Valid(body)
		if (err == nil) != done && im.KindOf(err) != im.Malformed {
			t.Errorf("%q: %v", body, err)
		}
		var field *FieldError
		wrong := im.KindOf(err) == im.Internal || errors.As(err, &field) && field.Field == ""
		if err != nil && wrong {
			t.Errorf("%q: %v of kind %v", body, err, im.KindOf(err))
		}
	})
}
