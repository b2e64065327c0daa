package login_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/engine"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/handlers/login"
	"teamtalk/proto/pb"
)

// house is a login server with its three ports.
type house struct {
	t                *testing.T
	clients, servers string
	web              *httptest.Server
	// events receives a value for each frame that the servers' handler has handled, and
	// for each close.
	events chan string
}

// told reports to the test each frame and each close that the message servers' handler
// has handled, so that the test need not wait for a guessed time.
type told struct {
	session.LinkHandler
	events chan string
}

func (h told) Frame(s *session.Link, hd pdu.Header, body []byte) {
	h.LinkHandler.Frame(s, hd, body)
	h.events <- "frame"
}

func (h told) Close(s *session.Link, err error) {
	h.LinkHandler.Close(s, err)
	h.events <- "close"
}

func open(t *testing.T, opt login.Options) *house {
	t.Helper()
	s := login.New(opt)
	h := &house{t: t, web: httptest.NewServer(s.HTTP()), events: make(chan string, 1000)}
	t.Cleanup(h.web.Close)
	h.clients = serve(t, engine.Options{Name: "clients", Clients: s.Clients()})
	h.servers = serve(t, engine.Options{Name: "servers", Links: told{s.Servers(), h.events}})
	return h
}

func serve(t *testing.T, opt engine.Options) string {
	t.Helper()
	opt.Addr, opt.Loops = "127.0.0.1:0", 1
	srv, err := engine.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return srv.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// send sends frames as a message server and waits until they are handled.
func (h *house) send(conn net.Conn, ms ...pb.Message) {
	h.t.Helper()
	for _, m := range ms {
		write(h.t, conn, 0, m)
		if e := <-h.events; e != "frame" {
			h.t.Fatalf("%s instead of a handled frame", e)
		}
	}
}

func write(t *testing.T, conn net.Conn, seq uint16, m pb.Message) {
	t.Helper()
	frame, err := pdu.Append(nil, seq, m)
	if err == nil {
		_, err = conn.Write(frame)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func info(ip1, ip2 string, port, limit, current uint32) pb.Message {
	return pb.IMMsgServInfo_builder{Ip1: proto.String(ip1), Ip2: proto.String(ip2),
		Port: proto.Uint32(port), MaxConnCnt: proto.Uint32(limit),
		CurConnCnt: proto.Uint32(current), HostName: proto.String("host")}.Build()
}

func count(action uint32) pb.Message {
	return pb.IMUserCntUpdate_builder{UserAction: proto.Uint32(action),
		UserId: proto.Uint32(7)}.Build()
}

// get requests a message server over HTTP and returns the body.
func (h *house) get() string {
	h.t.Helper()
	rsp, err := http.Get(h.web.URL + "/msg_server")
	if err != nil {
		h.t.Fatal(err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if rsp.StatusCode != 200 || rsp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		h.t.Errorf("status %d, type %q", rsp.StatusCode, rsp.Header.Get("Content-Type"))
	}
	return strings.TrimSpace(string(body))
}

// port returns the port in the next answer; when the answer names no server, its code.
func (h *house) port() string {
	h.t.Helper()
	body := h.get()
	if _, rest, ok := strings.Cut(body, `"port":"`); ok {
		return strings.TrimSuffix(rest, `"}`)
	}
	return body[:len(`{"code":1`)] + "}"
}

func (h *house) ports(n int) string {
	var all []string
	for range n {
		all = append(all, h.port())
	}
	return strings.Join(all, " ")
}

// ask requests a message server over TCP. It returns the answer and fails unless the
// server then closes the connection.
func (h *house) ask(seq uint16) *pb.IMMsgServRsp {
	h.t.Helper()
	conn := dial(h.t, h.clients)
	write(h.t, conn, seq, &pb.IMMsgServReq{})
	all, err := io.ReadAll(conn) // until the server closes it
	if err != nil {
		h.t.Fatal(err)
	}
	hd, body, n, err := pdu.Next(all, pdu.MaxClientFrame)
	if err != nil || n != len(all) || hd.Command != pb.CmdMsgServRsp || hd.Seq != seq {
		h.t.Fatalf("answer %x: %v", all, err)
	}
	var rsp pb.IMMsgServRsp
	if err := rsp.ParseBody(body); err != nil {
		h.t.Fatal(err)
	}
	return &rsp
}

// TestAnswersFollowTheMessageServer follows the answers over HTTP and TCP while a message
// server is announced, fills up, has room again and disconnects.
func TestAnswersFollowTheMessageServer(t *testing.T) {
	h := open(t, login.Options{MSFSPrior: "http://10.0.0.9:8700/?a&b", Discovery: "http://10.0.0.9/x"})
	if got := h.get(); got != `{"code":1,"msg":"没有msg_server"}` {
		t.Errorf("no server: %s", got)
	}
	if rsp := h.ask(5); rsp.GetResultCode() != 1 || rsp.HasPriorIp() || rsp.HasPort() {
		t.Errorf("no server: %v", rsp)
	}
	conn := dial(t, h.servers)
	h.send(conn, info("10.0.0.1", "10.9.9.1", 8000, 2, 1))
	want := `{"code":0,"msg":"","priorIP":"10.0.0.1","backupIP":"10.9.9.1","msfsPrior":"http://10.0.0.9:8700/?a&b/",` +
		`"msfsBackup":"http://10.0.0.9:8700/?a&b/","discovery":"http://10.0.0.9/x","port":"8000"}`
	if got := h.get(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if rsp := h.ask(6); rsp.GetResultCode() != 0 || rsp.GetPriorIp() != "10.0.0.1" ||
		rsp.GetBackipIp() != "10.9.9.1" || rsp.GetPort() != 8000 {
		t.Errorf("over TCP: %v", rsp)
	}
	h.send(conn, count(1))
	if got := h.get(); got != `{"code":2,"msg":"负载过高"}` {
		t.Errorf("full: %s", got)
	}
	if rsp := h.ask(7); rsp.GetResultCode() != 2 || rsp.HasPriorIp() {
		t.Errorf("full: %v", rsp)
	}
	h.send(conn, count(2))
	if got := h.get(); got != want {
		t.Errorf("room for one client again: %s", got)
	}
	conn.Close()
	if e := <-h.events; e != "close" {
		t.Fatal(e)
	}
	if got := h.port(); got != `{"code":1}` {
		t.Errorf("after the server disconnected: %s", got)
	}
}

// TestRegister: clients are told the URL for registration when their network may
// register.
func TestRegister(t *testing.T) {
	for nets, told := range map[string]bool{"": true, "192.0.2.0/24": false, "127.0.0.0/8": true} {
		opt := login.Options{Register: "http://10.0.0.9:8400"}
		if nets != "" {
			opt.RegisterNetworks = []netip.Prefix{netip.MustParsePrefix(nets)}
		}
		h := open(t, opt)
		h.send(dial(t, h.servers), info("10.0.0.1", "", 8000, 2, 1))
		if got := h.get(); strings.Contains(got,
			`"discovery":"","register":"http://10.0.0.9:8400","port":"8000"}`) != told ||
			strings.Contains(got, "register") != told {
			t.Errorf("networks %q: %s", nets, got)
		}
	}
}

// TestLeastLoaded: the server with the fewest clients is chosen. The table follows the
// counts and announcements of the link that announced a server last.
func TestLeastLoaded(t *testing.T) {
	h := open(t, login.Options{})
	a, b, c := dial(t, h.servers), dial(t, h.servers), dial(t, h.servers)
	h.send(a, info("10.0.0.1", "", 1, 100, 3))
	h.send(b, info("10.0.0.2", "", 2, 100, 1))
	h.send(c, info("10.0.0.3", "", 3, 0, 0)) // limit 0: accepts no client
	expect := func(what, want string) {
		t.Helper()
		if got := h.ports(len(strings.Fields(want))); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("fewest clients", "2 2 2 2")
	h.send(b, count(1), count(1))
	expect("equal: in turn", "1 2 1 2 1 2")
	h.send(a, count(2))
	expect("one client fewer", "1 1 1")
	for range 5 {
		h.send(a, count(2)) // more clients disconnect than were counted
	}
	h.send(a, count(1), count(1))
	expect("counts end at zero", "1 1")
	h.send(b, info("10.0.0.2", "", 2, 100, 0))
	expect("announced anew", "2 2")
	h.send(b, info("10.0.0.2", "", 4, 100, 0))
	expect("on another port", "4 4")

	// A newer link that announces the same address replaces the entry. The counts and the
	// end of the older link are then ignored.
	d := dial(t, h.servers)
	h.send(d, info("10.0.0.2", "", 4, 100, 50))
	expect("the new link's count", "1 1")
	h.send(d, info("10.0.0.2", "", 4, 100, 1))
	expect("announced anew by the new link", "4 4")
	h.send(b, count(1), count(1), count(1))
	expect("the old link's count", "4 4")
	b.Close()
	if e := <-h.events; e != "close" {
		t.Fatal(e)
	}
	expect("the old link's end", "4 4")
	h.send(d, count(7), &pb.IMHeartBeat{})
	expect("unknown action", "4 4")
}

// TestInvalidAnnouncements: an announcement without a usable address or port is ignored.
// A single address counts as both.
func TestInvalidAnnouncements(t *testing.T) {
	h := open(t, login.Options{})
	conn := dial(t, h.servers)
	h.send(conn, count(1), info("", "", 1, 9, 0), info("10.0.0.1", "", 0, 9, 0),
		info("10.0.0.1", "", 65536, 9, 0))
	if got := h.port(); got != `{"code":1}` {
		t.Errorf("listed: %s", got)
	}
	h.send(conn, info("", "10.0.0.2", 65535, 9, 0))
	if got := h.get(); !strings.Contains(got, `"priorIP":"10.0.0.2","backupIP":"10.0.0.2"`) {
		t.Errorf("second address only: %s", got)
	}
}

// TestSecondAddressFirst: clients in IP2Networks are told the second address first.
func TestSecondAddressFirst(t *testing.T) {
	for _, test := range []struct {
		nets string
		want string
	}{
		{"127.0.0.0/8", "10.9.9.1 10.0.0.1"},
		{"192.168.0.0/16", "10.0.0.1 10.9.9.1"},
	} {
		h := open(t, login.Options{IP2Networks: []netip.Prefix{netip.MustParsePrefix(test.nets)}})
		h.send(dial(t, h.servers), info("10.0.0.1", "10.9.9.1", 8000, 2, 1))
		rsp := h.ask(1)
		if got := rsp.GetPriorIp() + " " + rsp.GetBackipIp(); got != test.want {
			t.Errorf("%s: %s over TCP", test.nets, got)
		}
		ips := strings.Fields(test.want)
		if got := h.get(); !strings.Contains(got,
			fmt.Sprintf(`"priorIP":%q,"backupIP":%q`, ips[0], ips[1])) {
			t.Errorf("%s: %s", test.nets, got)
		}
	}
}

// TestHTTPMethods: GET and HEAD of /msg_server are the only requests that are accepted.
func TestHTTPMethods(t *testing.T) {
	h := open(t, login.Options{})
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/msg_server", 200}, {"HEAD", "/msg_server", 200}, {"POST", "/msg_server", 405},
		{"DELETE", "/msg_server", 405},
		{"GET", "/", 404}, {"GET", "/msg_server/x", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, h.web.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		rsp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		rsp.Body.Close()
		if rsp.StatusCode != test.status {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, rsp.StatusCode, test.status)
		}
	}
}

// TestSilence: the server closes a client that sends no request, and a message server
// that sends nothing.
func TestSilence(t *testing.T) {
	h := open(t, login.Options{ClientDeadline: time.Millisecond, LinkTimeout: time.Millisecond,
		LinkHeartbeat: time.Hour})
	client := dial(t, h.clients)
	write(t, client, 1, &pb.IMHeartBeat{}) // not a request
	if b, err := io.ReadAll(client); err != nil || len(b) > 0 {
		t.Errorf("client got %x, %v", b, err)
	}
	server := dial(t, h.servers)
	h.send(server, info("10.0.0.1", "", 8000, 2, 1))
	if b, err := io.ReadAll(server); err != nil || len(b) > 0 {
		t.Errorf("server got %x, %v", b, err)
	}
	if e := <-h.events; e != "close" {
		t.Fatal(e)
	}
	if got := h.port(); got != `{"code":1}` {
		t.Errorf("the silent server is still listed: %s", got)
	}
}

// TestHeartbeat: the login server sends heartbeats on a link.
func TestHeartbeat(t *testing.T) {
	h := open(t, login.Options{LinkHeartbeat: time.Millisecond})
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(bufio.NewReader(dial(t, h.servers)), head); err != nil ||
		pdu.ParseHeader(head).Command != pb.CmdHeartBeat {
		t.Errorf("got %x, %v", head, err)
	}
}
