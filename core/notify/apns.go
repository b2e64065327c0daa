package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/certificate"
	"github.com/sideshow/apns2/token"

	"teamtalk/core/im"
)

// APNsOptions say who speaks to Apple: with a signing key (KeyFile, KeyID, TeamID), or with a certificate.
type APNsOptions struct {
	Topic         string // the app's bundle id. Required.
	KeyFile       string // .p8
	KeyID, TeamID string
	CertFile      string // .p12, or .pem with key and certificate
	CertPassword  string
	Sandbox       bool   // Apple's servers for apps under development
	Host          string // instead of Apple's: https://host:port
	Client        *http.Client
}

// APNs is Apple's service, over HTTP/2.
type APNs struct {
	client *apns2.Client
	topic  string
}

var _ Provider = (*APNs)(nil)

// NewAPNs reads the credentials. It does not connect.
func NewAPNs(o APNsOptions) (*APNs, error) {
	client, err := apnsClient(o)
	if err != nil {
		return nil, err
	}
	client.Production()
	if o.Sandbox {
		client.Development()
	}
	if o.Host != "" {
		client.Host = o.Host
	}
	if o.Client != nil {
		client.HTTPClient = o.Client
	}
	return &APNs{client: client, topic: o.Topic}, nil
}

func apnsClient(o APNsOptions) (*apns2.Client, error) {
	switch {
	case o.Topic == "":
		return nil, im.Errorf(im.Invalid, "APNs needs a topic, the app's bundle id")
	case o.KeyFile != "":
		key, err := token.AuthKeyFromFile(o.KeyFile)
		if err != nil {
			return nil, im.WithKind(im.Invalid, "APNs key", err)
		}
		if o.KeyID == "" || o.TeamID == "" {
			return nil,
				im.Errorf(im.Invalid, "APNs needs the key's id and the team's id with a key")
		}
		return apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: o.KeyID, TeamID: o.TeamID}),
			nil
	case o.CertFile != "":
		cert, err := readCertificate(o.CertFile, o.CertPassword)
		if err != nil {
			return nil, im.WithKind(im.Invalid, "APNs certificate", err)
		}
		return apns2.NewClient(cert), nil
	}
	return nil, im.Errorf(im.Invalid, "APNs needs a key or a certificate")
}

func readCertificate(file, password string) (tls.Certificate, error) {
	if cert, err := certificate.FromPemFile(file, password); err == nil {
		return cert, nil
	}
	return certificate.FromP12File(file, password)
}

// aps is Apple's part of a payload.
type aps struct {
	Alert string `json:"alert"`
	Badge uint32 `json:"badge"`
	Sound string `json:"sound,omitempty"`
}

// maxPayload is the longest payload that Apple takes, in bytes.
const maxPayload = 4096

// fits reports whether a token can be one of Apple's, which are hexadecimal digits; other letters do no harm. It becomes part of a URL.
func fits(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

// Send hands one notification to Apple.
func (a *APNs) Send(ctx context.Context, n Notification) Result {
	if !fits(n.Token) {
		return Result{Outcome: Dead, Reason: apns2.ReasonBadDeviceToken}
	}
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
	payload, err := json.Marshal(p)
	if err != nil || len(payload) > maxPayload {
		return Result{Outcome: Refused, Reason: apns2.ReasonPayloadTooLarge}
	}
	rsp, err := a.client.PushWithContext(ctx, &apns2.Notification{
		DeviceToken: n.Token, Topic: a.topic, Payload: payload, PushType: apns2.PushTypeAlert,
		Priority: apns2.PriorityHigh,
	})
	if err != nil {
		return Result{Outcome: Later, Reason: "unreachable"}
	}
	return apnsResult(rsp)
}

// apnsResult reads Apple's answer: https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
func apnsResult(rsp *apns2.Response) Result {
	switch {
	case rsp.Sent():
		return Result{Outcome: Sent}
	case rsp.StatusCode == http.StatusGone, rsp.Reason == apns2.ReasonBadDeviceToken,
		rsp.Reason == apns2.ReasonDeviceTokenNotForTopic,
		rsp.Reason == apns2.ReasonUnregistered, rsp.Reason == apns2.ReasonExpiredToken:
		return Result{Outcome: Dead, Reason: rsp.Reason}
	case rsp.StatusCode == http.StatusTooManyRequests, rsp.StatusCode >= 500,
		rsp.Reason == apns2.ReasonExpiredProviderToken, rsp.Reason == apns2.ReasonIdleTimeout:
		return Result{Outcome: Later, Reason: rsp.Reason}
	}
	return Result{Outcome: Refused, Reason: rsp.Reason}
}
