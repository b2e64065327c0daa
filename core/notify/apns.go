package notify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/pkcs12"

	"teamtalk/core/im"
	"teamtalk/core/mono"
)

// APNsOptions configure an APNs. Either a signing key (KeyFile, KeyID, TeamID) or a
// certificate (CertFile, CertPassword) identifies the sender to Apple.
type APNsOptions struct {
	Topic         string // the app's bundle id. Required.
	KeyFile       string // .p8
	KeyID, TeamID string
	CertFile      string // .p12, or .pem with key and certificate
	CertPassword  string
	Sandbox       bool         // send to Apple's servers for apps under development
	Host          string       // replaces Apple's server, as https://host:port
	Client        *http.Client // sends the requests. nil: one with HTTP/2 and the certificate.
	// Now dates the tokens. nil: mono.Now.
	Now func() time.Time
}

// APNs is Apple's service, over HTTP/2.
type APNs struct {
	client *http.Client
	url    string // to which a device token is appended
	topic  string
	signer *signer // nil with a certificate
}

var _ Provider = (*APNs)(nil)

const (
	apnsHost    = "https://api.push.apple.com"
	apnsSandbox = "https://api.sandbox.push.apple.com"
)

// NewAPNs reads the credentials. It does not connect. Errors are of kind im.Invalid.
func NewAPNs(o APNsOptions) (*APNs, error) {
	a := &APNs{client: o.Client, topic: o.Topic}
	var cert *tls.Certificate
	var err error
	switch {
	case o.Topic == "":
		return nil, im.Errorf(im.Invalid, "APNs needs a topic, which is the app's bundle id")
	case o.KeyFile != "":
		if a.signer, err = newSigner(o); err != nil {
			return nil, im.WithKind(im.Invalid, "read APNs key "+o.KeyFile, err)
		}
	case o.CertFile != "":
		if cert, err = readCertificate(o.CertFile, o.CertPassword); err != nil {
			return nil, im.WithKind(im.Invalid, "read APNs certificate "+o.CertFile, err)
		}
	default:
		return nil, im.Errorf(im.Invalid, "APNs needs a key file or a certificate file")
	}
	if a.client == nil {
		a.client = &http.Client{Transport: apnsTransport(cert)}
	}
	host := o.Host
	switch {
	case host != "":
	case o.Sandbox:
		host = apnsSandbox
	default:
		host = apnsHost
	}
	a.url = host + "/3/device/"
	return a, nil
}

// pingAfter is the silence on a connection to Apple or Google after which a ping checks
// that the connection still works, and pingWait the wait for the answer.
const (
	pingAfter = 15 * time.Second
	pingWait  = 15 * time.Second
)

// apnsTransport returns a transport that speaks HTTP/2 only, since Apple's servers speak
// nothing else. cert identifies the sender; nil: the requests carry a token instead.
func apnsTransport(cert *tls.Certificate) *http.Transport {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, Protocols: protocols,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Hour,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait},
	}
}

// Apple wants a token of at most an hour, and refuses senders that sign a new one more
// often than every 20 minutes.
const (
	tokenAge    = 50 * time.Minute
	tokenMinAge = 20 * time.Minute
)

// signer makes the tokens that identify the sender. Any goroutine.
type signer struct {
	key       *ecdsa.PrivateKey
	keyID, by string
	now       func() time.Time

	mu     sync.Mutex
	token  string
	signed time.Time
}

func newSigner(o APNsOptions) (*signer, error) {
	data, err := os.ReadFile(o.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(data)
	if err != nil {
		return nil, err
	}
	if o.KeyID == "" || o.TeamID == "" {
		return nil, errors.New("the key's id and the team's id are missing")
	}
	s := &signer{key: key, keyID: o.KeyID, by: o.TeamID, now: o.Now}
	if s.now == nil {
		s.now = mono.Now
	}
	return s, nil
}

// bearer returns a token, and signs a new one when the last is older than tokenAge.
func (s *signer) bearer() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.token != "" && now.Sub(s.signed) < tokenAge {
		return s.token, nil
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": s.by, "iat": now.Unix()})
	t.Header["kid"] = s.keyID
	token, err := t.SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign APNs token: %w", err)
	}
	s.token, s.signed = token, now
	return token, nil
}

// expired makes bearer sign a new token, unless the last one is younger than tokenMinAge.
func (s *signer) expired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.signed) >= tokenMinAge {
		s.token = ""
	}
}

