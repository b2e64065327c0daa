package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// person is a Client under test, with everything it reported.
type person struct {
	*Client
	t      testing.TB
	mu     sync.Mutex
	cond   *sync.Cond
	events []Event
}

// Users of every test's server; the password of each is its name.
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
	p := &person{t: t}
	p.cond = sync.NewCond(&p.mu)
	opts := Options{
		Credentials: Credentials{User: name, Password: name}, MsgServer: s.Addr(), BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
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
	waitFor[Ready](p, 1)
	return p
}

// all returns what was reported so far of a kind.
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

// waitFor waits until at least n events of a kind were reported, and returns all of them.
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

// texts decrypts what was received.
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

// ids are the ids of what was received.
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

func TestClientTalk(t *testing.T) {
	s := newServer(t)
	url := s.HTTP()
	a := open(t, s, "alice", func(o *Options) { o.MsgServer, o.Server = "", url })
	b := open(t, s, "bob", nil)
	equal(t, "alice", a.UserID(), alice)
	if got := waitFor[Presence](a, 1)[0]; got != (Presence{User: bob, Status: pb.UserStatType_USER_STATUS_ONLINE}) {
		t.Errorf("presence %+v", got)
	}
	id := a.send(bob, "hello, 世界")
	if got := waitFor[Acked](a, 1)[0]; got != (Acked{ID: id, Peer: Peer{ID: bob}, MsgID: 1}) {
		t.Errorf("ack %+v", got)
	}
	got := waitFor[Received](b, 1)
	equal(t, "text", b.texts(got), []string{"hello, 世界"})
	if got[0].Peer.ID != alice || got[0].Missed {
		t.Errorf("received %+v", got[0])
	}
	ack, err := pdu.Decode(pb.CmdMsgDataAck, s.WaitFrames(pb.CmdMsgDataAck, 1)[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	if m := ack.(*pb.IMMsgDataAck); m.GetUserId() != bob || m.GetSessionId() != alice || m.GetMsgId() != 1 {
		t.Errorf("recipient's ack %v", m)
	}
	if err := a.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	equal(t, "logouts", len(s.Frames(pb.CmdLogoutReq)), 1)
	if _, err := a.Send(Peer{ID: bob}, "x"); im.KindOf(err) != im.Closed {
		t.Errorf("send after close: %v", err)
	}
	equal(t, "why it ended", im.KindOf(a.Err()), im.Closed)
}

func TestClientRequests(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.Store(bob, alice, body(t, fmt.Sprint(i+1)))
	}
	a := open(t, s, "alice", nil)
	ctx := t.Context()
	users, _, err := Contacts(ctx, a, 0)
	if err != nil || len(users) != 2 || users[1].Name != "bob" {
		t.Errorf("contacts %v, %v", users, err)
	}
	stats, err := Statuses(ctx, a, []uint32{alice, bob})
	if err != nil || stats[alice] != pb.UserStatType_USER_STATUS_ONLINE || stats[bob] != pb.UserStatType_USER_STATUS_OFFLINE {
		t.Errorf("statuses %v, %v", stats, err)
	}
	unread, err := Unread(ctx, a)
	if err != nil || len(unread) != 1 || unread[0].Count != 5 || unread[0].Latest.ID != 5 {
		t.Errorf("unread %v, %v", unread, err)
	}
	recent, err := Recent(ctx, a, 0)
	if err != nil || len(recent) != 1 || recent[0].Peer != bob || recent[0].Latest.ID != 5 {
		t.Errorf("recent %v, %v", recent, err)
	}
	list, err := History(ctx, a, Peer{ID: bob}, 4, 2)
	if err != nil || len(list) != 2 || list[0].ID != 4 || list[1].ID != 3 || list[0].From != bob || list[0].To != alice {
		t.Errorf("history %v, %v", list, err)
	}
	list, err = ByID(ctx, a, Peer{ID: bob}, []uint32{2, 9})
	if err != nil || len(list) != 1 || list[0].ID != 2 {
		t.Errorf("by id %v, %v", list, err)
	}
	if id, err := LatestID(ctx, a, Peer{ID: bob}); err != nil || id != 5 {
		t.Errorf("latest %d, %v", id, err)
	}
	if now, err := ServerTime(ctx, a); err != nil || now == 0 {
		t.Errorf("time %d, %v", now, err)
	}
	ready := all[Ready](a)[0]
	if len(ready.Unread) != 1 || len(ready.Recent) != 1 || ready.Again {
		t.Errorf("ready %+v", ready)
	}
	a.MarkRead(Peer{ID: bob}, 5)
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
	if unread, err = Unread(ctx, a); err != nil || len(unread) != 0 {
		t.Errorf("unread after reading: %v, %v", unread, err)
	}
	equal(t, "messages from before", len(all[Received](a)), 0)
}

func TestClientOpenFails(t *testing.T) {
	s := newServer(t)
	ctx := t.Context()
	_, err := Open(ctx, Options{Credentials: Credentials{User: "alice", Password: "wrong"}, MsgServer: s.Addr()})
	equal(t, "wrong password", im.KindOf(err), im.Denied)
	_, err = Open(ctx, Options{Credentials: Credentials{User: "alice"}})
	equal(t, "no server", im.KindOf(err), im.Invalid)
	s.Crash()
	_, err = Open(ctx, Options{Credentials: Credentials{User: "alice", Password: "alice"}, MsgServer: s.Addr()})
	equal(t, "nobody there", im.KindOf(err), im.Unavailable)
}

// A server that accepts and says nothing must not hold up Open longer than its context.
func TestClientOpenCanceled(t *testing.T) {
	s := newServer(t)
	s.Filter(func(clienttest.Frame) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Options{Credentials: Credentials{User: "alice", Password: "alice"}, MsgServer: s.Addr(), ConnectTimeout: time.Hour})
		done <- err
	}()
	s.WaitFrames(pb.CmdLoginReq, 1)
	cancel()
	equal(t, "canceled", im.KindOf(<-done), im.Unavailable)
}

