//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// talker is a user that writes to another one all the time, and connects again after each
// interruption.
type talker struct {
	*client.Client
	t     testing.TB
	name  string
	other *talker
	quit  chan struct{}
	wrote chan struct{} // closed when the writing ends

	mu       sync.Mutex
	written  int               // texts
	texts    map[uint64]string // sent, by the client's number
	acked    map[string]uint32 // message ids by text
	got      []im.Message
	connects int
	lost     int      // connections that ended
	bad      []string // events that must not happen
	// lostOwn is the id of this user when a copy of the store takes its place. A text that the copy
	// does not have gets another id, and the client then shows the message with the lost id, as if
	// another device had sent it.
	lostOwn uint32
}

// where tells a talker how to find its message server: from the login server, or at an
// address. tls is nil for plain TCP.
type where struct {
	login, addr string
	tls         *tls.Config
}

// newTalker logs in.
func newTalker(t testing.TB, name string, at where) *talker {
	t.Helper()
	k := &talker{t: t, name: name, texts: map[uint64]string{}, acked: map[string]uint32{}}
	var err error
	k.Client, err = client.Open(bounded(t), client.Options{
		Credentials: tcp.Credentials{User: name, Password: "pw"},
		Server:      at.login, MsgServer: at.addr, TLS: at.tls, OnEvent: k.event,
		AckTimeout: time.Second, SyncTimeout: 2 * time.Second,
		BackoffMin: 50 * time.Millisecond, BackoffMax: 500 * time.Millisecond,
		SendRate: 200,
		// Hundreds of messages wait after a start that takes two seconds.
		CatchUp: 100_000,
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// event records an event of the client.
func (k *talker) event(e client.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		k.connects++
	case client.Disconnected:
		k.lost++
	case client.Acked:
		text := k.texts[e.ID]
		if id, again := k.acked[text]; again {
			k.bad = append(k.bad, fmt.Sprintf("%q acked twice, ids %d and %d", text, id, e.MsgID))
		}
		k.acked[text] = e.MsgID
	case client.Received:
		if k.lostOwn != 0 && e.Message.From == k.lostOwn {
			k.t.Logf("%s: message %d was an own one, and is lost", k.name, e.Message.ID)
			break
		}
		if n := len(k.got); n > 0 && k.got[n-1].ID >= e.Message.ID {
			k.bad = append(k.bad, fmt.Sprintf("message %d of user %d shown after %d",
				e.Message.ID, e.Message.From, k.got[n-1].ID))
		}
		k.got = append(k.got, e.Message)
	case client.SendFailed, client.Kicked, client.Refused, client.Skipped:
		k.bad = append(k.bad, fmt.Sprintf("%T %+v", e, e))
	}
}

// talk lets two talkers write to each other until hush.
func talk(a, b *talker) {
	a.other, b.other = b, a
	for _, k := range []*talker{a, b} {
		k.quit, k.wrote = make(chan struct{}), make(chan struct{})
		go k.write()
	}
}

// maxWaiting is the largest number of unacked messages of a talker. More would only make
// the test longer.
const maxWaiting = 10

// writeEvery is the pause of a talker between two texts. With the race detector the servers
// use two milliseconds of processor time or more for each, and each test is about what becomes
// of texts, not about their number: see burst for texts in flight.
const writeEvery = 20 * time.Millisecond

// write sends different texts until quit is closed.
func (k *talker) write() {
	defer close(k.wrote)
	pace := time.NewTicker(writeEvery)
	defer pace.Stop()
	for {
		select {
		case <-k.quit:
			return
		case <-pace.C:
			k.say()
		}
	}
}

// say sends the next text, and reports true, unless too many are unacked.
func (k *talker) say() bool {
	k.mu.Lock() // event must not see the ack before the text is recorded
	defer k.mu.Unlock()
	if k.Pending() >= maxWaiting {
		return false
	}
	k.written++
	text := fmt.Sprintf("%s %d", k.name, k.written)
	id, err := k.Send(client.Peer{ID: k.other.UserID()}, text)
	if err != nil {
		k.bad = append(k.bad, fmt.Sprintf("send: %v", err))
	}
	k.texts[id] = text
	return true
}

// burst makes both send texts until as many as possible are unacked. A server that ends next has
// texts in flight.
func burst(a, b *talker) {
	for range maxWaiting {
		a.say()
		b.say()
	}
}

// progress returns the number of texts that were acked, and of messages received.
func (k *talker) progress() (acked, got int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.acked), len(k.got)
}

// awaitTalk waits until both have n more acks and n more messages. Some of them may be in
// flight when it starts: to be sure of new ones, n is more than twice maxWaiting.
func awaitTalk(t testing.TB, a, b *talker, n int) {
	t.Helper()
	for _, k := range []*talker{a, b} {
		acked0, got0 := k.progress()
		until(t, fmt.Sprintf("%s to have %d more acks and messages", k.name, n), func() bool {
			acked, got := k.progress()
			if k.broken() {
				return true
			}
			return acked >= acked0+n && got >= got0+n
		})
	}
}

// broken reports whether the talker recorded a bad event. check reports the event.
func (k *talker) broken() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.bad) > 0
}

// online waits until both are connected.
func online(t testing.TB, talkers ...*talker) {
	t.Helper()
	for _, k := range talkers {
		until(t, k.name+" to be connected", func() bool { return k.Online() || k.Err() != nil })
	}
}

