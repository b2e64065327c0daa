package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// person is a Client under test and the events that it reported.
type person struct {
	*Client
	t      testing.TB
	mu     sync.Mutex
	cond   *sync.Cond
	events []Event
}

// The users of every test's server. The password of each is its name.
const (
	alice uint32 = 1
	bob   uint32 = 2
)

func newServer(t testing.TB) *clienttest.Server {
	s := clienttest.New(t)
	s.AddUser(alice, "alice")
	s.AddUser(bob, "bob")
	return s
}

// open logs in as the named user and waits until the Client is ready.
func open(t testing.TB, s *clienttest.Server, name string, change func(*Options)) *person {
	t.Helper()
	p := dial(t, s, name, change)
	waitFor[Ready](p, 1)
	return p
}

// dial is open, and does not wait for Ready.
func dial(t testing.TB, s *clienttest.Server, name string, change func(*Options)) *person {
	t.Helper()
	p := &person{t: t}
	p.cond = sync.NewCond(&p.mu)
	opts := Options{
		Credentials: tcp.Credentials{User: name, Password: name}, MsgServer: s.Addr(),
		BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
		SendRate: 1e6,
		OnEvent: func(e Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
			p.cond.Broadcast()
		},
	}
	if change != nil {
		change(&opts)
	}
	c, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	p.Client = c
	t.Cleanup(func() { _ = c.Close() })
	return p
}

// all returns the events of one type so far.
func all[E Event](p *person) []E {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pick[E](p)
}

