package client

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

// apiStand answers as the HTTP API does, and keeps what it was asked.
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

func TestRegister(t *testing.T) {
	s := newAPIStand(t)
	r, err := NewRegistrar(nil, s.URL+"/")
	if err != nil {
		t.Fatal(err)
	}
	s.answer = `{"error_code":0,"error_msg":"成功","user_id":7,"field":""}`
	id, err := r.Register(t.Context(), NewUser{Name: "carol", Password: "long enough", Invite: "come in!"})
	if id != 7 || err != nil || s.asked != `POST /query/Register {"user_name":"carol","password":"long enough","invite_code":"come in!"}` {
		t.Errorf("user %d, %v, asked %s", id, err, s.asked)
	}
	s.answer = `{"error_code":0,"error_msg":"成功","invite_needed":true,"min_password":8}`
	if terms, err := r.Terms(t.Context()); err != nil || terms != (Terms{Invite: true, MinPassword: 8}) || s.asked != "GET /query/Register " {
		t.Errorf("terms %+v, %v, asked %s", terms, err, s.asked)
	}
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
		{200, `{"error_code":5,"error_msg":"x"}`, im.NotFound, ""}, {200, `{"error_code":8,"error_msg":"x"}`, im.Busy, ""},
		{200, `{"error_code":9,"error_msg":"x"}`, im.Unavailable, ""}, {404, `404 page not found`, im.NotFound, ""}, {405, ``, im.NotFound, ""},
		{500, ``, im.Unavailable, ""}, {307, ``, im.Unavailable, ""}, {200, `{}`, im.Malformed, ""}, {200, `<html>`, im.Malformed, ""},
		{200, `{"error_code":0}`, im.Malformed, ""}, {200, `{"error_code":0,"error_msg":"` + strings.Repeat("x", maxDiscovery) + `"}`, im.Malformed, ""},
	} {
		s.status, s.answer = c.status, c.answer
		_, err := r.Register(t.Context(), NewUser{})
		var field *FieldError
		if err == nil || im.KindOf(err) != c.kind || errors.As(err, &field) != (c.field != "") || c.field != "" && field.Field != c.field {
			t.Errorf("status %d, %.60s: %v of kind %v", c.status, c.answer, err, im.KindOf(err))
		}
		if !strings.HasPrefix(s.asked, "POST /query/Register ") {
			t.Errorf("asked %s: a password went elsewhere", s.asked)
		}
	}
	s.Close()
	if _, err := r.Register(t.Context(), NewUser{}); im.KindOf(err) != im.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
	for _, api := range []string{"", "ftp://x", "http://", "http://a b"} {
		if _, err := NewRegistrar(nil, api); im.KindOf(err) != im.Invalid {
			t.Errorf("%q: %v", api, err)
		}
	}
}

func TestFindRegistrar(t *testing.T) {
	s := newAPIStand(t)
	const found = `{"code":0,"priorIP":"10.0.0.1","backupIP":"","port":"8000","register":%q}`
	for _, c := range []struct {
		answer, url string
		kind        im.Kind
	}{
		{fmt.Sprintf(found, "https://api.example.com/im"), "https://api.example.com/im/query/Register", 0},
		{fmt.Sprintf(found, ""), "", im.NotFound}, {`{"code":0,"priorIP":"10.0.0.1","backupIP":"","port":"8000"}`, "", im.NotFound},
		{fmt.Sprintf(found, "file:///etc/passwd"), "", im.Malformed}, {`{"code":1}`, "", im.Unavailable}, {`[]`, "", im.Malformed},
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

// FuzzRegisterAnswer: whatever a server answers is an error with a kind, or the code that says done.
func FuzzRegisterAnswer(f *testing.F) {
	for _, s := range []string{`{"error_code":0,"user_id":7}`, `{"error_code":1,"error_msg":"x","field":"password"}`, `{"error_code":null}`, `{"error_code":1e9}`, `[]`, `{"user_id":-1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var a registerAnswer
		err := a.parse(body)
		if (err == nil) != (a.Code != nil && *a.Code == registerOK && json.Valid(body)) && im.KindOf(err) != im.Malformed {
			t.Errorf("%q: %v", body, err)
		}
		var field *FieldError
		if err != nil && (im.KindOf(err) == im.Internal || errors.As(err, &field) && field.Field == "") {
			t.Errorf("%q: %v of kind %v", body, err, im.KindOf(err))
		}
	})
}
