package notify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// iphone is a notification for APNs.
var iphone = Notification{Client: pb.ClientType_CLIENT_TYPE_IOS, Token: "abc123", Text: "你好",
	Data: `{"msg_type":1,"from_id":7}`, Badge: 3}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trusting makes a the client of s: it trusts the server's certificate.
func trusting(a *APNs, s *service) *APNs {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	a.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	return a
}

// newAPNs makes a sender with a signing key, on the transport that it has in production.
func newAPNs(t *testing.T, s *service, key *ecdsa.PrivateKey, now func() time.Time) *APNs {
	t.Helper()
	a, err := NewAPNs(APNsOptions{Topic: "com.example.chat", KeyFile: write(t, "key.p8",
		keyPEM(t, key)), KeyID: "KEY", TeamID: "TEAM", Host: s.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return trusting(a, s)
}

func TestAPNsSendsOverHTTP2(t *testing.T) {
	s := newService(t)
	a := newAPNs(t, s, newKey(t), nil)
	if got := a.Send(t.Context(), iphone); got != (Result{}) {
		t.Fatalf("Send: %+v", got)
	}
	r := s.request
	if r.ProtoMajor != 2 || r.Method != http.MethodPost || r.URL.Path != "/3/device/abc123" {
		t.Errorf("request: %s %s %s", r.Method, r.Proto, r.URL)
	}
	for name, want := range map[string]string{"apns-topic": "com.example.chat",
		"apns-push-type": "alert", "apns-priority": "10"} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	const want = "map[aps:map[alert:你好 badge:3 sound:default] custom:map[from_id:7 msg_type:1]]"
	if got := fmt.Sprint(s.body); got != want {
		t.Errorf("payload: %s, want %s", got, want)
	}
	silent := iphone
	silent.Silent, silent.Data = true, "no json"
	a.Send(t.Context(), silent)
	if got := fmt.Sprint(s.body); got != "map[aps:map[alert:你好 badge:3]]" {
		t.Errorf("payload of a silent notification: %s", got)
	}
}

// TestAPNsSignsTokens checks the token as Apple does, and how long it is used.
func TestAPNsSignsTokens(t *testing.T) {
	s, key, now := newService(t), newKey(t), time.Unix(1_700_000_000, 0)
	a := newAPNs(t, s, key, func() time.Time { return now })
	send := func() (token string, issued int64) {
		t.Helper()
		a.Send(t.Context(), iphone)
		token, ok := strings.CutPrefix(s.request.Header.Get("authorization"), "bearer ")
		if !ok {
			t.Fatalf("no token: %v", s.request.Header)
		}
		claims := jwt.MapClaims{}
		parsed, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) {
			return &key.PublicKey, nil
		}, jwt.WithValidMethods([]string{"ES256"}),
			jwt.WithTimeFunc(func() time.Time { return now }))
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Header["kid"] != "KEY" || claims["iss"] != "TEAM" {
			t.Errorf("token: header %v, claims %v", parsed.Header, claims)
		}
		return token, int64(claims["iat"].(float64))
	}
	first, issued := send()
	if issued != now.Unix() {
		t.Errorf("issued at %d, want %d", issued, now.Unix())
	}
	now = now.Add(tokenAge - time.Second)
	if again, _ := send(); again != first {
		t.Error("a token that is still good was replaced")
	}
	now = now.Add(time.Second)
	if _, issued := send(); issued != now.Unix() {
		t.Error("an old token was used")
	}

	// Apple calls a token expired: a new one is signed, but not more often than Apple
	// allows.
	refused := func() { s.status, s.answer = 403, `{"reason":"ExpiredProviderToken"}` }
	accepted := func() { s.status, s.answer = 200, "" }
	young, _ := send()
	refused()
	a.Send(t.Context(), iphone)
	accepted()
	if again, _ := send(); again != young {
		t.Error("a second token within 20 minutes")
	}
	now = now.Add(tokenMinAge)
	refused()
	a.Send(t.Context(), iphone)
	accepted()
	if _, issued := send(); issued != now.Unix() {
		t.Error("the expired token was used again")
	}
}