// hush ends the writing, and waits until all texts are acked and received.
func hush(t testing.TB, a, b *talker) {
	t.Helper()
	for _, k := range []*talker{a, b} {
		close(k.quit)
		<-k.wrote
	}
	for _, k := range []*talker{a, b} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := k.Flush(ctx); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		cancel()
	}
	for _, k := range []*talker{a, b} {
		complete := func() bool {
			_, got := k.progress()
			sent, _ := k.other.progress()
			return got >= sent || k.broken()
		}
		if !eventually(complete) {
			k.tellMissing()
		}
	}
}

// tellMissing fails the test with the ids of the messages that were not received.
func (k *talker) tellMissing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen, last := map[uint32]bool{}, uint32(0)
	for _, m := range k.got {
		seen[m.ID], last = true, m.ID
	}
	var missing []uint32
	for _, id := range k.other.acked {
		if !seen[id] {
			missing = append(missing, id)
		}
	}
	slices.Sort(missing)
	k.t.Errorf("%s has not received %v; the last it received is %d; %d connections, client %+v",
		k.name, missing, last, k.connects, k.Stats())
}

// check compares the events of two talkers, after hush, with the store: it has each
// message once, under one id and in one order, and the unread counts are right. With gaps
// an id may be unused: a process died after it drew the id and before it committed the
// message.
func check(t testing.TB, a, b *talker, gaps bool) {
	t.Helper()
	for _, k := range []*talker{a, b} {
		k.mu.Lock()
		for _, bad := range k.bad {
			t.Errorf("%s: %s", k.name, bad)
		}
		k.mu.Unlock()
	}
	stored := history(t, a.Client, b.UserID())
	if other := history(t, b.Client, a.UserID()); !slices.EqualFunc(stored, other, sameMessage) {
		t.Errorf("%s has %d messages in the history, %s %d, and they differ", a.name, len(stored),
			b.name, len(other))
	}
	byText := map[string]im.Message{}
	last := uint32(0)
	for i, m := range stored {
		text, err := a.Text(m)
		if err != nil {
			t.Fatal(err)
		}
		if twice, there := byText[text]; there {
			t.Errorf("%q is stored twice, ids %d and %d", text, twice.ID, m.ID)
		}
		byText[text] = m
		if m.ID <= last || (!gaps && m.ID != uint32(i+1)) {
			t.Errorf("message %d of the conversation has id %d, the one before %d", i+1, m.ID, last)
		}
		last = m.ID
	}
	for _, k := range []*talker{a, b} {
		k.compare(byText)
		k.other.checkUnread(k, last)
	}
	if n := len(a.texts) + len(b.texts); n != len(stored) {
		t.Errorf("%d messages were sent, %d are stored", n, len(stored))
	}
}

// sameMessage reports whether two messages have the same id, sender, time and text.
func sameMessage(a, b im.Message) bool {
	return a.ID == b.ID && a.From == b.From && a.Created == b.Created &&
		string(a.Data) == string(b.Data)
}

// compare looks up in the store every message that the talker received, or whose ack it
// received.
func (k *talker) compare(stored map[string]im.Message) {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for text, id := range k.acked {
		if m, ok := stored[text]; !ok || m.ID != id || m.From != k.UserID() {
			k.t.Errorf("%s: %q was acked as %d; stored: %t, as %d of user %d", k.name, text, id, ok,
				m.ID, m.From)
		}
	}
	seen := map[string]bool{}
	for _, m := range k.got {
		text, err := k.Text(m)
		if err != nil {
			k.t.Fatal(err)
		}
		if s, ok := stored[text]; !ok || s.ID != m.ID || s.From != k.other.UserID() || seen[text] {
			k.t.Errorf("%s: received %q as %d; stored: %t, as %d of user %d; seen before: %t",
				k.name, text, m.ID, ok, s.ID, s.From, seen[text])
		}
		seen[text] = true
	}
	if len(seen) != len(k.other.acked) {
		k.t.Errorf("%s received %d messages of %d", k.name, len(seen), len(k.other.acked))
	}
}

// checkUnread checks the unread count of the messages of from, and clears it.
func (k *talker) checkUnread(from *talker, last uint32) {
	k.t.Helper()
	unread, err := client.Unread(bounded(k.t), k.Client)
	if err != nil {
		k.t.Fatal(err)
	}
	want := uint32(len(from.acked))
	if want == 0 && len(unread) == 0 {
		return
	}
	if len(unread) != 1 || unread[0].Peer != from.UserID() || unread[0].Count != want ||
		unread[0].Latest.ID != last {
		k.t.Errorf("%s: unread %+v, want %d of user %d, the last one %d", k.name, unread, want,
			from.UserID(), last)
	}
	k.MarkRead(client.Peer{ID: from.UserID()}, last)
	until(k.t, "unread messages to be none", func() bool {
		unread, err = client.Unread(bounded(k.t), k.Client)
		return err == nil && len(unread) == 0
	})
}

// history returns all messages of a conversation with a user, oldest first.
func history(t testing.TB, c client.Caller, user uint32) []im.Message {
	t.Helper()
	var all []im.Message
	for begin := uint32(0); ; {
		page, err := client.History(bounded(t), c, client.Peer{ID: user}, begin, 100)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < 100 || page[len(page)-1].ID <= 1 {
			break
		}
		begin = page[len(page)-1].ID - 1
	}
	slices.Reverse(all)
	return all
}

// conn connects and logs in as a user, for requests.
func conn(t testing.TB, addr, name string, kind pb.ClientType) *tcp.Conn {
	t.Helper()
	c, err := tcp.Dial(bounded(t), addr, tcp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Login(bounded(t), tcp.Credentials{User: name, Password: "pw",
		ClientType: kind}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c
}
