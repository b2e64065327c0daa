package persona

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// patience bounds what a test waits for.
const patience = 4 * time.Minute

// The user of the client, and two others.
const self, friend, group = 7, 8, 9

// fake is a message server that says what a test tells it to.
type fake struct {
	t      *testing.T
	ln     net.Listener
	login  *httptest.Server
	kind   string // Content-Type of login_server
	asked  chan struct{}
	accept chan *line
}

// line is one connection to it.
type line struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func newFake(t *testing.T) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, kind: "text/html; charset=utf-8", asked: make(chan struct{}, 1000),
		accept: make(chan *line, 1000)}
	f.login = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked <- struct{}{}
		host, port, _ := net.SplitHostPort(ln.Addr().String())
		w.Header().Set("Content-Type", f.kind)
		_ = json.NewEncoder(w).Encode(map[string]any{"code": 0, "priorIP": host, "port": port})
	}))
	t.Cleanup(func() { ln.Close(); f.login.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.accept <- &line{t, c, bufio.NewReader(c)}
		}
	}()
	return f
}

func (f *fake) start(row Persona, o Options) *Client {
	o.User, o.Password, o.Server = "u", "p", f.login.URL
	c := Start(row, o)
	f.t.Cleanup(c.Close)
	return c
}

// next returns the next connection.
func (f *fake) next() *line {
	f.t.Helper()
	select {
	case l := <-f.accept:
		f.t.Cleanup(func() { l.Close() })
		return l
	case <-time.After(patience):
		f.t.Fatal("no connection")
		return nil
	}
}

func (l *line) send(seq uint16, m pb.Message) {
	l.t.Helper()
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.Write(b); err != nil {
		l.t.Fatal(err)
	}
}

// hear returns the next frame that is neither a heartbeat nor a question after login.
func (l *line) hear() (pdu.Header, pb.Message) {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(patience))
	for {
		h, body, err := readFrame(l.in)
		if err != nil {
			l.t.Fatal(err)
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			l.t.Fatal(err)
		}
		if h.Command != pb.CmdHeartBeat && h.Command != pb.CmdDepartmentReq {
			return h, m
		}
	}
}

// welcome answers the login.
func (l *line) welcome() uint16 {
	l.t.Helper()
	h, m := l.hear()
	if _, ok := m.(*pb.IMLoginReq); !ok {
		l.t.Fatalf("got %s before the login", h.Command)
	}
	info := pb.UserInfo_builder{UserId: new(uint32(self)), UserGender: new(uint32(1)),
		UserNickName: new(""), AvatarUrl: new(""), DepartmentId: new(uint32(0)), Email: new(""),
		UserRealName: new(""), UserTel: new(""), UserDomain: new(""),
		Status: new(uint32(0))}.Build()
	l.send(h.Seq, pb.IMLoginRes_builder{ServerTime: new(uint32(1)),
		ResultCode: pb.ResultType_REFUSE_REASON_NONE.Enum(), UserInfo: info}.Build())
	return h.Seq
}

func await(t *testing.T, c *Client, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !c.Await(ctx, ok) {
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// quietly is a persona that asks nothing after login.
func quietly(row Persona) Persona {
	row.Sync = nil
	return row
}

// TestReceipts: each persona answers each kind of delivery in its own form, or not at all.
func TestReceipts(t *testing.T) {
	t.Parallel()
	const single, grouped = pb.MsgType_MSG_TYPE_SINGLE_TEXT, pb.MsgType_MSG_TYPE_GROUP_TEXT
	for _, c := range []struct {
		row                           Persona
		received, open, inGroup, mine string // "user session", or what comes instead
	}{
		{Windows(), "0 8", "0 8", "", "0 8"},
		{Mac(), "", "", "", ""},
		{IOS(), "0 8", "0 8", "7 9", "0 8"},
		{Android(), "8 7", "", "7 9", "8 7"},
		{Web(), "", "", "", ""},
		{Node(), "", "", "", ""},
		{Dart(), "", "", "", ""},
	} {
		t.Run(c.row.Name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			client := f.start(quietly(c.row), Options{})
			l := f.next()
			l.welcome()
			await(t, client, "the login", func() bool { return client.State() == Online })
			id := uint32(0)
			deliver := func(what string, from, to uint32, kind pb.MsgType, want string, read bool) {
				t.Helper()
				id++
				l.send(0, &pb.MsgData{FromUserID: from, ToSessionID: to, MsgID: id, CreateTime: 1,
					Type: kind, Data: []byte("x")})
				await(t, client, what, func() bool { return client.Stats().Pushed == int(id) })
				client.Tell(&pb.IMClientTimeReq{}) // behind all that it said
				var got string
				reads := 0
				for {
					_, m := l.hear()
					if _, end := m.(*pb.IMClientTimeReq); end {
						break
					}
					switch m := m.(type) {
					case *pb.IMMsgDataAck:
						got += fmt.Sprintf("%d %d", m.GetUserId(), m.GetSessionId())
					case *pb.IMMsgDataReadAck:
						reads++
					}
				}
				if got != want || (reads == 1) != read {
					t.Errorf("%s: receipt %q, want %q; %d read acks", what, got, want, reads)
				}
			}
			deliver("received", friend, self, single, c.received, false)
			deliver("group", friend, group, grouped, c.inGroup, false)
			deliver("own copy", self, friend, single, c.mine, false)
			client.Open(Peer{ID: friend})
			l.hear() // the read ack of opening
			deliver("open", friend, self, single, c.open, true)
		})
	}
}

// TestRepeated: a second delivery is shown or not; a list never doubles.
func TestRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row          Persona
		closed, open int // times shown
	}{{Windows(), 1, 1}, {IOS(), 2, 1}, {Android(), 2, 2}, {Web(), 2, 2}, {Mac(), 2, 2}} {
		f := newFake(t)
		client := f.start(quietly(c.row), Options{})
		l := f.next()
		l.welcome()
		await(t, client, "the login", func() bool { return client.State() == Online })
		p := Peer{ID: friend}
		for i, want := range []int{c.closed, c.open} {
			id := uint32(1 + i)
			for range 2 {
				l.send(0, &pb.MsgData{FromUserID: friend, ToSessionID: self, MsgID: id,
					CreateTime: 1, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("x")})
			}
			await(t, client, "both", func() bool { return client.Stats().Pushed == 2*(i+1) })
			shown := slices.DeleteFunc(client.Shown(p), func(s Shown) bool { return s.ID != id })
			if len(shown) != want || client.Stats().Repeated != i+1 {
				t.Errorf("%s: shown %d times, want %d; %+v", c.row.Name, len(shown), want,
					client.Stats())
			}
			client.Open(p)
		}
	}
}

