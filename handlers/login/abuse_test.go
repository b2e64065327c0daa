package login_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/core/budget"
	"teamtalk/core/engine"
	"teamtalk/core/pdu"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
	"teamtalk/handlers/login"
	"teamtalk/proto/pb"
)

// Requests and connections that outsiders may try, as ABUSE.md lists them.

// listed starts a login server that knows one message server. The server's HTTP port has
// the given limits.
func listed(t *testing.T, opt login.Options, limits web.Options) (*house, *web.Server) {
	t.Helper()
	s := login.New(opt)
	h := &house{t: t, events: make(chan string, 1000)}
	h.clients = serve(t, engine.Options{Name: "clients", Clients: s.Clients()})
	h.servers = serve(t, engine.Options{Name: "servers", Links: told{s.Servers(), h.events}})
	h.send(dial(t, h.servers), info("10.0.0.1", "", 8000, 100, 1))
	limits.Handler = s.HTTP()
	return h, webtest.Serve(t, limits)
}

// TestAbuseHTTP sends well-formed, odd and malformed requests. Only GET /msg_server is
// answered with an address, and requests sent in one go are each answered.
func TestAbuseHTTP(t *testing.T) {
	_, s := listed(t, login.Options{}, web.Options{})
	const end = " HTTP/1.1\nHost: x\nConnection: close\n\n"
	for what, c := range map[string]struct {
		request string
		status  int
	}{
		"the request":     {"GET /msg_server" + end, 200},
		"with parameters": {"GET /msg_server?x=" + strings.Repeat("x", 8000) + end, 200},
		"HTTP/1.0":        {"GET /msg_server HTTP/1.0\n\n", 200},
		"paths":           {"GET /../../etc/passwd" + end, 307},
		"encoded":         {"GET /%2e%2e/etc/passwd" + end, 404},
		"POST":            {"POST /msg_server" + end, 405},
		"CONNECT":         {"CONNECT x:1" + end, 404},
		"two lengths": {"GET /msg_server HTTP/1.1\nHost: x\nContent-Length: " +
			"1\nContent-Length: 2\n\n", 400},
		"a header without end": {"GET /msg_server HTTP/1.1\nHost: x\nX: " +
			strings.Repeat("x", 1<<20), 431},
		"noise": {"\x16\x03\x01\x02\x00\x01\n\n", 400},
	} {
		if a := webtest.Raw(t, s, c.request); webtest.Status(a) != c.status ||
			strings.Contains(a, "root:") {
			t.Errorf("%s: %.200q, want status %d", what, a, c.status)
		}
	}
	if a := webtest.Raw(t, s, strings.Repeat("GET /msg_server HTTP/1.1\nHost: x\n\n", 100)+
		"GET /msg_server"+end); strings.Count(a, `"priorIP":"10.0.0.1"`) != 101 {
		t.Errorf("%d answers to 101 pipelined requests", strings.Count(a, `"priorIP"`))
	}
}

// TestAbuseHTTPSlow: the server closes a connection that sends slowly, and one that sends
// requests without reading the answers.
func TestAbuseHTTPSlow(t *testing.T) {
	const short = 50 * time.Millisecond
	_, s := listed(t, login.Options{}, web.Options{HeaderTimeout: short, ReadTimeout: short,
		WriteTimeout: short, IdleTimeout: short})
	for _, request := range []string{"", "GET /msg_server HTTP/1.1\nHo",
		"GET /msg_server HTTP/1.1\nHost: x\nContent-Length: 10\n\n",
		"GET /msg_server HTTP/1.1\nHost: x\n\n"} {
		webtest.Raw(t, s, request) // fails when the connection stays open
	}
	c := webtest.Dial(t, s)
	for questions := strings.Repeat("GET /msg_server HTTP/1.1\r\nHost: x\r\n\r\n", 1000); ; {
		if _, err := io.WriteString(c, questions); os.IsTimeout(err) {
			t.Fatal("the server keeps reading from a client that reads no answers")
		} else if err != nil {
			break
		}
	}
}

// TestAbuseFrames: on the TCP port every frame except IMMsgServReq closes the connection
// without an answer.
func TestAbuseFrames(t *testing.T) {
	h, _ := listed(t, login.Options{}, web.Options{})
	bad := append(pdu.AppendHeader(nil, pb.CmdMsgServReq, 1), 0xff, 0xff)
	binary.BigEndian.PutUint32(bad, uint32(len(bad)))
	for what, raw := range map[string]string{
		"4 GiB": "\xff\xff\xff\xff", "too long": string(binary.BigEndian.AppendUint32(nil,
			pdu.MaxClientFrame+1)), "too short": "\x00\x00\x00\x0f",
		"HTTP":                     "GET /msg_server HTTP/1.1\r\n\r\n",
		"three that do not decode": strings.Repeat(string(bad), 3),
	} {
		c := dial(t, h.clients)
		io.WriteString(c, raw)
		c.SetDeadline(time.Now().Add(webtest.Patience))
		if b, err := io.ReadAll(c); len(b) > 0 || os.IsTimeout(err) {
			t.Errorf("%s: %q, %v", what, b, err)
		}
	}
	// Announcements are accepted on the port for message servers only: no client is sent
	// to a server that another client announced.
	c := dial(t, h.clients)
	write(t, c, 1, info("192.0.2.66", "", 8000, 100, 0))
	write(t, c, 2, &pb.IMMsgServReq{})
	if b, err := io.ReadAll(c); err != nil || strings.Contains(string(b), "192.0.2.66") ||
		!strings.Contains(string(b), "10.0.0.1") {
		t.Errorf("a client announced itself: %q, %v", b, err)
	}
}

// TestIdleCrowd opens 10,000 silent connections to the HTTP port. Other clients are still
// answered, and the silent connections are closed.
func TestIdleCrowd(t *testing.T) {
	_, s := listed(t, login.Options{}, webtest.CrowdLimits)
	webtest.IdleCrowd(t, s, func() {
		if a := webtest.Raw(t, s,
			"GET /msg_server HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.Contains(a,
			`"code":0`) {
			t.Fatalf("beside a crowd: %q", a)
		}
	})
}

// TestIdleCrowdTCP opens 10,000 silent connections to the TCP port. Another client is
// still answered, and the silent connections are closed.
func TestIdleCrowdTCP(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 connections: not with -short")
	}
	l := login.New(login.Options{ClientDeadline: 3 * time.Second})
	b, err := budget.New() // raises the limit
	if err != nil {
		t.Fatal(err)
	}
	crowd := min(10_000, b.Limit()/2-500) // this process holds both ends
	srv, err := engine.Start(engine.Options{Name: "clients", Addr: "127.0.0.1:0",
		Clients: l.Clients(), Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close(t.Context()) })
	var conns []net.Conn
	for range crowd {
		conns = append(conns, dial(t, srv.Addr().String()))
	}
	c := dial(t, srv.Addr().String())
	write(t, c, 1, &pb.IMMsgServReq{})
	if a, err := io.ReadAll(c); err != nil || len(a) == 0 {
		t.Errorf("beside a crowd of %d: %q, %v", len(conns), a, err)
	}
	for deadline := time.Now().Add(webtest.Patience); srv.Open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of the crowd are still connected", srv.Open())
		}
	}
}