func TestAPNsAnswers(t *testing.T) {
	s := newService(t)
	a := newAPNs(t, s, newKey(t), nil)
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
		want := Result{Outcome: c.want, Reason: c.reason}
		if got := a.Send(t.Context(), iphone); got != want {
			t.Errorf("%d %s: %+v, want %+v", c.status, c.reason, got, want)
		}
	}
	s.status, s.answer = 502, "<html>"
	if got := a.Send(t.Context(), iphone); got != (Result{Outcome: Later, Reason: "status 502"}) {
		t.Errorf("an answer without a reason: %+v", got)
	}
	s.request = nil
	long := Notification{Token: "x", Text: strings.Repeat("x", maxPayload)}
	if got := a.Send(t.Context(), long); got.Outcome != Refused || s.request != nil {
		t.Errorf("a payload that is too long: %+v, want Refused and no request", got)
	}
	s.Close()
	if got := a.Send(t.Context(), iphone); got != (Result{Outcome: Later, Reason: "unreachable"}) {
		t.Errorf("without a service: %+v, want Later", got)
	}
}

// certificatePEM makes a certificate that signs itself.
func certificatePEM(t *testing.T, key *ecdsa.PrivateKey, name string) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestAPNsSendsWithACertificate tries the forms of file in which operators have one.
func TestAPNsSendsWithACertificate(t *testing.T) {
	key := newKey(t)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 this is the form of the files that readCertificate accepts
	locked, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte("secret"),
		x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificatePEM(t, key, "pem")
	for _, c := range []struct{ name, file, password, want string }{
		{"PEM", write(t, "a.pem", append(keyPEM(t, key), cert...)), "", "pem"},
		{"PEM with a password", write(t, "b.pem", bytes.Join([][]byte{cert,
			pem.EncodeToMemory(locked)}, nil)), "secret", "pem"},
		{"PKCS #12", filepath.Join("testdata", "sender.p12"), "secret",
			"Push test of com.example.chat"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newService(t)
			o := APNsOptions{Topic: "com.example.chat", CertFile: c.file, Host: s.URL}
			if c.password != "" {
				if _, err := NewAPNs(o); im.KindOf(err) != im.Invalid {
					t.Errorf("without the password: %v, want an error of kind Invalid", err)
				}
			}
			o.CertPassword = c.password
			a, err := NewAPNs(o)
			if err != nil {
				t.Fatal(err)
			}
			if got := trusting(a, s).Send(t.Context(), iphone); got != (Result{}) {
				t.Fatalf("Send: %+v", got)
			}
			peers := s.request.TLS.PeerCertificates
			if len(peers) != 1 || peers[0].Subject.CommonName != c.want {
				t.Errorf("the service saw the certificates %v, want that of %q", peers, c.want)
			}
			if token := s.request.Header.Get("authorization"); token != "" {
				t.Errorf("a token beside the certificate: %s", token)
			}
		})
	}
}

// TestAPNsChecksTheServer sends to a server whose certificate nothing vouches for.
func TestAPNsChecksTheServer(t *testing.T) {
	s := newService(t)
	a := newAPNs(t, s, newKey(t), nil)
	a.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{}
	if got := a.Send(t.Context(), iphone); got.Outcome != Later || s.request != nil {
		t.Errorf("got %+v and the request %v, want Later and no request", got, s.request)
	}
}

func TestAPNsRefusesBadCredentials(t *testing.T) {
	bad := write(t, "bad", []byte("{}"))
	for _, o := range []APNsOptions{{}, {Topic: "x"}, {Topic: "x", KeyFile: "missing"},
		{Topic: "x", KeyFile: bad}, {Topic: "x", CertFile: "missing"}, {Topic: "x", CertFile: bad},
		{Topic: "x", CertFile: write(t, "c", certificatePEM(t, newKey(t), "no key"))},
		{Topic: "x", KeyFile: write(t, "key.p8", keyPEM(t, newKey(t)))}, // without the ids
	} {
		if _, err := NewAPNs(o); im.KindOf(err) != im.Invalid {
			t.Errorf("%+v: got %v, want an error of kind Invalid", o, err)
		}
	}
}
