package link

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// sometimes is a peer that is up only while up is set.
type sometimes struct {
	Peer
	up atomic.Bool
}

func (p *sometimes) Up() bool { return p.up.Load() && p.Peer.Up() }

// arrival is a message and the index of the member that received it.
type arrival struct {
	at int
	got
}

// team is the members of a group.
type team struct {
	*testing.T
	peers   []Peer
	arrived chan arrival
}

// newTeam returns n members, all of them up.
func newTeam(t *testing.T, n int) *team {
	m := &team{T: t, arrived: make(chan arrival, 10)}
	for i := range n {
		h := newRecorder()
		h.message = func(s *session.Link, seq uint16, msg pb.Message) {
			m.arrived <- arrival{i, got{s, seq, msg}}
		}
		p := &sometimes{Peer: local(t, LocalOptions{Callee: h})}
		p.up.Store(true)
		m.peers = append(m.peers, p)
	}
	return m
}

// groupOf returns a group of servers a, b, c … with one connection each.
func groupOf(peers ...Peer) *Group {
	var servers []Server
	for i, p := range peers {
		servers = append(servers, Server{Name: string(rune('a' + i)), Conns: []Peer{p}})
	}
	return NewGroup("db_proxy", nil, servers...)
}

func (m *team) group() *Group { return groupOf(m.peers...) }

// pairs returns a group whose servers have two connections each: the members 2i and 2i+1.
func (m *team) pairs() *Group {
	var servers []Server
	for i, p := range m.peers {
		servers = append(servers, Server{Name: string(rune('a' + i/2)), Conns: []Peer{p}})
	}
	return NewGroup("db_proxy", nil, servers...)
}

func (m *team) setUp(i int, up bool) { m.peers[i].(*sometimes).up.Store(up) }

// where sends a message and returns the index of the member that received it.
func (m *team) where(p Peer, key uint64) int {
	m.Helper()
	msg := text(1, "x")
	if err := p.Send(key, 0, msg); err != nil {
		m.Fatal(err)
	}
	a := <-m.arrived
	if a.m != pb.Message(msg) {
		m.Fatal("another message")
	}
	return a.at
}

// next answers the next request, which member want must receive.
func (m *team) next(want int, result chan result) {
	m.Helper()
	r := <-m.arrived
	if r.at != want {
		m.Fatalf("the call went to member %d, want %d", r.at, want)
	}
	m.answer(r, result)
}

func (m *team) answer(r arrival, result chan result) {
	m.Helper()
	if err := r.s.Send(0, statRsp(r.m)); err != nil {
		m.Fatal(err)
	}
	wantAnswer(m, <-result, 1)
}

// call starts a call, which member want must receive, and returns a function that answers
// it.
func (m *team) call(p Peer, key uint64, want int) (answer func()) {
	m.Helper()
	c := ask(nil, p, key, 0, statReq(1))
	r := <-m.arrived
	if r.at != want {
		m.Fatalf("a call of key %d went to member %d, want %d", key, r.at, want)
	}
	return func() { m.answer(r, c) }
}

// TestClassesUseTheirHalf checks that each class uses one connection of each server, and
// that both select the same server for a key.
func TestClassesUseTheirHalf(t *testing.T) {
	m := newTeam(t, 4)
	g := m.pairs()
	for name, c := range map[string]struct {
		peer Peer
		want map[int]bool
	}{
		"all":      {g, map[int]bool{0: true, 1: true, 2: true, 3: true}},
		"logins":   {g.Class(ClassLogin), map[int]bool{0: true, 2: true}},
		"messages": {g.Class(ClassMessage), map[int]bool{1: true, 3: true}},
	} {
		seen := map[int]bool{}
		for key := range uint64(100) {
			at := m.where(c.peer, key)
			if again := m.where(c.peer, key); again != at {
				t.Fatalf("%s: key %d went to members %d and %d", name, key, at, again)
			}
			if all := m.where(g, key); at/2 != all/2 {
				t.Fatalf("%s: key %d went to server %d, want %d", name, key, at/2, all/2)
			}
			if seen[at] = true; !c.want[at] {
				t.Fatalf("%s: key %d went to member %d", name, key, at)
			}
		}
		if len(seen) != len(c.want) {
			t.Errorf("%s: members %v were used, want %v", name, seen, c.want)
		}
	}
}

func TestClassUsesOtherHalfWhenItsOwnIsDown(t *testing.T) {
	m := newTeam(t, 4)
	messages := m.pairs().Class(ClassMessage)
	server := map[uint64]int{}
	for key := range uint64(100) {
		server[key] = m.where(messages, key) / 2
	}
	m.setUp(1, false)
	for key := range uint64(100) {
		if at := m.where(messages, key); at != []int{0, 3}[server[key]] {
			t.Fatalf("member 1 is down: key %d of server %d went to member %d",
				key, server[key], at)
		}
	}
	m.setUp(0, false)
	for key := range uint64(100) {
		if at := m.where(messages, key); at != 3 {
			t.Fatalf("server 0 is down: key %d went to member %d", key, at)
		}
	}
}

// ofSecond is a key for which servers a and b select b.
const ofSecond = 1

// TestSelectionIsStable: servers of all versions must select the same server for a key.
func TestSelectionIsStable(t *testing.T) {
	m := newTeam(t, 3)
	g, got := m.group(), ""
	for key := range uint64(40) {
		got += string(rune('a' + m.where(g, key)))
	}
	if want := "ababcbcacccbcbaacbbbbbacacbcabbbccacaaaa"; got != want {
		t.Errorf("keys 0 to 39 go to the servers %s, want %s", got, want)
	}
}