// What is sent while the server is away arrives once it is back; what it stored meanwhile is fetched.
func TestClientReconnect(t *testing.T) {
	s := newServer(t)
	a, b := open(t, s, "alice", nil), open(t, s, "bob", nil)
	a.send(bob, "one")
	waitFor[Acked](a, 1)
	waitFor[Received](b, 1)
	s.Crash()
	waitFor[Disconnected](a, 1)
	waitFor[Disconnected](b, 1)
	a.send(bob, "two")
	a.send(bob, "three")
	waitFor[Retrying](a, 1)
	s.Listen()
	waitFor[Acked](a, 3)
	equal(t, "texts", b.texts(waitFor[Received](b, 3)), []string{"one", "two", "three"})
	equal(t, "stored", len(s.Stored(alice, bob)), 3)
	if !waitFor[Connected](a, 2)[1].Again {
		t.Error("the second Connected does not say Again")
	}
}

// More is missed than fits a page, some of it the user's own from another device.
func TestClientCatchUp(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "old"))
	b := open(t, s, "bob", nil)
	s.Push(bob, s.Store(alice, bob, body(t, "live")))
	waitFor[Received](b, 1)
	s.Crash()
	const missed = 250
	for i := range missed {
		from, to := alice, bob
		if i%3 == 2 {
			from, to = bob, alice
		}
		s.Store(from, to, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	got := waitFor[Received](b, missed+1)
	for i, r := range got {
		if r.Message.ID != uint32(i+2) || r.Missed != (i > 0) {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	s.Push(bob, s.Store(alice, bob, body(t, "live again")))
	equal(t, "after it", waitFor[Received](b, missed+2)[missed+1].Message.ID, missed+3)
	equal(t, "fetched", b.Stats().Fetched, missed)
}

// A conversation that began while the connection was away is fetched from its beginning; an old one nobody told of is not.
func TestClientCatchUpNew(t *testing.T) {
	s := newServer(t)
	s.AddUser(3, "carol")
	b := open(t, s, "bob", nil)
	s.Crash()
	for i := range 3 {
		s.Store(3, bob, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	equal(t, "new conversation", ids(waitFor[Received](b, 3)), []uint32{1, 2, 3})
}

func TestClientCatchUpLimit(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "old"))
	b := open(t, s, "bob", func(o *Options) { o.CatchUp = 10 })
	s.Crash()
	for i := range 30 {
		s.Store(alice, bob, body(t, fmt.Sprint(i)))
	}
	s.Listen()
	got := waitFor[Received](b, 10)
	equal(t, "newest", ids(got), []uint32{22, 23, 24, 25, 26, 27, 28, 29, 30, 31})
	equal(t, "told of the rest", all[Skipped](b), []Skipped{{Peer: Peer{ID: alice}, Below: 22}})
}

// A message that comes before its predecessor waits for it; one that was pushed twice is reported once, and acked twice.
func TestClientOrder(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", nil)
	m1 := s.Store(alice, bob, body(t, "1"))
	s.Push(bob, m1)
	m2, m3 := s.Store(alice, bob, body(t, "2")), s.Store(alice, bob, body(t, "3"))
	s.Push(bob, m3)
	s.Push(bob, m2)
	s.Push(bob, m1)
	s.Push(bob, s.Store(alice, bob, body(t, "4")))
	equal(t, "order", ids(waitFor[Received](b, 4)), []uint32{1, 2, 3, 4})
	s.WaitFrames(pb.CmdMsgDataAck, 5)
	equal(t, "received", len(all[Received](b)), 4)
	equal(t, "duplicates", b.Stats().Duplicates >= 1, true)
}

// An id the server does not have, because storing failed, does not hold up what follows; if it appears after all, it is not lost.
func TestClientHole(t *testing.T) {
	s := newServer(t)
	b := open(t, s, "bob", nil)
	s.Push(bob, s.Store(alice, bob, body(t, "1")))
	m := im.Message{ID: 3, From: alice, To: bob, Created: 1_700_000_100, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: body(t, "3")}
	s.Push(bob, m)
	equal(t, "with a hole", ids(waitFor[Received](b, 2)), []uint32{1, 3})
	m.ID = 2
	s.Push(bob, m)
	equal(t, "late", ids(waitFor[Received](b, 3)), []uint32{1, 3, 2})
}

// TestClientGapBehindOwn has a message stored and not pushed while its recipient writes and writes: it is fetched all the same.
func TestClientGapBehindOwn(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	a.send(bob, "first")
	waitFor[Acked](a, 1)
	s.Store(bob, alice, body(t, "not pushed"))
	for n := range maxOwn + 50 {
		a.send(bob, fmt.Sprint("own ", n))
		waitFor[Acked](a, n+2)
	}
	equal(t, "received", a.texts(waitFor[Received](a, 1)), []string{"not pushed"})
	s.Push(alice, s.Store(bob, alice, body(t, "pushed")))
	equal(t, "received", a.texts(waitFor[Received](a, 2)), []string{"not pushed", "pushed"})
}

// The same with one message written: nothing more is pushed, and yet it is found.
func TestClientGapWatched(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", func(o *Options) { o.SyncTimeout = 20 * time.Millisecond })
	s.Store(bob, alice, body(t, "not pushed"))
	a.send(bob, "mine")
	got := waitFor[Received](a, 1)
	equal(t, "received", a.texts(got), []string{"not pushed"})
	equal(t, "missed", got[0].Missed, true)
}

// The history is not answered for a while, as when a database is restarted: nothing is given up.
func TestClientMuteHistory(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "1"))
	b := open(t, s, "bob", func(o *Options) { o.SyncTimeout = 5 * time.Millisecond })
	asked := 0
	s.Filter(func(f clienttest.Frame) bool {
		if f.Command == pb.CmdGetMsgListReq {
			asked++
		}
		return f.Command != pb.CmdGetMsgListReq || asked > syncTries-2
	})
	s.Store(alice, bob, body(t, "2"))
	s.Push(bob, s.Store(alice, bob, body(t, "3")))
	equal(t, "order", ids(waitFor[Received](b, 2)), []uint32{2, 3})
	equal(t, "skipped", len(all[Skipped](b)), 0)
}

// The history comes from a slave that is behind: what must be there is asked for again.
func TestClientLag(t *testing.T) {
	s := newServer(t)
	s.Store(alice, bob, body(t, "1"))
	b := open(t, s, "bob", nil)
	s.Store(alice, bob, body(t, "2"))
	s.Lag(2)
	s.Push(bob, s.Store(alice, bob, body(t, "3")))
	s.WaitFrames(pb.CmdGetMsgListReq, 1)
	s.Lag(0)
	equal(t, "order", ids(waitFor[Received](b, 2)), []uint32{2, 3})
}

// The server does not tell of an old conversation: what was said in it before the login is no news.
func TestClientUntold(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.Store(alice, bob, body(t, fmt.Sprint(i)))
	}
	s.Filter(func(f clienttest.Frame) bool {
		return f.Command != pb.CmdRecentContactSessionReq && f.Command != pb.CmdUnreadMsgCntReq
	})
	b := open(t, s, "bob", func(o *Options) { o.SyncTimeout = 10 * time.Millisecond })
	s.Push(bob, s.Store(alice, bob, body(t, "new")))
	equal(t, "received", ids(waitFor[Received](b, 1)), []uint32{6})
}