// TestMatching: an answer is found as each persona finds it.
func TestMatching(t *testing.T) {
	t.Parallel()
	rsp := pb.IMUnreadMsgCntRsp_builder{UserId: new(uint32(self)), TotalCnt: new(uint32(3))}.Build()
	for _, c := range []struct {
		row   Persona
		seq   int // added to the request's
		m     pb.Message
		taken bool
		fault string
	}{
		{Android(), 0, rsp, true, ""},
		{Android(), 1, rsp, false, ""},
		{Android(), 0, &pb.IMClientTimeRsp{}, false, "taken for the answer"},
		{Web(), 0, &pb.IMClientTimeRsp{}, false, "taken for the answer"},
		{Mac(), 0, rsp, true, ""},
		{Mac(), 1, rsp, false, ""},
		{IOS(), 0, &pb.IMClientTimeRsp{}, false, ""},
		{Windows(), 1, rsp, true, ""},
		{Windows(), -1, rsp, true, "read as IMLoginRes"},
	} {
		if m, ok := c.m.(*pb.IMClientTimeRsp); ok {
			m.SetServerTime(1)
		}
		f := newFake(t)
		client := f.start(quietly(c.row), Options{})
		l := f.next()
		l.welcome()
		await(t, client, "the login", func() bool { return client.State() == Online })
		ctx, cancel := context.WithCancel(context.Background())
		answer := make(chan error, 1)
		go func() {
			req := pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(self))}.Build()
			_, err := client.Ask(ctx, req, pb.CmdUnreadMsgCntRsp)
			answer <- err
		}()
		h, _ := l.hear()
		l.send(uint16(int(h.Seq)+c.seq), c.m)
		l.send(0, &pb.IMHeartBeat{}) // behind it
		await(t, client, "the heartbeat", func() bool { return client.Stats().Echoes == 1 })
		cancel()
		if err := <-answer; (err == nil) != c.taken {
			t.Errorf("%s, seq %+d, %s: %v", c.row.Name, c.seq, c.m.Command(), err)
		}
		faults := strings.Join(client.Faults(), "; ")
		if !strings.Contains(faults, c.fault) || c.fault == "" && faults != "" {
			t.Errorf("%s, seq %+d, %s: faults %q", c.row.Name, c.seq, c.m.Command(), faults)
		}
	}
}

// TestHTMLOnly: an answer of login_server as application/json reaches neither Mac nor iOS.
func TestHTMLOnly(t *testing.T) {
	t.Parallel()
	for _, row := range All() {
		f := newFake(t)
		f.kind = "application/json"
		client := f.start(row, Options{})
		if !row.NeedsHTML {
			f.next().welcome()
			continue
		}
		await(t, client, row.Name+" to fail", func() bool { return len(client.Faults()) > 0 })
		if s := client.Stats(); s.Dials > 0 {
			t.Errorf("%s: %+v", row.Name, s)
		}
	}
}

