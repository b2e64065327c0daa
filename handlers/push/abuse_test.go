package push

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/notify"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// Frames that a connection other than a message server's may try, as ABUSE.md lists them.

// patience is the longest time that any step of a test may take.
const patience = time.Minute

// listen starts a push server on a TCP port.
func listen(t *testing.T, opt Options) *engine.Server {
	t.Helper()
	s := newServer(opt)
	srv, err := engine.Start(engine.Options{Name: "push", Addr: "127.0.0.1:0", Links: s, Loops: 1,
		MaxFrame: 16 << 20, MaxBuffered: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		cancel() // gives up the notifications that remain
		_ = s.Drain(ctx)
	})
	return srv
}

// server is a connection that behaves as a message server.
type server struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, srv *engine.Server) *server {
	t.Helper()
	c, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &server{t, c, bufio.NewReader(c)}
}

// push sends a request and returns its answer.
func (s *server) push(m *pb.IMPushToUserReq) *pb.IMPushToUserRsp {
	s.t.Helper()
	frame, err := pdu.Append(nil, 7, m)
	if err != nil {
		s.t.Fatal(err)
	}
	go s.Write(frame) // the answer may arrive before the whole frame is written
	for {
		head := make([]byte, pdu.HeaderLen)
		if _, err := io.ReadFull(s.in, head); err != nil {
			s.t.Fatal(err)
		}
		h := pdu.ParseHeader(head)
		body := make([]byte, h.Length-pdu.HeaderLen)
		if _, err := io.ReadFull(s.in, body); err != nil {
			s.t.Fatal(err)
		}
		if h.Command == pb.CmdHeartBeat {
			continue
		}
		rsp := &pb.IMPushToUserRsp{}
		if err := rsp.ParseBody(body); err != nil || h.Command != rsp.Command() || h.Seq != 7 {
			s.t.Fatalf("got %s: %v", h.Command, err)
		}
		return rsp
	}
}

// closed fails unless the server closes the connection. Heartbeats before the end are
// ignored.
func (s *server) closed(what string) {
	s.t.Helper()
	if _, err := io.Copy(io.Discard, s.in); err != nil && strings.Contains(err.Error(), "timeout") {
		s.t.Errorf("%s: the connection stays open", what)
	}
}

// TestAbuseFrames: a malformed frame closes its own connection and no other.
func TestAbuseFrames(t *testing.T) {
	srv := listen(t, Options{IOS: &phones{}})
	good := dial(t, srv)
	bad := append(pdu.AppendHeader(nil, pb.CmdPushToUserReq, 1), 0xff, 0xff, 0xff)
	binary.BigEndian.PutUint32(bad, uint32(len(bad)))
	for what, raw := range map[string]string{
		"4 GiB": "\xff\xff\xff\xff", "too long": string(binary.BigEndian.AppendUint32(nil,
			16<<20+1)), "too short": "\x00\x00\x00\x0f",
		"HTTP": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"TLS":  "\x16\x03\x01\x02\x00\x01", "three that do not decode": strings.Repeat(string(bad),
			3),
	} {
		c := dial(t, srv)
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		c.closed(what)
	}
	if got := results(good.push(push(ios("a")))); got != "[a=0]" {
		t.Errorf("on the other connection: %s", got)
	}
}

// TestAbuseContent: a push that is longer than any service accepts is refused before it
// is queued. The other pushes of the request are sent.
func TestAbuseContent(t *testing.T) {
	apple := &phones{}
	srv := listen(t, Options{IOS: apple})
	c := dial(t, srv)
	long := push(ios("a"), ios("b"))
	long.SetFlash(strings.Repeat("x", 8<<20))
	if got := results(c.push(long)); got != "[a=1 b=1]" {
		t.Errorf("text of 8 MiB: %s", got)
	}
	token := strings.Repeat("x", im.MaxDeviceToken+1)
	if got := results(c.push(push(ios(token), ios("c"),
		ios("")))); got != fmt.Sprintf("[%s=1 c=0 =0]", token) {
		t.Errorf("overlong token: %.100s", got)
	}
	if apple.mu.Lock(); len(apple.got) != 2 {
		t.Errorf("%d notifications sent", len(apple.got))
	}
	apple.mu.Unlock()
	strange := push(phone(1<<32-1, pb.ClientType(99), "d", 1<<32-1, 1<<32-1))
	strange.SetData("\x00 no json {")
	if got := results(c.push(strange)); got != "[d=0]" {
		t.Errorf("unknown client and push type: %s", got)
	}
}

// TestAbuseFlood: pushes beyond the limit of the queue are answered as failed at once.
// The queued ones stay, and the port keeps answering.
func TestAbuseFlood(t *testing.T) {
	hold := make(chan struct{})
	apple := &phones{answer: func(notify.Notification,
		int) notify.Result {
		<-hold
		return notify.Result{}
	}}
	srv := listen(t, Options{IOS: apple, Queue: 100, Workers: 2})
	t.Cleanup(func() { close(hold) }) // before the server ends, which waits for the service
	tokens := make([]*pb.UserTokenInfo, 100)
	for i := range tokens {
		tokens[i] = ios(fmt.Sprint("t", i))
	}
	c := dial(t, srv)
	frame, err := pdu.Append(nil, 7, push(tokens...))
	if err != nil {
		t.Fatal(err)
	}
	c.Write(frame) // gets no answer while the service hangs
	if got := results(c.push(push(ios("x")))); got != "[x=1]" {
		t.Errorf("one beyond the queue: %s", got)
	}
	many := make([]*pb.UserTokenInfo, 30_000)
	for i := range many {
		many[i] = ios("y")
	}
	rsp := c.push(push(many...))
	for _, r := range rsp.GetPushResultList() {
		if r.GetResultCode() != resultFailed {
			t.Fatalf("many beyond the queue: %v", r)
		}
	}
	if n := len(rsp.GetPushResultList()); n != len(many) {
		t.Errorf("%d results for %d tokens", n, len(many))
	}
}

// TestAbuseSilence: the server closes a silent connection, and one that sends part of a
// header.
func TestAbuseSilence(t *testing.T) {
	srv := listen(t, Options{LinkTimeout: 200 * time.Millisecond,
		LinkHeartbeat: 50 * time.Millisecond})
	silent, half := dial(t, srv), dial(t, srv)
	half.Write([]byte{0, 0, 1})
	silent.closed("silence")
	half.closed("half a header")
}
