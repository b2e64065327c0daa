#!/bin/sh
# Chromium: a long poll is not sent while another one with the same URL has no answer yet.
#
# Versions: Chromium 156.0.8078.114 of Debian 12, driven by github.com/chromedp/chromedp v0.23.0.
# Situation: where WebSockets do not pass, a chat page asks with fetch('/events'), and the server answers
#   when it has something. Its answers have Cache-Control: no-store. A user has the page in two tabs.
# Expected: the cache may not store such answers, so it has no part in this, and each request is sent at
#   once. Chromium opens up to six connections to a server with HTTP/1.1, and two are used.
# Seen: the second request, of the same tab or of another one, reaches the server only after the first
#   is answered, or after 20 s. The cache holds it back, since it learns only from the head of
#   the first answer that this answer may not be stored. So the tabs take turns, and one of them
#   hears of messages that much later.
# Way out: fetch(url, {cache: 'no-store'}), another query for each tab, POST, or a server that sends
#   the head of its answer at once.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='two requests of a tab: second is sent before the first is answered: no
requests of two tabs: second is sent before the first is answered: no
answer after 25 s: second is sent before the first is answered: yes, after 20 s
cache no-store: second is sent before the first is answered: yes, after 0 s
other query: second is sent before the first is answered: yes, after 0 s
POST: second is sent before the first is answered: yes, after 0 s
head of the answer at once: second is sent before the first is answered: yes, after 0 s'

for program in go chromium; do
	command -v $program >/dev/null || { echo "needs Go 1.26 or newer and Chromium of Debian" >&2; exit 2; }
done
export GOFLAGS=-mod=mod GOWORK=off
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

cat >go.mod <<'EOF'
module finding

go 1.26

require github.com/chromedp/chromedp v0.23.0
EOF

cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"github.com/chromedp/chromedp"
)

// server answers a long poll after its time, or as soon as another poll arrives.
type server struct {
	mu      sync.Mutex
	arrived []time.Time
	second  chan struct{} // closed when the second poll arrives
	answer  time.Duration // time until an answer
	head    bool          // the head is sent at once
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>chat</title>")
	case "/events":
		s.mu.Lock()
		s.arrived = append(s.arrived, time.Now())
		if len(s.arrived) == 2 {
			close(s.second)
		}
		second, head, answer := s.second, s.head, time.After(s.answer)
		s.mu.Unlock()
		w.Header().Set("Cache-Control", "no-store")
		if head {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		select {
		case <-second:
		case <-answer:
			s.mu.Lock()
			if len(s.arrived) == 1 {
				s.arrived = append(s.arrived, time.Time{}) // answered before a second arrived
			}
			s.mu.Unlock()
		}
		fmt.Fprint(w, "message")
	}
}

// poll runs a poll of a tab and waits for its answer.
func poll(tab context.Context, request string) {
	_, err := chromedp.Run(tab, chromedp.Evaluate[string](request+".then(r => r.text())",
		chromedp.EvalAwaitPromise))
	if err != nil {
		log.Fatal(err)
	}
}

// try polls in two tabs, which may be one, and prints what the server saw.
func (s *server) try(name string, answer time.Duration, head bool, tabs [2]context.Context, requests [2]string) {
	s.mu.Lock()
	s.arrived, s.second, s.answer, s.head = nil, make(chan struct{}), answer, head
	s.mu.Unlock()
	var all sync.WaitGroup
	for i, tab := range tabs {
		all.Go(func() { poll(tab, requests[i]) })
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := "no"
	if second := s.arrived[1]; !second.IsZero() {
		// Rounded, since a busy computer takes longer.
		wait := math.Floor((second.Sub(s.arrived[0]).Seconds()+1)/5) * 5
		seen = fmt.Sprintf("yes, after %.0f s", wait)
	}
	fmt.Printf("%s: second is sent before the first is answered: %s\n", name, seen)
}

func main() {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"),
		chromedp.NoSandbox, chromedp.Flag("disable-quic", true), chromedp.Env("HOME="+os.Args[1]))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	a, cancel := chromedp.NewContext(ctx)
	defer cancel()
	s := &server{}
	web := httptest.NewServer(s)
	if _, err := chromedp.Run(a, chromedp.Navigate(web.URL)); err != nil {
		log.Fatal(err)
	}
	b, cancel := chromedp.NewContext(a)
	defer cancel()
	if _, err := chromedp.Run(b, chromedp.Navigate(web.URL)); err != nil {
		log.Fatal(err)
	}
	one, both := [2]context.Context{a, a}, [2]context.Context{a, b}
	same := func(request string) [2]string { return [2]string{request, request} }
	const short = 3 * time.Second
	s.try("two requests of a tab", short, false, one, same("fetch('/events')"))
	s.try("requests of two tabs", short, false, both, same("fetch('/events')"))
	s.try("answer after 25 s", 25*time.Second, false, both, same("fetch('/events')"))
	s.try("cache no-store", 25*time.Second, false, both, same("fetch('/events', {cache: 'no-store'})"))
	s.try("other query", 25*time.Second, false, both, [2]string{"fetch('/events?1')", "fetch('/events?2')"})
	s.try("POST", 25*time.Second, false, both, same("fetch('/events', {method: 'POST'})"))
	s.try("head of the answer at once", 25*time.Second, true, both, same("fetch('/events')"))
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s, %s\n' "$(go version)" "$(go list -m github.com/chromedp/chromedp)" \
	"$(chromium --version 2>/dev/null)"
seen=$(TMPDIR="$tmp" timeout 120 ./prog "$tmp" 2>log) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { cat log >&2; printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
