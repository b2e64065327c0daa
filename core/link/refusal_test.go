package link

import (
	"errors"
	"slices"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// refusalOf returns a refusal of the request m.
func refusalOf(m pb.Message, elsewhere, inDoubt bool) *pb.IMRequestRefused {
	rsp := &pb.IMRequestRefused{}
	rsp.SetKind(pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE)
	rsp.SetReason("no store")
	rsp.SetAttachData(m.(pb.Attachment).GetAttachData())
	if elsewhere {
		rsp.SetElsewhere(true)
	}
	if inDoubt {
		rsp.SetInDoubt(true)
	}
	return rsp
}

// at returns the index of a member.
func (m *team) at(to *member) int { return slices.Index(m.peers, to.Peer) }

// sends is calls of one key with messages, by their number.
type sends struct {
	*team
	p       Peer
	results []chan result
}

// add sends the next message.
func (s *sends) add() {
	c := make(chan result, 1)
	m := text(uint32(len(s.results)), "x")
	s.results = append(s.results, c)
	err := s.p.TryCall(7, 0, m, func(m pb.Message, err error) { c <- result{m, err} })
	if err != nil {
		s.Fatal(err)
	}
}

// arrives returns the next request, which must be the message of that number at member at.
func (s *sends) arrives(number uint32, at int) arrival {
	s.Helper()
	a := <-s.arrived
	if got := a.m.(*pb.MsgData).FromUserID; got != number || a.at != at {
		s.Fatalf("message %d arrived at %d, want %d at %d", got, a.at, number, at)
	}
	return a
}

// refuse refuses a request.
func (s *sends) refuse(a arrival, elsewhere, inDoubt bool) {
	s.Helper()
	if err := a.s.Send(0, refusalOf(a.m, elsewhere, inDoubt)); err != nil {
		s.Fatal(err)
	}
}

// store answers a request as stored.
func (s *sends) store(a arrival) {
	s.Helper()
	rsp := *a.m.(*pb.MsgData)
	rsp.MsgID = 1
	if err := a.s.Send(0, &rsp); err != nil {
		s.Fatal(err)
	}
}

// wantStored checks that a message was stored.
func (s *sends) wantStored(number int) {
	s.Helper()
	if r := <-s.results[number]; r.err != nil || r.m.(*pb.MsgData).MsgID != 1 {
		s.Errorf("message %d: %v, %v", number, r.m, r.err)
	}
}

// wantRefused checks that a message was refused.
func (s *sends) wantRefused(number int) {
	s.Helper()
	var r *Refusal
	if got := <-s.results[number]; !errors.As(got.err, &r) || r.Reason != "no store" {
		s.Errorf("message %d: %v, want a refusal", number, got.err)
	}
}

// TestRefusedCallsGoElsewhere checks that requests which a member did not carry out go to
// another one, in their order, with the requests of their key behind them.
func TestRefusedCallsGoElsewhere(t *testing.T) {
	m := newTeam(t, 2)
	g := m.group()
	s := &sends{team: m, p: g}
	var first []arrival
	at := m.at(g.all.pick(7, 0))
	for n := range uint32(3) {
		s.add()
		first = append(first, s.arrives(n, at))
	}
	s.refuse(first[2], true, false) // answers need not be in order
	s.add()                         // waits: it must not overtake the refused one
	s.refuse(first[0], true, false)
	s.store(first[1])
	for _, n := range []uint32{0, 2, 3} {
		a := s.arrives(n, 1-at)
		if round := a.m.(*pb.MsgData).Round; round != 1 {
			t.Errorf("message %d has round %d, want 1", n, round)
		}
		s.store(a)
	}
	for n := range 4 {
		s.wantStored(n)
	}
	g.all.pins.mustBeEmpty(t)
	s.add()
	if a := s.arrives(4, at); a.m.(*pb.MsgData).Round != 1 {
		t.Error("a later message has another round")
	} else {
		s.store(a)
	}
	s.wantStored(4)
}

// TestRefusedByAll checks that a request which every member refuses ends with the refusal.
func TestRefusedByAll(t *testing.T) {
	m := newTeam(t, 3)
	g := m.group()
	s := &sends{team: m, p: g}
	s.add()
	seen := map[int]bool{}
	for range m.peers {
		a := <-m.arrived
		seen[a.at] = true
		s.refuse(a, true, false)
	}
	s.wantRefused(0)
	if len(seen) != 3 {
		t.Errorf("the request reached the members %v", seen)
	}
	g.all.pins.mustBeEmpty(t)
}

// TestRefusedCallStaysBehindFailedCall checks that a refused request is not given to another
// member when one of its key is in doubt: the sender may repeat that one, which the other
// would overtake.
func TestRefusedCallStaysBehindFailedCall(t *testing.T) {
	m := newTeam(t, 2)
	g := m.group()
	s := &sends{team: m, p: g}
	at := m.at(g.all.pick(7, 0))
	s.add()
	s.add()
	s.add()
	first, second, third := s.arrives(0, at), s.arrives(1, at), s.arrives(2, at)
	s.refuse(second, true, false)
	s.refuse(first, false, true)
	s.refuse(third, true, false)
	for n := range 3 {
		s.wantRefused(n)
	}
	g.all.pins.mustBeEmpty(t)
	s.add()
	s.store(s.arrives(3, at))
	s.wantStored(3)
}

// TestQueryGoesElsewhere checks a request whose answer the caller receives on a loop.
func TestQueryGoesElsewhere(t *testing.T) {
	m := newTeam(t, 2)
	g := m.group()
	c := ask(newLoop(t), g, 7, 0, statReq(1))
	a := <-m.arrived
	if err := a.s.Send(0, refusalOf(a.m, true, false)); err != nil {
		t.Fatal(err)
	}
	m.next(1-a.at, c)
}

// stop returns a message that ends or interrupts the requests to its sender.
func stop(mayReturn, returned bool) *pb.IMStopReceivePacket {
	m := &pb.IMStopReceivePacket{}
	m.SetResult(0)
	if mayReturn {
		m.SetMayReturn(true)
	}
	if returned {
		m.SetReturned(true)
	}
	return m
}

// TestWithdrawnPeer checks that a peer withdraws and returns, that a request still reaches
// it meanwhile, and that a peer which has stopped does not return.
func TestWithdrawnPeer(t *testing.T) {
	eachKind(t, func(t *testing.T, join joiner) {
		caller, callee := newRecorder(), newRecorder()
		p := join(caller, callee)
		say := func(s *session.Link, m pb.Message) {
			t.Helper()
			if err := s.Send(0, m); err != nil {
				t.Fatal(err)
			}
			if err := s.Send(0, text(1, "after it")); err != nil {
				t.Fatal(err)
			}
			<-caller.msgs
		}
		var far *session.Link
		for _, step := range []struct {
			m         *pb.IMStopReceivePacket
			withdrawn bool
		}{{stop(true, false), true}, {stop(false, true), false}, {stop(true, false), true}} {
			c := ask(nil, p, 1, 0, statReq(1))
			r := <-callee.msgs
			far = r.s
			if err := far.Send(0, statRsp(r.m)); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, <-c, 1)
			say(far, step.m)
			if !p.Up() || p.Withdrawn() != step.withdrawn {
				t.Fatalf("up %t, withdrawn %t after %v", p.Up(), p.Withdrawn(), step.m)
			}
		}
		say(far, stop(false, false))
		say(far, stop(false, true)) // it does not return
		if p.Up() || p.Withdrawn() {
			t.Fatal("requests are sent after the end of requests")
		}
		wantKind(t, p.Send(1, 0, text(1, "x")), im.Unavailable)
	})
}

