package link

import (
	"testing"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// dying is a member whose link ends after the group has chosen it, before the request is
// sent.
type dying struct{ *Pipe }

func (p *dying) Send(key uint64, seq uint16, m pb.Message) error {
	_ = p.Close()
	return p.Pipe.Send(key, seq, m)
}

func (p *dying) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	_ = p.Close()
	p.Pipe.Call(l, key, seq, req, done)
}

func (p *dying) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done Done) {
	_ = p.Close()
	p.Pipe.CallEncoded(l, key, seq, req, done)
}

func (p *dying) TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error {
	_ = p.Close()
	return p.Pipe.TryCall(key, seq, req, done)
}

func (p *dying) try(encoded bool, l *session.Loop, seq uint16, req pb.Attachment, done Done) error {
	_ = p.Close()
	return p.Pipe.try(encoded, l, seq, req, done)
}

// TestRequestGoesToTheNextMember: a member that dies between its choice and the sending
// costs no request, whatever the way in which it was sent.
func TestRequestGoesToTheNextMember(t *testing.T) {
	const key = 7
	for name, send := range map[string]func(g *Group, done Done) error{
		"Send": func(g *Group, _ Done) error { return g.Send(key, 0, statReq(1)) },
		"Call": func(g *Group, done Done) error {
			g.Call(nil, key, 0, statReq(1), done)
			return nil
		},
		"CallEncoded": func(g *Group, done Done) error {
			g.CallEncoded(nil, key, 0, statReq(1), done)
			return nil
		},
		"TryCall": func(g *Group, done Done) error { return g.TryCall(key, 0, statReq(1), done) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newTeam(t, 3)
			first := m.where(m.group(), key)
			m.peers[first] = &dying{m.peers[first].(*sometimes).Peer.(*Pipe)}
			g := m.group()
			answers := make(chan result, 1)
			err := send(g, func(rsp pb.Message, err error) { answers <- result{rsp, err} })
			if err != nil {
				t.Fatal(err)
			}
			select {
			case r := <-m.arrived:
				if r.at == first {
					t.Fatal("the dead member received the request")
				}
				if name != "Send" {
					m.answer(r, answers)
				}
			case r := <-answers:
				t.Fatalf("the call ended with %v", r.err)
			}
			g.all.pins.mustBeEmpty(t)
		})
	}
}

// TestWaitingCallGoesToTheNextMember: the member that a call was moved to dies before it
// is sent.
func TestWaitingCallGoesToTheNextMember(t *testing.T) {
	const key = 7
	m := newTeam(t, 3)
	home := m.where(m.group(), key)
	m.setUp(home, false)
	next := m.where(m.group(), key)
	m.setUp(home, true)
	m.peers[next] = &dying{m.peers[next].(*sometimes).Peer.(*Pipe)}
	g := m.group()
	answer := m.call(g, key, home)
	m.setUp(home, false)
	var waiting []chan result
	for range 3 {
		waiting = append(waiting, ask(nil, g, key, 0, statReq(1)))
	}
	answer()
	for _, w := range waiting {
		select {
		case r := <-m.arrived:
			if r.at != 3-home-next {
				t.Fatalf("member %d received a call", r.at)
			}
			m.answer(r, w)
		case r := <-w:
			t.Fatalf("a call ended with %v", r.err)
		}
	}
	g.all.pins.mustBeEmpty(t)
}