// An ack that does not come: the same message again, with the same name and seq.
func TestClientResend(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = 5 * time.Millisecond })
	s.MuteAcks(true)
	id := a.send(bob, "hello?")
	frames := s.WaitFrames(pb.CmdMsgData, 3)
	s.MuteAcks(false)
	if got := waitFor[Acked](a, 1)[0]; got.ID != id || got.MsgID != 1 {
		t.Errorf("ack %+v", got)
	}
	var name string
	for i, f := range frames {
		var m pb.MsgData
		if err := m.ParseBody(f.Body); err != nil || len(m.ClientMsgID) != 16 {
			t.Fatalf("frame %d: %v, name %x", i, err, m.ClientMsgID)
		}
		if i == 0 {
			name = string(m.ClientMsgID)
		}
		if string(m.ClientMsgID) != name || f.Seq != frames[0].Seq {
			t.Errorf("frame %d has name %x and seq %d", i, m.ClientMsgID, f.Seq)
		}
	}
	equal(t, "stored", len(s.Stored(alice, bob)), 1)
	if r := waitFor[Resent](a, 2); r[0].ID != id || r[0].Attempt != 2 {
		t.Errorf("told %+v", r)
	}
}

func TestClientGivesUp(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout, o.Attempts = time.Millisecond, 3 })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	id := a.send(bob, "hello?")
	if got := waitFor[SendFailed](a, 1)[0]; got.ID != id || im.KindOf(got.Err) != im.Unavailable {
		t.Errorf("failure %+v", got)
	}
	equal(t, "sent", len(s.WaitFrames(pb.CmdMsgData, 3)), 3)
	if err := a.Flush(t.Context()); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// The ack is lost with the connection. The next one shows the message as if from another device, in the history and pushed; it is the same one.
