package route_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/engine"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// frame is one frame on a connection.
type frame struct {
	cmd  pb.Command
	seq  uint16
	body string
}

// peer is a message server in a test: a TCP connection to a route server.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// listener is a TCP port that serves one route server after the other, because starting
// and stopping an engine takes half a second.
type listener struct {
	addr   string
	closed chan struct{} // one for each closed connection that was handled

	mu      sync.Mutex
	current *route.Server
	owner   map[*session.Link]*route.Server
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{closed: make(chan struct{}, 10_000), owner: map[*session.Link]*route.Server{}}
	srv, err := engine.Start(engine.Options{Name: t.Name(), Addr: "127.0.0.1:0", Links: l,
		Loops:    2,
		MaxFrame: pdu.MaxServerFrame, MaxBuffered: pdu.MaxServerFrame})
	if err != nil {
		t.Fatal(err)
	}
	l.addr = srv.Addr().String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

// serve puts a new route server behind the port, for the connections that are accepted
// from now on.
func (l *listener) serve(t *testing.T, opt route.Options) (dial func() *peer) {
	r := route.New(opt)
	l.mu.Lock()
	l.current = r
	l.mu.Unlock()
	return func() *peer {
		t.Helper()
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p := &peer{t: t, conn: conn, in: bufio.NewReader(conn)}
		p.settle() // an answer shows that the connection is open
		return p
	}
}

// start serves one route server.
func start(t *testing.T, opt route.Options) (dial func() *peer) {
	t.Helper()
	return listen(t).serve(t, opt)
}

func (l *listener) of(s *session.Link) *route.Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner[s]
}

func (l *listener) Open(s *session.Link) error {
	l.mu.Lock()
	l.owner[s] = l.current
	l.mu.Unlock()
	return l.of(s).Open(s)
}

func (l *listener) Frame(s *session.Link, h pdu.Header,
	body []byte) {
	l.of(s).Frame(s, h, body)
}

func (l *listener) Message(s *session.Link, seq uint16,
	m pb.Message) {
	l.of(s).Message(s, seq, m)
}

func (l *listener) Close(s *session.Link, err error) {
	l.of(s).Close(s, err)
	l.mu.Lock()
	delete(l.owner, s)
	l.mu.Unlock()
	l.closed <- struct{}{}
}

func (p *peer) write(frame []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) send(seq uint16, ms ...pb.Message) {
	p.t.Helper()
	var out []byte
	for _, m := range ms {
		var err error
		if out, err = pdu.Append(out, seq, m); err != nil {
			p.t.Fatal(err)
		}
	}
	p.write(out)
}

// read returns the next frame.
func (p *peer) read() frame {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(p.in, head); err != nil {
		p.t.Fatalf("read: %v", err)
	}
	h := pdu.ParseHeader(head)
	body := make([]byte, int(h.Length)-pdu.HeaderLen)
	if _, err := io.ReadFull(p.in, body); err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return frame{h.Command, h.Seq, string(body)}
}

// settleSeq is the seq of settle's request.
const settleSeq = 0xfffe

// settle sends a request and returns the frames that arrive before its answer: all that
// was pushed to this connection before.
func (p *peer) settle() []frame {
	p.t.Helper()
	p.send(settleSeq, pb.IMUsersStatReq_builder{UserId: proto.Uint32(0)}.Build())
	var got []frame
	for {
		f := p.read()
		if f.cmd == pb.CmdUsersStatRsp && f.seq == settleSeq {
			return got
		}
		got = append(got, f)
	}
}

// settleAll calls settle on each peer twice: the first round covers the frames that a
// peer sent itself, the second the frames that they caused at the others.
func settleAll(peers ...*peer) [][]frame {
	got := make([][]frame, len(peers))
	for range 2 {
		for i, p := range peers {
			got[i] = append(got[i], p.settle()...)
		}
	}
	return got
}

// expect compares the received frames with those of messages with seq 0.
func expect(t *testing.T, name string, got []frame, want ...pb.Message) {
	t.Helper()
	var frames []frame
	for _, m := range want {
		frames = append(frames, toFrame(t, 0, m))
	}
	if !slices.Equal(got, frames) {
		t.Errorf("%s: the frames differ (-want +got):\n%s", name,
			cmp.Diff(describe(frames), describe(got)))
	}
}

func toFrame(t *testing.T, seq uint16, m pb.Message) frame {
	t.Helper()
	body, err := m.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	return frame{m.Command(), seq, string(body)}
}

func online(user uint32, client pb.ClientType) pb.Message { return update(1, user, client) }
func gone(user uint32, client pb.ClientType) pb.Message   { return update(2, user, client) }

func update(status, user uint32, client pb.ClientType) pb.Message {
	return pb.IMUserStatusUpdate_builder{UserStatus: proto.Uint32(status),
		UserId: proto.Uint32(user), ClientType: client.Enum()}.Build()
}

func info(clients ...*pb.ServerUserStat) pb.Message {
	return pb.IMOnlineUserInfo_builder{UserStatList: clients}.Build()
}

func acks(user uint32, client pb.ClientType, acks bool) pb.Message {
	m := update(1, user, client)
	m.(*pb.IMUserStatusUpdate).SetAcks(acks)
	return m
}

func held(user uint32, client pb.ClientType) *pb.ServerUserStat {
	return pb.ServerUserStat_builder{UserId: proto.Uint32(user),
		Status: pb.UserStatType_USER_STATUS_ONLINE.Enum(), ClientType: client.Enum()}.Build()
}

func pcNotify(user, status uint32) pb.Message {
	return pb.IMServerPCLoginStatusNotify_builder{UserId: proto.Uint32(user),
		LoginStatus: proto.Uint32(status)}.Build()
}

func statNotify(user uint32, status pb.UserStatType) pb.Message {
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{UserId: proto.Uint32(user),
		Status: status.Enum()}.Build()}.Build()
}

func kick(user uint32, client pb.ClientType, reason pb.KickReasonType) pb.Message {
	return pb.IMServerKickUser_builder{UserId: proto.Uint32(user), ClientType: client.Enum(),
		Reason: proto.Uint32(uint32(reason))}.Build()
}

// lateKick is the kick of a login ten seconds ago.
func lateKick(user uint32, client pb.ClientType) pb.Message {
	m := kick(user, client, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	m.(*pb.IMServerKickUser).SetAge(10_000)
	return m
}

const (
	windows = pb.ClientType_CLIENT_TYPE_WINDOWS
	mac     = pb.ClientType_CLIENT_TYPE_MAC
	ios     = pb.ClientType_CLIENT_TYPE_IOS
	android = pb.ClientType_CLIENT_TYPE_ANDROID

	statOnline  = pb.UserStatType_USER_STATUS_ONLINE
	statOffline = pb.UserStatType_USER_STATUS_OFFLINE
)