// TestUnacked: a message without an ack is sent again, with its seq, or given up.
func TestUnacked(t *testing.T) {
	t.Parallel()
	again := Windows()
	again.Resend = 50 * time.Millisecond
	gives := IOS()
	gives.Fail = 50 * time.Millisecond
	for _, row := range []Persona{again, gives} {
		f := newFake(t)
		client := f.start(quietly(row), Options{})
		l := f.next()
		l.welcome()
		await(t, client, "the login", func() bool { return client.State() == Online })
		client.Text(Peer{ID: friend}, []byte("x"))
		first, _ := l.hear()
		if row.Fail > 0 {
			await(t, client, "giving up", func() bool { return client.Sends()[0].Failed })
			continue
		}
		second, _ := l.hear()
		if second != first {
			t.Errorf("sent %+v and then %+v", first, second)
		}
		for range 2 { // one ack for each
			l.send(first.Seq, pb.IMMsgDataAck_builder{UserId: new(uint32(self)),
				SessionId: new(uint32(friend)), MsgId: new(uint32(5)),
				SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum()}.Build())
		}
		await(t, client, "the ack", func() bool { return client.Sends()[0].ID == 5 })
		if n := len(client.Shown(Peer{ID: friend})); n != 1 || len(client.Faults()) > 0 {
			t.Errorf("shown %d times, faults %q", n, client.Faults())
		}
	}
}

// TestLargeFrame: Android drops a frame above its limit, and reads on.
func TestLargeFrame(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := f.start(quietly(Android()), Options{})
	l := f.next()
	l.welcome()
	for id, size := range []int{1000, androidFrame, 1000} {
		l.send(0, &pb.MsgData{FromUserID: friend, ToSessionID: self, MsgID: uint32(id + 1),
			CreateTime: 1, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: make([]byte, size)})
	}
	await(t, client, "the last", func() bool { return client.Stats().Pushed == 2 })
	if s := client.Stats(); s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
}

// TestEnds: each persona reacts to an end, a kick and a refusal as the real client does.
func TestEnds(t *testing.T) {
	t.Parallel()
	kick := pb.IMKickUser_builder{UserId: new(uint32(self)),
		KickReason: pb.KickReasonType_KICK_REASON_DUPLICATE_USER.Enum()}.Build()
	for _, c := range []struct {
		row            Persona
		kicked, closed bool // comes back after a kick, after the end of the connection
		asks           bool // asks login_server again
	}{
		{Windows(), false, true, false}, {Mac(), false, true, false}, {IOS(), false, true, true},
		{Android(), false, true, false}, {Web(), true, true, false},
		{Node(), true, false, false}, {Dart(), true, true, false},
	} {
		t.Run(c.row.Name, func(t *testing.T) {
			t.Parallel()
			row := quietly(c.row)
			f := newFake(t)
			client := f.start(row, Options{Idle: 0.01})
			<-f.asked
			l := f.next()
			l.welcome()
			await(t, client, "the login", func() bool { return client.State() == Online })
			l.Close()
			if !c.closed {
				await(t, client, "a stop", func() bool { return client.State() == Stopped })
				client.LogIn()
			}
			l = f.next()
			l.welcome()
			await(t, client, "the login", func() bool { return client.State() == Online })
			if asked := len(f.asked) > 0; asked != c.asks {
				t.Errorf("asks login_server again: %v, want %v", asked, c.asks)
			}
			l.send(0, kick)
			await(t, client, "the kick", func() bool { return client.Stats().Kicks == 1 })
			if c.kicked {
				l.send(0, &pb.IMHeartBeat{})
				await(t, client, "a frame", func() bool { return client.Stats().Echoes == 1 })
				return
			}
			await(t, client, "a stop", func() bool { return client.State() == Stopped })
			if f := client.Faults(); len(f) > 0 {
				t.Errorf("%q", f)
			}
		})
	}
}

// TestOvertakenKick: Windows does not see a notice whose connection ends at once.
func TestOvertakenKick(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := f.start(quietly(Windows()), Options{Idle: 0.01})
	l := f.next()
	l.welcome()
	await(t, client, "the login", func() bool { return client.State() == Online })
	l.send(0, pb.IMKickUser_builder{UserId: new(uint32(self)),
		KickReason: pb.KickReasonType_KICK_REASON_DUPLICATE_USER.Enum()}.Build())
	l.Close()
	f.next().welcome()
	if f := client.Faults(); len(f) != 1 {
		t.Errorf("%q", f)
	}
}

// TestPauses: pauses grow as each row says.
func TestPauses(t *testing.T) {
	for _, c := range []struct {
		retry Retry
		want  []time.Duration
	}{
		{Windows().Lost, []time.Duration{3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15}},
		{Mac().Refused, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128}},
		{IOS().Lost, []time.Duration{5, 10, 20, 40}},
	} {
		for n, want := range c.want {
			if got, again := c.retry.Pause(n); got != want*time.Second || !again {
				t.Errorf("%+v: pause %d is %v, want %v s", c.retry, n, got, int(want))
			}
		}
	}
	for _, r := range []Retry{IOS().Refused, Web().Refused, Node().Lost} {
		if _, again := r.Pause(0); again {
			t.Errorf("%+v tries again", r)
		}
	}
}
