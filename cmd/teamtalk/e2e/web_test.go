//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/core/cert/certtest"
	"teamtalk/proto/pb"
)

// pages is the server of the chat page, as browsers see it.
type pages struct {
	t    *testing.T
	addr string
	tls  *tls.Config // nil: without TLS
}

// url returns the URL of a path.
func (p *pages) url(path string) string {
	if p.tls != nil {
		return "https://" + p.addr + path
	}
	return "http://" + p.addr + path
}

// trust lets the HTTP client of the tests accept the certificate until the test ends. Such tests do
// not run in parallel.
func (p *pages) trust() {
	before := http.DefaultTransport
	transport := before.(*http.Transport).Clone()
	transport.TLSClientConfig = p.tls
	http.DefaultTransport = transport
	p.t.Cleanup(func() { http.DefaultTransport = before })
}

// config returns what the page reads first.
func (p *pages) config() (c struct {
	WebSocket string
	Register  struct{ Enabled, Invite bool }
	TextKey   string `json:"text_key"`
	Files     bool
}) {
	p.t.Helper()
	if err := json.Unmarshal(fetch(p.t, p.url("/config.json")), &c); err != nil {
		p.t.Fatal(err)
	}
	return c
}

// tab opens a WebSocket as the page does, from an address of this machine.
func (p *pages) tab(from string) (*wire, *tab) {
	p.t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.tls != nil {
		nc = tls.Client(nc, p.tls)
	}
	c, err := openTab(nc, p.addr, p.url(""))
	if err != nil {
		p.t.Fatal(err)
	}
	return dialed(p.t, c), c
}

