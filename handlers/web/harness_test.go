package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	port "teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// files are those of a page.
func files() fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	long := strings.Repeat("long ", 1000)
	return fstest.MapFS{
		"index.html": file("<html>page</html>"), "licenses.txt": file(long),
		"assets/app-1a2b.js": file(long), "assets/app-1a2b.js.br": file("brotli"),
		"assets/app-1a2b.js.gz": file("gzip"), "assets/x.png": file(long),
		"sources.sha256": file("1234"), "secret.key": file("key"),
	}
}

// world is a page's server on a port, with a message server made of a function.
type world struct {
	*Server
	port *port.Server
	reg  *prometheus.Registry
}

// serve starts a page's server. messages answers the connections to message servers; nil: there is
// none.
func serve(t *testing.T, o Options, ports port.Options, messages func(c net.Conn)) *world {
	t.Helper()
	w := &world{reg: prometheus.NewRegistry()}
	o.Registerer, o.files = w.reg, files()
	if o.Messages == nil {
		o.Messages = func(context.Context, netip.AddrPort, bool) (net.Conn, error) {
			if messages == nil {
				return nil, errors.New("no message server")
			}
			near, far := conns(t)
			go messages(far)
			return near, nil
		}
	}
	w.Server = New(o)
	ports.Name, ports.Handler = "web", w.Server
	w.port = webtest.Serve(t, ports)
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

// conns returns both ends of a TCP connection.
func conns(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err == nil {
		far, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// results returns how many requests for a WebSocket had a result.
func (w *world) results(t *testing.T, result string) int {
	t.Helper()
	return int(testutil.ToFloat64(w.metrics.sockets.WithLabelValues(result)))
}

// ask sends a request with headers, given as name and value, and returns the answer and its body.
func (w *world) ask(t *testing.T, method, path, body string, headers ...string) (
	*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+w.port.Addr().String()+path,
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	plain := &http.Transport{DisableCompression: true}
	defer plain.CloseIdleConnections()
	got, err := plain.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, string(text)
}

// request is that of a browser for a WebSocket. The text %s stands for further headers.
const request = "GET /ws HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\n" +
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"

// tab is a page that is connected.
type tab struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// open sends the request for a WebSocket, and what the page sends with it.
func (w *world) open(t *testing.T, headers, early string) *tab {
	t.Helper()
	return openOn(t, webtest.Dial(t, w.port), headers, early)
}

func openOn(t *testing.T, c net.Conn, headers, early string) *tab {
	t.Helper()
	p := &tab{c, t, bufio.NewReader(c)}
	p.send(fmt.Sprintf(request, headers) + early)
	return p
}

func (p *tab) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

// answer reads the answer to the request.
func (p *tab) answer() *http.Response {
	p.t.Helper()
	got, err := http.ReadResponse(p.in, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

// wants reads a text.
func (p *tab) wants(text string) {
	p.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(p.in, got); err != nil || string(got) != text {
		p.t.Fatalf("got %.100q, %v, want %.100q", got[:n], err, text)
	}
}

// wantsEnd reads the end of the connection.
func (p *tab) wantsEnd() {
	p.t.Helper()
	rest, err := io.ReadAll(p.in)
	if os.IsTimeout(err) || len(rest) > 0 {
		p.t.Fatalf("%.100q, %v, want the end", rest, err)
	}
}

const switching = "HTTP/1.1 101 Switching Protocols\r\n\r\n"

// head reads the request that a message server gets.
func head(c net.Conn) (*http.Request, *bufio.Reader, error) {
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	return r, in, err
}

// echo is a message server that sends back what it gets.
func echo(c net.Conn) {
	defer c.Close()
	if _, in, err := head(c); err == nil {
		_, _ = io.WriteString(c, switching)
		_, _ = io.Copy(c, in)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(webtest.Patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, webtest.Patience)
		}
	}
}

// secured connects with TLS.
func secured(t *testing.T, w *world, roots *tls.Config) net.Conn {
	t.Helper()
	return tls.Client(webtest.Dial(t, w.port), roots)
}
