package notify

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
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

// android is a notification for FCM.
var android = Notification{Client: pb.ClientType_CLIENT_TYPE_ANDROID, Token: "abc:123",
	Text: "你好", Data: `{"msg_type":1}`, Badge: 3}

// service stands for Apple's or Google's servers, over HTTP/2 with TLS. It answers each
// request with status, answer and header, and keeps the last request.
type service struct {
	*httptest.Server
	status int
	answer string
	header http.Header

	request *http.Request
	body    map[string]any
	tokens  int
	hold    func() // delays the answer to a request for an access token
}

func newService(t *testing.T) *service {
	s := &service{status: 200}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		if r.URL.Path == "/token" {
			s.tokens++
			if s.hold != nil {
				s.hold()
			}
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
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// write makes a file in a temporary folder.
func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// keyPEM encodes a private key as PKCS #8.
func keyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// newFCM returns a sender to s that trusts its certificate.
func newFCM(t *testing.T, s *service) *FCM {
	return newFCMWith(t, s, s.Client())
}

func newFCMWith(t *testing.T, s *service, client *http.Client) *FCM {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, _ := json.Marshal(map[string]string{"type": "service_account", "project_id": "chat",
		"client_email": "push@chat.example",
		"private_key":  string(keyPEM(t, key)), "private_key_id": "1",
		"token_uri": s.URL + "/token"})
	f, err := NewFCM(FCMOptions{CredentialsFile: write(t, "account.json", account), Host: s.URL,
		Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFCMSends(t *testing.T) {
	s := newService(t)
	f := newFCM(t, s)
	for range 2 {
		if got := f.Send(t.Context(), android); got != (Result{}) {
			t.Fatalf("Send: %+v", got)
		}
	}
	if s.tokens != 1 {
		t.Errorf("%d access tokens for two notifications, want 1", s.tokens)
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
}

func TestFCMAnswers(t *testing.T) {
	s := newService(t)
	f := newFCM(t, s)
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
		if got := f.Send(t.Context(), android); got != c.want {
			t.Errorf("%d %s: %+v, want %+v", c.status, c.answer, got, c.want)
		}
	}
	s.Close()
	if got := f.Send(t.Context(), android); got.Outcome != Later {
		t.Errorf("without a service: %+v, want Later", got)
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	for in, want := range map[string]time.Duration{"": 0, "x": 0, "-1": 0,
		"999999999": maxRetryAfter, "99999999999999": 0} {
		if got := retryAfter(http.Header{"Retry-After": {in}}); got != want {
			t.Errorf("Retry-After %q: %s, want %s", in, got, want)
		}
	}
}

func TestFCMRefusesBadCredentials(t *testing.T) {
	for _, file := range []string{"missing", write(t, "bad", []byte("{}"))} {
		if _, err := NewFCM(FCMOptions{CredentialsFile: file}); im.KindOf(err) != im.Invalid {
			t.Errorf("%s: got %v, want an error of kind Invalid", file, err)
		}
	}
}

// TestTokensStayInTheirPlace sends tokens that would lead elsewhere as part of a URL. The
// APNs sender refuses them, because it puts the token into the URL. FCM's token is a JSON
// string.
func TestTokensStayInTheirPlace(t *testing.T) {
	apple, google := newService(t), newService(t)
	a, f := newAPNs(t, apple, newKey(t), time.Now), newFCM(t, google)
	for _, token := range []string{"", "../../x", "a/../b", "a?b", "a#b", "a%2e", "a b",
		"a\r\nHost: evil", "a\x00", "é", "@evil.example/", "//evil.example", "a\"b",
		strings.Repeat("/", 5000)} {
		n := Notification{Token: token, Text: "x"}
		if got := a.Send(t.Context(), n); got.Outcome != Dead || apple.request != nil {
			t.Errorf("Apple, %.20q: got %+v and the request %v, want Dead and no request", token,
				got, apple.request)
		}
		got := f.Send(t.Context(), n)
		if got.Outcome != Sent ||
			google.request.URL.String() != "/v1/projects/chat/messages:send" ||
			google.body["message"].(map[string]any)["token"] != token {
			t.Errorf("Google, %.20q: %+v, %s, %.100v", token, got, google.request.URL, google.body)
		}
	}
}
