package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"teamtalk/core/im"
)

// FCMOptions configure an FCM. A service account identifies the sender to Google.
type FCMOptions struct {
	CredentialsFile string // the account's JSON, with its key. Required.
	Host            string // replaces Google's server, as https://host:port
	// Client sends the notifications and fetches the access tokens, within 10 s if it has no
	// limit. nil: a client as http.DefaultClient, which notices a connection that has fallen
	// silent.
	Client *http.Client
}

// FCM is Google's Firebase Cloud Messaging, HTTP v1.
type FCM struct {
	client *http.Client
	tokens accessTokens
	url    string
}

var _ Provider = (*FCM)(nil)

const (
	fcmHost  = "https://fcm.googleapis.com"
	fcmScope = "https://www.googleapis.com/auth/firebase.messaging"
)

// NewFCM reads the credentials. It does not connect. Errors are of kind im.Invalid.
func NewFCM(o FCMOptions) (*FCM, error) {
	data, err := os.ReadFile(o.CredentialsFile)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "read FCM credentials "+o.CredentialsFile, err)
	}
	var account struct {
		Type         string `json:"type"`
		Project      string `json:"project_id"`
		Email        string `json:"client_email"`
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
		TokenURL     string `json:"token_uri"`
	}
	if err := json.Unmarshal(data, &account); err != nil {
		return nil, im.WithKind(im.Invalid, "read FCM credentials "+o.CredentialsFile, err)
	}
	if account.Type != "service_account" || account.Project == "" || account.Email == "" ||
		account.PrivateKey == "" || account.TokenURL == "" {
		return nil, im.Errorf(im.Invalid,
			"FCM credentials %s are not those of a service account", o.CredentialsFile)
	}
	conf := jwt.Config{Email: account.Email, PrivateKey: []byte(account.PrivateKey),
		PrivateKeyID: account.PrivateKeyID,
		Scopes:       []string{fcmScope}, TokenURL: account.TokenURL}
	client := o.Client
	if client == nil {
		client = &http.Client{Transport: fcmTransport()}
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, tokenClient(client))
	host := o.Host
	if host == "" {
		host = fcmHost
	}
	return &FCM{client: client, tokens: accessTokens{source: conf.TokenSource(ctx)},
		url: host + "/v1/projects/" + account.Project + "/messages:send"}, nil
}

// fcmTransport returns a transport as that of http.DefaultClient, with pings. Without them
// the requests that follow a timeout use the same connection, which may have failed.
func fcmTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWait}
	return t
}

// fcmMessage is a request's body:
// https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
type fcmMessage struct {
	Message struct {
		Token        string            `json:"token"`
		Notification fcmShown          `json:"notification"`
		Data         map[string]string `json:"data,omitempty"`
		Android      fcmAndroid        `json:"android"`
	} `json:"message"`
}

type fcmShown struct {
	Body string `json:"body"`
}

type fcmAndroid struct {
	Priority     string `json:"priority"`
	Notification struct {
		Count uint32 `json:"notification_count,omitempty"`
		Sound string `json:"sound,omitempty"`
	} `json:"notification"`
}

// maxAnswer is the longest part of an answer that is read, in bytes.
const maxAnswer = 64 << 10

// Send sends one notification to Google. The end of ctx ends it, also while it waits for an
// access token.
func (f *FCM) Send(ctx context.Context, n Notification) Result {
	var m fcmMessage
	m.Message.Token = n.Token
	m.Message.Notification.Body = n.Text
	if n.Data != "" {
		m.Message.Data = map[string]string{"custom": n.Data,
			"badge": strconv.FormatUint(uint64(n.Badge), 10)}
	}
	m.Message.Android.Priority = "NORMAL"
	m.Message.Android.Notification.Count = n.Badge
	if !n.Silent {
		m.Message.Android.Priority = "HIGH"
		m.Message.Android.Notification.Sound = "default"
	}
	body, err := json.Marshal(m)
	if err != nil {
		return Result{Outcome: Refused, Reason: "INVALID_ARGUMENT"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return Result{Outcome: Refused, Reason: "INVALID_ARGUMENT"}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	token, err := f.tokens.get(ctx)
	if err != nil {
		return Result{Outcome: Later, Reason: "unreachable"}
	}
	token.SetAuthHeader(req)
	status, header, answer, err := exchange(f.client, req)
	if err != nil {
		return Result{Outcome: Later, Reason: "unreachable"}
	}
	return fcmResult(status, header, answer)
}

// fcmResult reads Google's answer:
// https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
func fcmResult(status int, header http.Header, body []byte) Result {
	if status == http.StatusOK {
		return Result{Outcome: Sent}
	}
	var e struct {
		Error struct {
			Status  string `json:"status"`
			Details []struct {
				Code string `json:"errorCode"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &e) // an answer that does not decode has its status as reason
	reason := e.Error.Status
	for _, d := range e.Error.Details {
		if d.Code != "" {
			reason = d.Code
		}
	}
	if reason == "" {
		reason = "status " + strconv.Itoa(status)
	}
	switch {
	case reason == "UNREGISTERED", reason == "SENDER_ID_MISMATCH":
		return Result{Outcome: Dead, Reason: reason}
	case status == http.StatusTooManyRequests, status >= 500,
		status == http.StatusUnauthorized:
		return Result{Outcome: Later, Reason: reason, After: retryAfter(header)}
	}
	return Result{Outcome: Refused, Reason: reason}
}

// maxRetryAfter is the longest pause that a service can ask for.
const maxRetryAfter = 10 * time.Minute

// retryAfter returns the pause that the header Retry-After asks for in seconds, and 0
// when it gives none or a date.
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(s)*time.Second, maxRetryAfter)
}