func TestClientAckLost(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", nil)
	s.MuteAcks(true)
	a.send(bob, "once")
	s.WaitFrames(pb.CmdMsgData, 1)
	s.Crash()
	s.MuteAcks(false)
	m := s.Stored(alice, bob)[1]
	s.Listen()
	waitFor[Acked](a, 1)
	s.Push(alice, m)
	s.Push(alice, s.Store(bob, alice, body(t, "answer")))
	equal(t, "received", a.texts(waitFor[Received](a, 1)), []string{"answer"})
	equal(t, "stored", len(s.Stored(alice, bob)), 3)
}

// The same, but the copy comes before the ack; and a message of the same text that really was another device's is told once that is known.
func TestClientCopyBeforeAck(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "before"))
	a := open(t, s, "alice", func(o *Options) { o.AckTimeout = 5 * time.Millisecond })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	a.send(bob, "twin")
	s.WaitFrames(pb.CmdMsgData, 1)
	other := s.Store(alice, bob, body(t, "twin"))
	s.Push(alice, other)
	s.WaitFrames(pb.CmdMsgDataAck, 1)
	equal(t, "before the ack", len(all[Received](a)), 0)
	s.Filter(nil)
	equal(t, "own", waitFor[Acked](a, 1)[0].MsgID, 3)
	equal(t, "the other's", ids(waitFor[Received](a, 1)), []uint32{2})
}

