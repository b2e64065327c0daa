package deploy

import (
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
	"strings"
	"sync"
)

// PushService stands in for the push service of Google. It issues access tokens, and counts
// the pushes of each text. Any goroutine.
type PushService struct {
	server      *httptest.Server
	url         string
	credentials string // file

	mu    sync.Mutex
	times map[string]int // by text
}

// startPushService starts the service, and writes the credentials of an account to a file.
func startPushService(credentials string) (*PushService, error) {
	p := &PushService{credentials: credentials, times: map[string]int{}}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	p.url = p.server.URL
	account, err := json.Marshal(map[string]string{"type": "service_account", "project_id": "p",
		"client_email": "x@y", "token_uri": p.url + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err == nil {
		err = os.WriteFile(credentials, account, 0o600)
	}
	if err != nil {
		p.server.Close()
		return nil, err
	}
	return p, nil
}

// serve takes a push, or issues a token.
func (p *PushService) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		fmt.Fprint(w, `{"access_token":"access","token_type":"Bearer","expires_in":3600}`)
		return
	}
	var body struct {
		Message struct {
			Notification struct {
				Body string `json:"body"`
			} `json:"notification"`
		} `json:"message"`
	}
	data, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(data, &body) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, text, _ := strings.Cut(body.Message.Notification.Body, ":") // the sender's nick
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times[text]++
	fmt.Fprint(w, `{}`)
}

// Times returns how often a push of a text arrived.
func (p *PushService) Times(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times[text]
}

func (p *PushService) close() { p.server.Close() }