// readCertificate reads a certificate and its key from a PEM or a PKCS #12 file.
func readCertificate(file, password string) (*tls.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	blocks := pemBlocks(data)
	if len(blocks) == 0 {
		if blocks, err = pkcs12.ToPEM(data, password); err != nil {
			return nil, fmt.Errorf("neither PEM nor PKCS #12: %w", err)
		}
	}
	var certs, keys bytes.Buffer
	for _, b := range blocks {
		out := &certs
		if b.Type != "CERTIFICATE" {
			out = &keys
			//lint:ignore SA1019 operators have such files
			if x509.IsEncryptedPEMBlock(b) {
				//lint:ignore SA1019 see above
				if b.Bytes, err = x509.DecryptPEMBlock(b, []byte(password)); err != nil {
					return nil, err
				}
			}
		}
		b.Headers = nil // PKCS #12 attributes, or the encryption
		if err := pem.Encode(out, b); err != nil {
			return nil, err
		}
	}
	cert, err := tls.X509KeyPair(certs.Bytes(), keys.Bytes())
	return &cert, err
}

// pemBlocks returns the blocks of a PEM file; none when data is not PEM.
func pemBlocks(data []byte) []*pem.Block {
	var blocks []*pem.Block
	for {
		b, rest := pem.Decode(data)
		if b == nil {
			return blocks
		}
		blocks, data = append(blocks, b), rest
	}
}

// aps is Apple's part of a payload.
type aps struct {
	Alert string `json:"alert"`
	Badge uint32 `json:"badge"`
	Sound string `json:"sound,omitempty"`
}

// maxPayload is the longest payload that Apple accepts, in bytes.
const maxPayload = 4096

// The reasons that Send itself gives, in Apple's words.
const (
	badDeviceToken       = "BadDeviceToken"
	payloadTooLarge      = "PayloadTooLarge"
	expiredProviderToken = "ExpiredProviderToken"
)

// fits reports whether a token can be one of Apple's, which are hexadecimal digits. Other
// letters are harmless in the URL that the token becomes part of.
func fits(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

// apnsPayload returns the JSON that the phone gets.
func apnsPayload(n Notification) ([]byte, error) {
	p := struct {
		APS    aps             `json:"aps"`
		Custom json.RawMessage `json:"custom,omitempty"`
	}{APS: aps{Alert: n.Text, Badge: n.Badge, Sound: "default"}}
	if n.Silent {
		p.APS.Sound = ""
	}
	if json.Valid([]byte(n.Data)) {
		p.Custom = json.RawMessage(n.Data)
	}
	return json.Marshal(p)
}

// Send sends one notification to Apple.
func (a *APNs) Send(ctx context.Context, n Notification) Result {
	if !fits(n.Token) {
		return Result{Outcome: Dead, Reason: badDeviceToken}
	}
	payload, err := apnsPayload(n)
	if err != nil || len(payload) > maxPayload {
		return Result{Outcome: Refused, Reason: payloadTooLarge}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+n.Token,
		bytes.NewReader(payload))
	if err != nil {
		return Result{Outcome: Refused, Reason: badDeviceToken}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("apns-topic", a.topic)
	req.Header.Set("apns-push-type", "alert")
	req.Header.Set("apns-priority", "10")
	if a.signer != nil {
		token, err := a.signer.bearer()
		if err != nil {
			return Result{Outcome: Later, Reason: "unsigned"}
		}
		req.Header.Set("authorization", "bearer "+token)
	}
	status, _, body, err := exchange(a.client, req)
	if err != nil {
		return Result{Outcome: Later, Reason: "unreachable"}
	}
	result := apnsResult(status, body)
	if a.signer != nil && result.Reason == expiredProviderToken {
		a.signer.expired()
	}
	return result
}

// exchange sends a request and reads the answer, at most maxAnswer bytes of it.
func exchange(c *http.Client, req *http.Request) (int, http.Header, []byte, error) {
	rsp, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, maxAnswer))
	return rsp.StatusCode, rsp.Header, body, err
}

// apnsResult reads Apple's answer:
// https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
func apnsResult(status int, body []byte) Result {
	if status == http.StatusOK {
		return Result{Outcome: Sent}
	}
	var e struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(body, &e) // an answer that does not decode has its status as reason
	if e.Reason == "" {
		e.Reason = "status " + strconv.Itoa(status)
	}
	switch {
	case status == http.StatusGone, e.Reason == badDeviceToken,
		e.Reason == "DeviceTokenNotForTopic", e.Reason == "Unregistered",
		e.Reason == "ExpiredToken":
		return Result{Outcome: Dead, Reason: e.Reason}
	case status == http.StatusTooManyRequests, status >= 500,
		e.Reason == expiredProviderToken, e.Reason == "IdleTimeout":
		return Result{Outcome: Later, Reason: e.Reason}
	}
	return Result{Outcome: Refused, Reason: e.Reason}
}