// register registers a user with an invite code.
func (p *pages) register(name, password, invite string) (answer struct {
	Code int `json:"error_code"`
	User uint32
}) {
	p.t.Helper()
	body, err := json.Marshal(map[string]string{"user_name": name, "password": password,
		"invite_code": invite})
	if err != nil {
		p.t.Fatal(err)
	}
	rsp, err := http.Post(p.url("/register"), "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer rsp.Body.Close()
	if err := json.NewDecoder(rsp.Body).Decode(&answer); err != nil {
		p.t.Fatal(err)
	}
	return answer
}

// chat registers a user, and lets that user and the user named name write to each other and send a
// picture. It returns the connection of the registered user.
func (p *pages) chat(name, password, invite string) (*wire, *tab) {
	t := p.t
	t.Helper()
	if page := string(fetch(t, p.url("/"))); !strings.Contains(page, "<html") {
		t.Errorf("the page: %.100q", page)
	}
	equal(t, "answer to a registration", p.register("newcomer", "long enough", invite).Code, 0)
	a, _ := p.tab("127.0.0.7")
	me := a.tryLogin(name, password, windows).GetUserInfo().GetUserId()
	b, last := p.tab("127.0.0.8")
	other := b.tryLogin("newcomer", "long enough", windows).GetUserInfo().GetUserId()
	if me == 0 || other == 0 {
		t.Fatalf("logins: users %d and %d", me, other)
	}
	picture := bytes.Repeat([]byte("picture "), 50_000)
	stored := upload(t, p.url("/msfs/"), "photo_640x480.jpg", picture)
	if stored.Code != 0 || !bytes.Equal(fetch(t, p.url("/msfs/"+stored.Path)), picture) {
		t.Errorf("upload: %+v", stored)
	}
	a.send(10, text(other, "look: "+stored.URL))
	got := &pb.MsgData{}
	awaited(b, got)
	equal(t, "text", string(got.Data), "look: "+stored.URL)
	b.send(11, text(me, "nice"))
	awaited(a, got)
	equal(t, "answer", string(got.Data), "nice")
	p.exchange(a, b, me, other)
	return b, last
}

// exchange sends a file from a user to another one. A file server keeps it in between.
func (p *pages) exchange(a, b *wire, from, to uint32) {
	t := p.t
	t.Helper()
	file := bytes.Repeat([]byte("report "), 200_000)
	const name = "报告 1.pdf"
	var task, at string
	until(t, "a file server to take the file", func() bool {
		a.send(20, pb.IMFileReq_builder{FromUserId: &from, ToUserId: &to, FileName: new(name),
			FileSize:  new(uint32(len(file))),
			TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum()}.Build())
		rsp := &pb.IMFileRsp{}
		awaited(a, rsp)
		if len(rsp.GetIpAddrList()) > 0 {
			first := rsp.GetIpAddrList()[0]
			task, at = rsp.GetTaskId(), fmt.Sprintf("%s:%d", first.GetIp(), first.GetPort())
		}
		return task != ""
	})
	path := func(user uint32) string {
		q := url.Values{"user": {fmt.Sprint(user)}, "server": {at}, "name": {name},
			"size": {fmt.Sprint(len(file))}}
		return p.url("/file/" + task + "?" + q.Encode())
	}
	rsp, err := http.Post(path(from), "application/octet-stream", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(rsp.Body)
	rsp.Body.Close()
	if err != nil || !strings.Contains(string(answer), `"error_code":0`) {
		t.Fatalf("upload: %s, %v", answer, err)
	}
	a.send(21, pb.IMFileAddOfflineReq_builder{FromUserId: &from, ToUserId: &to, TaskId: &task,
		FileName: new(name), FileSize: new(uint32(len(file)))}.Build())
	notice := &pb.IMFileNotify{}
	awaited(b, notice)
	theirs := notice.GetTaskId() // the receiver has an id of its own
	download := strings.Replace(path(to), task, theirs, 1)
	if rsp, err = http.Get(download); err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	got, err := io.ReadAll(rsp.Body)
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("download: %s, %d bytes, %v", rsp.Status, len(got), err)
	}
	for what, path := range map[string]string{
		"by another user":   strings.Replace(path(from), task, theirs, 1),
		"from another port": strings.Replace(download, url.QueryEscape(at), "127.0.0.1%3A1", 1),
	} {
		if rsp, err := http.Get(path); err != nil || rsp.StatusCode != http.StatusNotFound {
			t.Errorf("a download %s: %v, %v", what, rsp, err)
		} else {
			rsp.Body.Close()
		}
	}
}

// startDemo starts a demo with the page, and flags after its own.
func startDemo(t *testing.T, flags ...string) (*server, *pages) {
	t.Helper()
	p := &pages{t: t, addr: reserve(t)}
	s := newServer(t, "demo", append([]string{"serve", "--demo", "--data-dir",
		filepath.Join(t.TempDir(), "data"), "--msg.listen", reserve(t),
		"--login.http-listen", reserve(t), "--login.client-listen", reserve(t),
		"--msfs.listen", reserve(t), "--msfs.min-free", "0B", "--file.listen", reserve(t),
		"--file.min-free", "0B", "--http.listen", reserve(t), "--web.listen", p.addr},
		flags...)...)
	s.start()
	until(t, "the banner", func() bool {
		return strings.Contains(s.out.String(), "://"+p.addr+"/")
	})
	return s, p
}

// TestWebInDemo follows a newcomer: one command runs the page, on which a user registers and
// chats. When the server stops, pages learn why.
func TestWebInDemo(t *testing.T) {
	t.Parallel()
	s, p := startDemo(t)
	c := p.config()
	if c.WebSocket != "/ws" || !c.Register.Enabled || c.Register.Invite || len(c.TextKey) != 32 ||
		!c.Files {
		t.Errorf("config.json: %+v", c)
	}
	b, last := p.chat("alice", "demo", "")
	equal(t, "WebSockets", s.metric("teamtalk_webchat_sockets_total", `result="adopted"`), 2.0)
	stockWeb(t, s, p, b)
	s.stop()
	for _, err := b.read(); err == nil; _, err = b.read() {
	}
	equal(t, "close code", last.code, ws.StatusGoingAway)
}

// stockWeb lets a web client of others, which asks for the root of the page's port and acks
// nothing, chat with the user newcomer, whose connection is w.
func stockWeb(t *testing.T, s *server, p *pages, w *wire) {
	t.Helper()
	c := persona.Start(persona.Web(), persona.Options{User: "bob", Password: "demo",
		Server: "http://" + s.arg("--login.http-listen"), WebSocket: p.addr, Idle: personaIdle})
	defer c.Close()
	logIn(t, c)
	newcomer := persona.Peer{ID: c.UserNamed("newcomer")}
	w.send(30, text(c.Self(), "hello"))
	until(t, "the web client to show the text", func() bool {
		shown := c.Shown(newcomer)
		return len(shown) == 1 && shown[0].Data == "hello" && shown[0].Pushed
	})
	c.Text(newcomer, []byte("hello yourself"))
	got := &pb.MsgData{}
	awaited(w, got)
	equal(t, "text", string(got.Data), "hello yourself")
	if faults := c.Faults(); len(faults) > 0 {
		t.Errorf("the web client misreads: %q", faults)
	}
}

// TestWebApart runs the page in a process of its own, which finds the other servers in the
// registry, and reaches them with TLS, not at the addresses that clients are told. They see the
// addresses of the clients.
func TestWebApart(t *testing.T) {
	cert := certtest.Write(t, t.TempDir(), certtest.Options{})
	secure := []string{"--tls.certificate", cert.Certificate, "--tls.key", cert.Key}
	log := filepath.Join(t.TempDir(), "audit")
	d := deployRegistered(t, 1)
	d.db("db1")
	d.node("rt1", "route", "--route.listen", reserve(t))
	d.login = d.node("lg1", "login", "--login.client-listen", reserve(t),
		"--login.server-listen", reserve(t), "--login.http-listen", reserve(t))
	d.node("sf1", "msfs", append(secure, "--msfs.listen", reserve(t), "--msfs.min-free", "0B",
		"--msfs.url", "http://files.invalid/", "--data-dir", filepath.Join(t.TempDir(), "small"),
		"--http.trusted-proxies", "127.0.0.1/32")...)
	d.node("api1", "http", slices.Concat(secure, d.store, []string{"--http.listen", reserve(t),
		"--http.apps-file", apps(t), "--audit.file", log, "--http.trusted-proxies",
		"127.0.0.1/32"})...)
	p := &pages{t: t, addr: reserve(t), tls: &tls.Config{RootCAs: cert.Roots,
		ServerName: "localhost"}}
	d.node("web1", "web", append(secure, "--web.listen", p.addr, "--web.msg-ca",
		cert.Certificate)...)
	web := d.servers[len(d.servers)-1]
	until(t, "the page's server to say that no message server takes pages", func() bool {
		return strings.Contains(web.readyz(), "msg.websocket_listen")
	})
	d.node("msg1", "msg", append(secure, "--msg.listen", reserve(t), "--msg.websocket-listen",
		reserve(t), "--proxy.networks", "127.0.0.1/32", "--audit.file", log)...)
	d.node("fs1", "file", append(secure, "--file.listen", reserve(t), "--file.server-listen",
		reserve(t), "--file.min-free", "0B", "--file.advertise-ip", "files.invalid",
		"--proxy.networks", "127.0.0.1/32", "--data-dir",
		filepath.Join(t.TempDir(), "files"))...)
	for _, s := range d.servers {
		s.awaitReady()
	}
	until(t, "the page's server to find the message server", func() bool {
		return !strings.Contains(web.readyz(), "degraded")
	})
	p.trust()
	until(t, "the page's server to find the HTTP API and the file server", func() bool {
		c := p.config()
		return c.Register.Enabled && c.Files
	})
	if c := p.config(); !c.Register.Invite {
		t.Errorf("config.json: %+v", c)
	}
	if a := p.register("eve", "long enough", "wrong"); a.Code != 2 {
		t.Errorf("with a wrong code: %+v", a)
	}
	p.chat("u00001", "pw", "come in!")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"from":"127.0.0.7`, `"from":"127.0.0.8`,
		`"name":"newcomer","from":"127.0.0.1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the audit log has no %s:\n%s", want, text)
		}
	}
}