func pick[E Event](p *person) []E {
	var list []E
	for _, e := range p.events {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

// waitFor waits until at least n events of one type were reported, and returns all of
// them.
func waitFor[E Event](p *person, n int) []E {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if list := pick[E](p); len(list) >= n {
			return list
		}
		p.cond.Wait()
	}
}

// texts decrypts received messages.
func (p *person) texts(list []Received) []string {
	p.t.Helper()
	var out []string
	for _, r := range list {
		text, err := p.Text(r.Message)
		if err != nil {
			p.t.Errorf("message %d: %v", r.Message.ID, err)
		}
		out = append(out, text)
	}
	return out
}

// ids returns the ids of received messages.
func ids(list []Received) []uint32 {
	var out []uint32
	for _, r := range list {
		out = append(out, r.Message.ID)
	}
	return out
}

func (p *person) send(to uint32, text string) uint64 {
	p.t.Helper()
	id, err := p.Send(Peer{ID: to}, text)
	if err != nil {
		p.t.Fatalf("send: %v", err)
	}
	return id
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func body(t testing.TB, text string) []byte {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return c.Encrypt(text)
}

// TestTextArrives sends a text and checks the events and acks of both sides.
func TestTextArrives(t *testing.T) {
	s := newServer(t)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	online := Presence{User: bob, Status: pb.UserStatType_USER_STATUS_ONLINE}
	equal(t, "presence", waitFor[Presence](a, 1)[0], online)
	id := a.send(bob, "hello, 世界")
	equal(t, "ack", waitFor[Acked](a, 1)[0], Acked{ID: id, Peer: Peer{ID: bob}, MsgID: 1})
	got := waitFor[Received](b, 1)
	equal(t, "text", b.texts(got), []string{"hello, 世界"})
	if got[0].Peer.ID != alice || got[0].Missed {
		t.Errorf("received %+v", got[0])
	}
	ack, err := pdu.Decode(pb.CmdMsgDataAck, s.WaitFrames(pb.CmdMsgDataAck, 1)[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	m := ack.(*pb.IMMsgDataAck)
	if m.GetUserId() != bob || m.GetSessionId() != alice || m.GetMsgId() != 1 {
		t.Errorf("recipient's ack %v", m)
	}
}

func TestOpenAsksLoginServer(t *testing.T) {
	s := newServer(t)
	url := s.HTTP()
	a := open(t, s, "alice", func(o *Options) { o.MsgServer, o.Server = "", url })
	equal(t, "alice", a.UserID(), alice)
}

func TestCloseLogsOut(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	if err := a.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	equal(t, "logouts", len(s.Frames(pb.CmdLogoutReq)), 1)
	if _, err := a.Send(Peer{ID: bob}, "x"); im.KindOf(err) != im.Closed {
		t.Errorf("send after close: %v", err)
	}
	equal(t, "why it ended", im.KindOf(a.Err()), im.Closed)
}

func TestOpenFailsWithKind(t *testing.T) {
	s := newServer(t)
	ctx := t.Context()
	_, err := Open(ctx, Options{Credentials: tcp.Credentials{User: "alice", Password: "wrong"},
		MsgServer: s.Addr()})
	equal(t, "wrong password", im.KindOf(err), im.Denied)
	_, err = Open(ctx, Options{Credentials: tcp.Credentials{User: "alice"}})
	equal(t, "no server", im.KindOf(err), im.Invalid)
	s.Crash()
	_, err = Open(ctx, Options{Credentials: tcp.Credentials{User: "alice", Password: "alice"},
		MsgServer: s.Addr()})
	equal(t, "nobody there", im.KindOf(err), im.Unavailable)
}

// TestOpenEndsWithItsContext logs in to a server that accepts connections and never
// answers.
func TestOpenEndsWithItsContext(t *testing.T) {
	s := newServer(t)
	s.Filter(func(clienttest.Frame) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Options{Credentials: tcp.Credentials{User: "alice", Password: "alice"},
			MsgServer: s.Addr(), ConnectTimeout: time.Hour})
		done <- err
	}()
	s.WaitFrames(pb.CmdLoginReq, 1)
	cancel()
	equal(t, "canceled", im.KindOf(<-done), im.Unavailable)
}

func TestOtherDeviceSeesMessageAndRead(t *testing.T) {
	s := newServer(t)
	a1 := open(t, s, "alice", nil)
	a2 := open(t, s, "alice", func(o *Options) {
		o.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID
	})
	a1.send(bob, "from one")
	got := waitFor[Received](a2, 1)
	if got[0].Peer.ID != bob || got[0].Message.From != alice {
		t.Errorf("other device got %+v", got[0])
	}
	s.PushFrame(alice, pb.IMMsgDataReadNotify_builder{
		UserId: new(alice), SessionId: new(bob), MsgId: new(uint32(1)),
		SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
	}.Build())
	if r := waitFor[ReadElsewhere](a1, 1)[0]; r.Peer.ID != bob || r.MsgID != 1 {
		t.Errorf("read elsewhere %+v", r)
	}
}

func TestKickedClientEnds(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	s.Kick(alice, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	<-a.Done()
	if k := all[Kicked](a); len(k) != 1 ||
		k[0].Reason != pb.KickReasonType_KICK_REASON_DUPLICATE_USER {
		t.Errorf("kicked %+v", k)
	}
	equal(t, "why it ended", im.KindOf(a.Err()), im.Denied)
	equal(t, "logins", len(s.Frames(pb.CmdLoginReq)), 1)
	equal(t, "disconnects", len(all[Disconnected](a)), 0)
	if err := a.Flush(t.Context()); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
}

func TestRefusedClientEndsAfterSeveralLogins(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	a.MarkRead(Peer{ID: bob}, 1)
	s.SetPassword("alice", "changed")
	s.Drop(alice)
	<-a.Done()
	equal(t, "refused", len(all[Refused](a)), 1)
	equal(t, "why it ended", im.KindOf(a.Err()), im.Denied)
	equal(t, "logins", len(s.Frames(pb.CmdLoginReq)), 1+refusals)
}

// TestMalformedFramesAreDropped checks that three in a row, or bytes that are not a
// frame, end the connection, and that the next one works.
func TestMalformedFramesAreDropped(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	bad := append(pdu.AppendHeader(nil, pb.CmdMsgData, 0), 0xff, 0xff)
	bad[3] += 2
	unknown := pdu.AppendHeader(nil, 0x0eee, 0)
	s.PushRaw(alice, append(append([]byte(nil), bad...), unknown...))
	s.PushRaw(alice, bad)
	s.PushRaw(alice, bad)
	s.Push(alice, s.Store(bob, alice, body(t, "still here")))
	waitFor[Received](a, 1)
	equal(t, "connections", len(all[Disconnected](a)), 0)
	equal(t, "malformed", a.Stats().Malformed, 3)
	equal(t, "ignored", a.Stats().Ignored, 1)
	for range 3 {
		s.PushRaw(alice, bad)
	}
	equal(t, "three in a row", im.KindOf(waitFor[Disconnected](a, 1)[0].Err), im.Malformed)
	waitFor[Connected](a, 2)
	s.PushRaw(alice, []byte("\x00\x00\x00\x01"))
	equal(t, "no frame", im.KindOf(waitFor[Disconnected](a, 2)[1].Err), im.Malformed)
	waitFor[Connected](a, 3)
	s.Push(alice, s.Store(bob, alice, body(t, "and here")))
	equal(t, "received", a.texts(waitFor[Received](a, 2)), []string{"still here", "and here"})
}

// TestEveryMessageArrivesOnceDespiteFaults lets two users talk while connections and acks
// fail. In the end each has all messages of the other, once and in order.
func TestEveryMessageArrivesOnceDespiteFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func chaos(t *testing.T, r *rand.Rand) {
	s := newServer(t)
	quick := func(o *Options) { o.AckTimeout, o.Attempts = 20*time.Millisecond, 1000 }
	a, b := open(t, s, "alice", quick), open(t, s, "bob", quick)
	var mu sync.Mutex // r is used by the server's goroutines
	chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return r.IntN(n) == 0 }
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData || !chance(10) })
	const n = 120
	for i := range n {
		a.send(bob, fmt.Sprintf("a%d", i))
		b.send(alice, fmt.Sprintf("b%d", i))
		switch {
		case chance(12):
			s.Drop(alice)
		case chance(12):
			s.Drop(bob)
		case chance(15):
			s.Crash()
			s.Listen()
		case chance(8):
			s.MuteAcks(chance(2))
		}
		if chance(4) {
			waitFor[Acked](a, min(i/2, len(all[Acked](a))))
		}
	}
	s.MuteAcks(false)
	s.Filter(nil)
	for _, p := range []*person{a, b} {
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitFor[Received](p, n)
	}
	stored := s.Stored(alice, bob)
	equal(t, "stored", len(stored), 2*n)
	for _, p := range []*person{a, b} {
		last := uint32(0)
		for _, got := range all[Received](p) {
			if got.Message.ID <= last || got.Message.From == p.UserID() {
				t.Errorf("user %d: message %d of %d after %d", p.UserID(), got.Message.ID,
					got.Message.From, last)
			}
			last = got.Message.ID
		}
		equal(t, "received", len(all[Received](p)), n)
		equal(t, "acked", len(waitFor[Acked](p, n)), n)
	}
}