// TestNamesSelectTheServer checks that the order and the length of the list move only the
// keys of the servers that are in one list and not in the other.
func TestNamesSelectTheServer(t *testing.T) {
	m := newTeam(t, 3)
	server := func(i int) Server {
		return Server{Name: fmt.Sprint("10.0.0.", i, ":10600"), Conns: m.peers[i : i+1]}
	}
	all := NewGroup("db_proxy", nil, server(0), server(1), server(2))
	turned := NewGroup("db_proxy", nil, server(2), server(1), server(0))
	fewer := NewGroup("db_proxy", nil, server(2), server(1))
	const keys = 3000
	var n [3]int
	for key := range uint64(keys) {
		at := m.where(all, key)
		n[at]++
		if got := m.where(turned, key); got != at {
			t.Fatalf("key %d went to server %d, in another order to %d", key, at, got)
		}
		if got := m.where(fewer, key); at != 0 && got != at {
			t.Fatalf("key %d moved from server %d to %d when server 0 left", key, at, got)
		}
	}
	for i, n := range n {
		if n < keys/4 || n > keys/2 {
			t.Errorf("server %d has %d of %d keys", i, n, keys)
		}
	}
}

func TestGroupIsUpWhileAMemberIs(t *testing.T) {
	m := newTeam(t, 4)
	g := m.group()
	logins, messages := g.Class(ClassLogin), g.Class(ClassMessage)
	m.peers[2].Close()
	m.peers[3].Close()
	m.call(logins, 1, m.where(logins, 1))()
	if !g.Up() {
		t.Error("down with two members up")
	}
	logins.Close()
	if !g.Up() {
		t.Error("Close of a class closed the group")
	}
	g.Close()
	if g.Up() || logins.Up() {
		t.Error("up after Close")
	}
	wantKind(t, g.Send(1, 0, text(1, "x")), im.Unavailable)
	wantKind(t, (<-ask(nil, messages, 1, 0, statReq(1))).err, im.Unavailable)
}

// TestKeyStaysWithMemberOfOpenCalls checks that a member that becomes reachable takes
// over no key with open calls. Otherwise their answers could overtake each other.
func TestKeyStaysWithMemberOfOpenCalls(t *testing.T) {
	m := newTeam(t, 2)
	m.setUp(1, false)
	class := m.group().Class(ClassMessage)
	first := m.call(class, ofSecond, 0)
	m.setUp(1, true)
	second := m.call(class, ofSecond, 0)
	first()
	third := m.call(class, ofSecond, 0)
	second()
	third()
	m.call(class, ofSecond, 1)() // without open calls
	class.(*classPeer).own.pins.mustBeEmpty(t)
}

// TestCallsWaitForOpenCallsOfADrainingMember checks a member that takes no more requests
// and still has an open call: the next calls of the key wait for its end and go to
// another member.
func TestCallsWaitForOpenCallsOfADrainingMember(t *testing.T) {
	m := newTeam(t, 2)
	class := m.group().Class(ClassMessage)
	open := m.call(class, ofSecond, 1)
	m.setUp(1, false)
	var waiting []chan result
	for range 2 {
		waiting = append(waiting, ask(nil, class, ofSecond, 0, statReq(1)))
	}
	m.call(class, 9, 0)() // another key does not wait
	open()
	for _, c := range waiting {
		m.next(0, c)
	}
	class.(*classPeer).own.pins.mustBeEmpty(t)
}

// TestWaitingCallIsRefusedBehindFailedCall checks a call that waits for an open call
// which fails with its member. The sender may repeat the failed one, which the waiting
// call would overtake.
func TestWaitingCallIsRefusedBehindFailedCall(t *testing.T) {
	m := newTeam(t, 2)
	m.setUp(1, false)
	g := m.group()
	first := ask(nil, g, 7, 0, statReq(1))
	<-m.arrived
	m.setUp(0, false)
	m.setUp(1, true)
	second := make(chan error, 1)
	done := func(_ pb.Message, err error) { second <- err }
	if err := g.TryCall(7, 0, statReq(1), done); err != nil {
		t.Fatal(err)
	}
	if err := m.peers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-first; r.err == nil || errors.Is(r.err, ErrNotSent) {
		t.Errorf("the open call ended with %v", r.err)
	}
	if err := <-second; !errors.Is(err, ErrNotSent) {
		t.Errorf("the waiting call ended with %v, want ErrNotSent", err)
	}
	m.next(1, ask(nil, g, 7, 0, statReq(1)))
	g.all.pins.mustBeEmpty(t)
}

func TestTryCallFailsWithoutMembersUp(t *testing.T) {
	m := newTeam(t, 2)
	m.setUp(0, false)
	m.setUp(1, false)
	if err := m.group().TryCall(7, 0, statReq(1), nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v, want ErrNotSent", err)
	}
}

// mustBeEmpty waits for the release of the last calls, which follows their answers.
func (p *pins) mustBeEmpty(t *testing.T) {
	t.Helper()
	for i := range p.shards {
		s := &p.shards[i]
		for {
			s.mu.Lock()
			n := len(s.keys)
			s.mu.Unlock()
			if n == 0 {
				break
			}
			runtime.Gosched()
		}
	}
}

func TestGroupOfOneServesAllClasses(t *testing.T) {
	h := newRecorder()
	g := groupOf(local(t, LocalOptions{Callee: h}))
	for _, c := range []Class{ClassLogin, ClassMessage} {
		if err := g.Class(c).Send(1, 0, text(1, "x")); err != nil {
			t.Error(err)
		}
		<-h.msgs
	}
}