func TestClientOtherDevice(t *testing.T) {
	s := newServer(t)
	a1, a2 := open(t, s, "alice", nil), open(t, s, "alice", func(o *Options) { o.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID })
	a1.send(bob, "from one")
	got := waitFor[Received](a2, 1)
	if got[0].Peer.ID != bob || got[0].Message.From != alice {
		t.Errorf("other device got %+v", got[0])
	}
	s.PushFrame(alice, pb.IMMsgDataReadNotify_builder{
		UserId: new(alice), SessionId: new(bob), MsgId: new(uint32(1)), SessionType: pb.SessionType_SESSION_TYPE_SINGLE.Enum(),
	}.Build())
	if r := waitFor[ReadElsewhere](a1, 1)[0]; r.Peer.ID != bob || r.MsgID != 1 {
		t.Errorf("read elsewhere %+v", r)
	}
}

func TestClientKicked(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	s.Kick(alice, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	<-a.Done()
	if k := all[Kicked](a); len(k) != 1 || k[0].Reason != pb.KickReasonType_KICK_REASON_DUPLICATE_USER {
		t.Errorf("kicked %+v", k)
	}
	equal(t, "why it ended", im.KindOf(a.Err()), im.Denied)
	equal(t, "logins", len(s.Frames(pb.CmdLoginReq)), 1)
	equal(t, "disconnects", len(all[Disconnected](a)), 0)
	if err := a.Flush(t.Context()); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
}

func TestClientRefused(t *testing.T) {
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

// A frame that does not decode is dropped; three in a row, or bytes that are no frame, cost the connection, and nothing else.
func TestClientGarbage(t *testing.T) {
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

func TestClientSendRefuses(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.MaxPending = 2 })
	s.Filter(func(f clienttest.Frame) bool { return f.Command != pb.CmdMsgData })
	_, err := a.Send(Peer{ID: bob}, "")
	equal(t, "empty", im.KindOf(err), im.Invalid)
	_, err = a.Send(Peer{ID: bob}, string(make([]byte, im.MaxText+1)))
	equal(t, "long", im.KindOf(err), im.Invalid)
	_, err = a.Send(Peer{ID: alice}, "me")
	equal(t, "to oneself", im.KindOf(err), im.Invalid)
	a.send(bob, "1")
	a.send(bob, "2")
	_, err = a.Send(Peer{ID: bob}, "3")
	equal(t, "full", im.KindOf(err), im.Busy)
	equal(t, "pending", a.Pending(), 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	equal(t, "flush", im.KindOf(a.Flush(ctx)), im.Unavailable)
}

// Reading while there is no connection is told with the next one.
func TestClientReadLater(t *testing.T) {
	s := newServer(t)
	s.Store(bob, alice, body(t, "read me"))
	a := open(t, s, "alice", nil)
	s.Crash()
	waitFor[Disconnected](a, 1)
	a.MarkRead(Peer{ID: bob}, 1)
	s.Listen()
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
}

// Two people talk while everything fails; in the end each has seen all of the other's messages, once, in order.
func TestClientChaos(t *testing.T) {
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
				t.Errorf("user %d: message %d of %d after %d", p.UserID(), got.Message.ID, got.Message.From, last)
			}
			last = got.Message.ID
		}
		equal(t, "received", len(all[Received](p)), n)
		equal(t, "acked", len(waitFor[Acked](p, n)), n)
	}
}
