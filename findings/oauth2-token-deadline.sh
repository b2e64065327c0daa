#!/bin/sh
# golang.org/x/oauth2: the deadline of a request does not end the fetch of its access token.
#
# Versions: Go 1.26.8, golang.org/x/oauth2 v0.37.0.
# Situation: a push server sends notifications through the client of a service account, jwt.Config.Client,
#   as FCM wants it. Each request has a context with a deadline, or the client has a Timeout. The
#   access token has expired, and the server of tokens takes connections but does not answer.
# Expected: the request fails at its deadline, whatever it waits for, as the doc comments of http.Client
#   and of Request.WithContext say. Or, at the latest, when the context given to Client ends.
# Seen: the request returns when the server of tokens does, here after 3 s, then reports that its deadline
#   was exceeded. The context given to Client ends nothing either: package jwt takes from it only the
#   HTTP client. (That of clientcredentials.Config does end the fetch.) With a time limit in that HTTP
#   client, requests that wait for a token still fetch one after the other: the last of five waits
#   five limits.
# Way out: fetch the token outside of requests, in one goroutine for all, with an HTTP client in the
#   context of TokenSource that has a Timeout. Requests wait for it, or for their deadline.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='request with a deadline of 0.2 s: context deadline exceeded, within 2 s: no
client with a Timeout of 0.2 s: context deadline exceeded, within 2 s: no
Client(context with a deadline of 0.2 s): <nil>, within 2 s: no
the same, clientcredentials: context deadline exceeded, within 2 s: yes
HTTP client of the context with a Timeout of 0.4 s: context deadline exceeded, within 2 s: yes
the same, 5 requests with deadlines of 0.2 s: 5 fetches, all requests over within 1.5 s: no'

command -v go >/dev/null || { echo "needs Go 1.26 or newer" >&2; exit 2; }
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require golang.org/x/oauth2 v0.37.0
EOF

cat >main.go <<'EOF'
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

const limit = 200 * time.Millisecond

// api is the service that wants a token. It answers at once.
var api = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))

// send makes a request with the time limit d, or without one if d is 0.
func send(c *http.Client, d time.Duration) error {
	ctx := context.Background()
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	rsp, err := c.Do(req)
	if err != nil {
		return err
	}
	return rsp.Body.Close()
}

// try prints the result of f, and whether it took less than 2 s.
func try(name string, f func() error) {
	began := time.Now()
	err := f()
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.DeadlineExceeded
	}
	fmt.Printf("%s: %v, within 2 s: %s\n", name, err, yes(time.Since(began) < 2*time.Second))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func main() {
	log.SetFlags(0)
	var fetches atomic.Int32
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		time.Sleep(3 * time.Second)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	}))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	account := &jwt.Config{Email: "push@chat.example", TokenURL: tokens.URL,
		PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
			Bytes: x509.MarshalPKCS1PrivateKey(key)})}
	ctx := context.Background()

	try("request with a deadline of 0.2 s", func() error {
		return send(account.Client(ctx), limit)
	})
	try("client with a Timeout of 0.2 s", func() error {
		c := account.Client(ctx)
		c.Timeout = limit
		return send(c, 0)
	})
	try("Client(context with a deadline of 0.2 s)", func() error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return send(account.Client(ctx), 0)
	})
	try("the same, clientcredentials", func() error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		c := clientcredentials.Config{ClientID: "id", ClientSecret: "s", TokenURL: tokens.URL}
		return send(c.Client(ctx), 0)
	})
	bounded := account.Client(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: 2 * limit}))
	try("HTTP client of the context with a Timeout of 0.4 s", func() error { return send(bounded, 0) })

	fetches.Store(0)
	began := time.Now()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { send(bounded, limit) })
	}
	all.Wait()
	fmt.Printf("the same, 5 requests with deadlines of 0.2 s: %d fetches, all requests over within 1.5 s: %s\n",
		fetches.Load(), yes(time.Since(began) < 1500*time.Millisecond))
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s\n' "$(go version)" "$(go list -m golang.org/x/oauth2)"
seen=$(timeout 60 ./prog 2>/dev/null) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
