package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// service is a stand-in for Apple's or Google's servers, over HTTP/2: it answers what it was told to, and remembers the last request.
type service struct {
	*httptest.Server
	status int
	answer string
	header http.Header

	request *http.Request
	body    map[string]any
	tokens  int
}

func newService(t *testing.T) *service {
	s := &service{status: 200}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		if r.URL.Path == "/token" {
			s.tokens++
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token":"access","token_type":"Bearer","expires_in":3600}`)
			return
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.request, s.body = r, nil
		if err := json.Unmarshal(data, &s.body); err != nil {
			t.Errorf("%s: %v", data, err)
		}
		for k, v := range s.header {
			w.Header()[k] = v
		}
		w.WriteHeader(s.status)
		fmt.Fprint(w, s.answer)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func keyFile(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.p8")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newAPNs(t *testing.T, s *service) *APNs {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAPNs(APNsOptions{Topic: "com.example.chat", KeyFile: keyFile(t, key), KeyID: "KEY",
		TeamID: "TEAM", Host: s.URL, Client: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newFCM(t *testing.T, s *service) *FCM {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pemKey, err := os.ReadFile(keyFile(t, key))
	if err != nil {
		t.Fatal(err)
	}
	account, _ := json.Marshal(map[string]string{"type": "service_account", "project_id": "chat",
		"client_email": "push@chat.example",
		"private_key":  string(pemKey), "private_key_id": "1", "token_uri": s.URL + "/token"})
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := NewFCM(FCMOptions{CredentialsFile: file, Host: s.URL, Client: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAPNs(t *testing.T) {
	s := newService(t)
	a := newAPNs(t, s)
	n := Notification{Client: pb.ClientType_CLIENT_TYPE_IOS, Token: "abc123", Text: "你好",
		Data: `{"msg_type":1,"from_id":7}`, Badge: 3}
	if got := a.Send(context.Background(), n); got != (Result{}) {
		t.Fatalf("Send: %+v", got)
	}
	r := s.request
	if r.ProtoMajor != 2 || r.URL.Path != "/3/device/abc123" ||
		r.Header.Get("apns-topic") != "com.example.chat" ||
		r.Header.Get("apns-push-type") != "alert" ||
		!strings.HasPrefix(r.Header.Get("authorization"), "bearer ") {
		t.Errorf("request: %s %s %v", r.Proto, r.URL, r.Header)
	}
	if got := fmt.Sprint(
		s.body); got != "map[aps:map[alert:你好 badge:3 sound:default] custom:map[from_id:7 "+
		"msg_type:1]]" {
		t.Errorf("payload: %s", got)
	}
	n.Silent, n.Data = true, "no json"
	a.Send(context.Background(), n)
	if got := fmt.Sprint(s.body); got != "map[aps:map[alert:你好 badge:3]]" {
		t.Errorf("payload of a silent one: %s", got)
	}
	for _, c := range []struct {
		status int
		reason string
		want   Outcome
	}{
		{410, "Unregistered", Dead}, {400, "BadDeviceToken", Dead},
		{400, "DeviceTokenNotForTopic", Dead}, {410, "ExpiredToken", Dead},
		{429, "TooManyRequests", Later}, {500, "InternalServerError", Later},
		{503, "ServiceUnavailable", Later}, {403, "ExpiredProviderToken", Later},
		{400, "BadTopic", Refused}, {403, "InvalidProviderToken", Refused},
		{413, "PayloadTooLarge", Refused},
	} {
		s.status, s.answer = c.status, fmt.Sprintf(`{"reason":%q}`, c.reason)
		if got := a.Send(context.Background(), n); got != (Result{Outcome: c.want,
			Reason: c.reason}) {
			t.Errorf("%d %s: %+v, want %s", c.status, c.reason, got, c.want)
		}
	}
	s.request = nil
	if got := a.Send(context.Background(), Notification{Token: "x",
		Text: strings.Repeat("x", maxPayload)}); got.Outcome != Refused || s.request != nil {
		t.Errorf("too long: %+v", got)
	}
	s.Close()
	if got := a.Send(context.Background(), n); got.Outcome != Later {
		t.Errorf("service gone: %+v", got)
	}
}

func TestFCM(t *testing.T) {
	s := newService(t)
	f := newFCM(t, s)
	n := Notification{Client: pb.ClientType_CLIENT_TYPE_ANDROID, Token: "abc:123", Text: "你好",
		Data: `{"msg_type":1}`, Badge: 3}
	for range 2 {
		if got := f.Send(context.Background(), n); got != (Result{}) {
			t.Fatalf("Send: %+v", got)
		}
	}
	if s.tokens != 1 {
		t.Errorf("%d access tokens for two notifications", s.tokens)
	}
	r := s.request
	if r.URL.Path != "/v1/projects/chat/messages:send" ||
		r.Header.Get("Authorization") != "Bearer access" {
		t.Errorf("request: %s %v", r.URL, r.Header)
	}
	const want = "map[message:map[android:map[notification:map[notification_count:3 " +
		"sound:default] priority:HIGH] " +
		`data:map[badge:3 custom:{"msg_type":1}] notification:map[body:你好] token:abc:123]]`
	if got := fmt.Sprint(s.body); got != want {
		t.Errorf("body: %s", got)
	}
	detail := func(status, code string) string {
		return fmt.Sprintf(`{"error":{"status":%q,"details":[{"@type":"x"},{"errorCode":%q}]}}`,
			status, code)
	}
	s.header = http.Header{"Retry-After": {"7"}}
	for _, c := range []struct {
		status int
		answer string
		want   Result
	}{
		{404, detail("NOT_FOUND", "UNREGISTERED"), Result{Dead, "UNREGISTERED", 0}},
		{403, detail("PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
			Result{Dead, "SENDER_ID_MISMATCH", 0}},
		{429, detail("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
			Result{Later, "QUOTA_EXCEEDED", 7 * time.Second}},
		{503, detail("UNAVAILABLE", "UNAVAILABLE"), Result{Later, "UNAVAILABLE", 7 * time.Second}},
		{500, `<html>`, Result{Later, "status 500", 7 * time.Second}},
		{400, detail("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
			Result{Refused, "INVALID_ARGUMENT", 0}},
		{401, `{"error":{"status":"UNAUTHENTICATED"}}`,
			Result{Later, "UNAUTHENTICATED", 7 * time.Second}},
	} {
		s.status, s.answer = c.status, c.answer
		if got := f.Send(context.Background(), n); got != c.want {
			t.Errorf("%d %s: %+v, want %+v", c.status, c.answer, got, c.want)
		}
	}
	for in, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0,
		"999999999": maxRetryAfter, "99999999999999": 0} {
		if got := retryAfter(http.Header{"Retry-After": {in}}); got != want {
			t.Errorf("Retry-After %q: %s, want %s", in, got, want)
		}
	}
	s.Close()
	if got := f.Send(context.Background(), n); got.Outcome != Later {
		t.Errorf("service gone: %+v", got)
	}
}

func TestCredentials(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []APNsOptions{{}, {Topic: "x"}, {Topic: "x", KeyFile: "missing"},
		{Topic: "x", KeyFile: bad}, {Topic: "x", CertFile: bad}} {
		if _, err := NewAPNs(o); im.KindOf(err) != im.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAPNs(APNsOptions{Topic: "x", KeyFile: keyFile(t, key)}); im.KindOf(
		err) != im.Invalid {
		t.Errorf("a key without ids: %v", err)
	}
	for _, file := range []string{"missing", bad} {
		if _, err := NewFCM(FCMOptions{CredentialsFile: file}); im.KindOf(err) != im.Invalid {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestStrangeTokens: a token does not lead anywhere but to the service's place for tokens. Apple's goes into a URL, and one that is none is not sent at all; Google's is
// text among others.
func TestStrangeTokens(t *testing.T) {
	apple, google := newService(t), newService(t)
	a, f := newAPNs(t, apple), newFCM(t, google)
	for _, token := range []string{"", "../../x", "a/../b", "a?b", "a#b", "a%2e", "a b",
		"a\r\nHost: evil", "a\x00", "é", "@evil.example/", "//evil.example", "a\"b",
		strings.Repeat("/", 5000)} {
		if got := a.Send(context.Background(), Notification{Token: token,
			Text: "x"}); got.Outcome != Dead || apple.request != nil {
			t.Errorf("Apple, %.20q: %+v, %v", token, got, apple.request)
		}
		got := f.Send(context.Background(), Notification{Token: token, Text: "x"})
		if got.Outcome != Sent ||
			google.request.URL.String() != "/v1/projects/chat/messages:send" ||
			google.body["message"].(map[string]any)["token"] != token {
			t.Errorf("Google, %.20q: %+v, %s, %.100v", token, got, google.request.URL, google.body)
		}
	}
}