// away is a member that has withdrawn while away is set.
type away struct {
	Peer
	away bool
}

func (p *away) Withdrawn() bool { return p.away }

// TestWithdrawnMembers checks that a member which has withdrawn gets no requests while
// another one is up, and that it gets them when none is: it may serve some.
func TestWithdrawnMembers(t *testing.T) {
	m := newTeam(t, 2)
	a, b := &away{Peer: m.peers[0], away: true}, &away{Peer: m.peers[1]}
	g := groupOf(a, b)
	for key := range uint64(8) {
		if at := m.where(g, key); at != 1 {
			t.Fatalf("key %d went to the member that has withdrawn", key)
		}
	}
	if !g.Up() || g.Withdrawn() {
		t.Error("a group with a member that is up is not up")
	}
	b.away = true
	if !g.Up() || !g.Withdrawn() {
		t.Error("the group has not withdrawn with all of its members")
	}
	seen := map[int]bool{}
	for key := range uint64(64) {
		seen[m.where(g, key)] = true
	}
	if len(seen) != 2 {
		t.Errorf("the members %v of two got requests", seen)
	}
}

// TestStoppedPeerIsLeft checks that a link with features introduces itself, and closes the
// connection to a peer that takes no more requests once the last call has ended.
func TestStoppedPeerIsLeft(t *testing.T) {
	r := newRig(t)
	const features = uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS)
	p := dial(t, Options{Name: "peer", Addr: r.addr(), Features: features})
	defer p.Close()
	w := r.accept()
	if _, m := w.read(); m.(*pb.IMRoleSet).GetFeatures() != features {
		t.Fatalf("introduced with %v", m)
	}
	c := ask(nil, p, 1, 0, statReq(1))
	_, req := w.read()
	w.send(0, stop(false, false))
	w.send(0, statRsp(req))
	wantAnswer(t, <-c, 1)
	w.waitClosed()
}
