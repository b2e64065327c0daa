#!/bin/sh
# Chromium: after 20 refused WebSockets, the next one waits up to five seconds before it connects.
#
# Versions: Chromium 156.0.8078.114 of Debian 12, driven by github.com/chromedp/chromedp v0.23.0.
# Situation: a chat server restarts. Its page calls new WebSocket(url) again after each close event. The
#   time between two attempts is the page's decision.
# Expected: the constructor connects at once, so the first call after the restart opens within
#   milliseconds, as a fetch to this server does. The standard of WebSockets knows one more reason to
#   wait: another handshake with the same server, and there is none.
# Seen: Chromium counts the handshakes of a page's process that fail, delays the next ones more and
#   more, and each one from about the sixteenth by 1 to 5 s. This delay also meets a server that never
#   failed, and a page that is loaded again. Each WebSocket that opens shortens it, here the
#   first to a tenth of a second.
# Way out: longer pauses in the page, so that few attempts fail. A page that limits the time of a
#   handshake needs a limit above 5 s. Or it asks with fetch whether the server is back, and then waits
#   for one WebSocket.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='5 refused: next opens after 1 to 5 s: no
20 refused: next opens after 1 to 5 s: yes
the one after: next opens after 1 to 5 s: no
20 refused in a new tab, page loaded again: next opens after 1 to 5 s: yes
20 refused in a new tab: a fetch takes 1 to 5 s: no'

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
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/chromedp/chromedp"
)

// serve answers with a page, or accepts a WebSocket and keeps it open.
func serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/ws" {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>chat</title>")
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		log.Fatal(err)
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	rw.Flush()
	io.Copy(io.Discard, rw) // until the page's process ends
	conn.Close()
}

// open is a function of the page. It returns the milliseconds until a WebSocket opens or fails.
const open = `async url => {
	const began = performance.now();
	const ok = await new Promise(done => {
		const ws = new WebSocket(url);
		ws.onopen = () => done(true);
		ws.onclose = () => done(false);
	});
	if (ok !== url.endsWith('/ws')) throw new Error(url + ' opened: ' + ok);
	return performance.now() - began;
}`

// tab is a page in a process of its own.
type tab struct {
	context.Context
	good, refused string // URLs
}

func (t tab) run(async string) (ms float64) {
	ms, err := chromedp.Run(t, chromedp.Evaluate[float64]("(async () => { const open = "+open+"\n"+async+"})()",
		chromedp.EvalAwaitPromise))
	if err != nil {
		log.Fatal(err)
	}
	return ms
}

func (t tab) load() {
	page := strings.Replace(strings.TrimSuffix(t.good, "/ws"), "ws:", "http:", 1)
	if _, err := chromedp.Run(t, chromedp.Navigate(page)); err != nil {
		log.Fatal(err)
	}
}

// refuse opens n WebSockets, one after the other, to a port on which nothing listens.
func (t tab) refuse(n int) {
	t.run(fmt.Sprintf("for (let i = 0; i < %d; i++) await open('%s'); return 0", n, t.refused))
}

func show(what string, ms float64) {
	seen := "no"
	if ms > 900 { // the clock of a page is not exact
		seen = "yes"
	}
	fmt.Printf("%s 1 to 5 s: %s\n", what, seen)
	log.Print(what, " ", ms)
}

func main() {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"),
		chromedp.NoSandbox, chromedp.Flag("disable-quic", true), chromedp.Env("HOME="+os.Args[1]))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel := chromedp.NewContext(ctx)
	defer cancel()
	web := httptest.NewServer(http.HandlerFunc(serve))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l.Close()
	first := tab{browser, strings.Replace(web.URL, "http:", "ws:", 1) + "/ws", "ws://" + l.Addr().String() + "/"}
	first.load()
	first.refuse(5)
	good := "return await open('" + first.good + "')"
	show("5 refused: next opens after", first.run(good))

	second := first
	second.Context, cancel = chromedp.NewContext(browser)
	defer cancel()
	second.load()
	second.refuse(20)
	show("20 refused: next opens after", second.run(good))
	show("the one after: next opens after", second.run(good))

	third := first
	third.Context, cancel = chromedp.NewContext(browser)
	defer cancel()
	third.load()
	third.refuse(20)
	third.load()
	show("20 refused in a new tab, page loaded again: next opens after", third.run(good))

	fourth := first
	fourth.Context, cancel = chromedp.NewContext(browser)
	defer cancel()
	fourth.load()
	fourth.refuse(20)
	show("20 refused in a new tab: a fetch takes", fourth.run("const began = performance.now();"+
		"await fetch('/'); return performance.now() - began"))
}
EOF

go build -o prog . || { echo "cannot build" >&2; exit 2; }
printf '\nThis run: %s, %s, %s\n' "$(go version)" "$(go list -m github.com/chromedp/chromedp)" \
	"$(chromium --version 2>/dev/null)"
seen=$(TMPDIR="$tmp" timeout 180 ./prog "$tmp" 2>log) || true
printf '%s\n' "$seen"
[ "$seen" = "$want" ] || { cat log >&2; printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
