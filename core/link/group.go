package link

import (
	"errors"
	"log/slog"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Class is a kind of traffic that has peers of its own, as long as there are enough.
type Class uint8

// The classes.
const (
	ClassLogin   Class = iota // logins and what a client asks for on its first screen
	ClassMessage              // everything else, messages above all
)

// Group is several peers that can stand in for each other: the db_proxies, or all route servers. It is itself a Peer, whose requests may go to
// any of them. Several connections to one server become members of their own by one Dial each.
type Group struct {
	name  string
	peers []Peer
	log   *slog.Logger
	pins  pins
}

var _ Peer = (*Group)(nil)

// NewGroup makes a group. It owns the peers: Close closes them. log may be nil.
func NewGroup(name string, log *slog.Logger, peers ...Peer) *Group {
	return &Group{name: name, peers: peers, log: logFor(log, name)}
}

// Name is the group's name.
func (g *Group) Name() string { return g.name }

// Peers returns the members; the slice must not be changed.
func (g *Group) Peers() []Peer { return g.peers }

// Up reports whether any member takes requests.
func (g *Group) Up() bool {
	for _, p := range g.peers {
		if p.Up() {
			return true
		}
	}
	return false
}

// Send sends m to the member that the key leads to among those that are up.
func (g *Group) Send(key uint64, seq uint16, m pb.Message) error {
	return g.send(0, len(g.peers), key, seq, m)
}

// Call asks the member that the key leads to among those that are up. While calls of the key are open, the next one follows them.
// Once that member takes no more, it waits until they are over, and goes to another.
func (g *Group) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	g.call(&g.pins, 0, len(g.peers), Peer.Call, l, key, seq, req, done)
}

// TryCall asks as Call does, see Peer. A request that waits counts as sent: done may get ErrNotSent.
func (g *Group) TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
	return g.try(&g.pins, 0, len(g.peers), tryCall, nil, key, seq, req, done)
}

// CallEncoded asks as Call does, see Peer.
func (g *Group) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	g.call(&g.pins, 0, len(g.peers), Peer.CallEncoded, l, key, seq, req, done)
}

// caller is one of the ways to ask a peer.
type caller func(p Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))

// trier is one that says at once that a request was not sent.
type trier func(p Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error

func tryCall(p Peer, _ *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	return p.TryCall(key, seq, req, done)
}

// Class returns the group as a Peer for one class of requests. With two or more members, the first half is for logins and the rest for messages, so that
// a flood of messages does not block logins. While none of its half is up, a class uses the others. Close does nothing: it is the
// group's to close.
func (g *Group) Class(c Class) Peer {
	v := &classPeer{Group: g, to: len(g.peers)}
	if half := len(g.peers) / 2; half > 0 {
		if c == ClassLogin {
			v.to = half
		} else {
			v.from = half
		}
	}
	return v
}

// Close closes all members.
func (g *Group) Close() error {
	var errs []error
	for _, p := range g.peers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func (g *Group) send(from, to int, key uint64, seq uint16, m pb.Message) error {
	i := g.pick(from, to, key)
	if i < 0 {
		return g.down()
	}
	return g.peers[i].Send(key, seq, m)
}

func (g *Group) call(pins *pins, from, to int, by caller, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	if len(g.peers) == 1 {
		by(g.peers[0], l, key, seq, req, done)
		return
	}
	always := func(p Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
		by(p, l, key, seq, req, done)
		return nil
	}
	if err := g.try(pins, from, to, always, l, key, seq, req, done); err != nil {
		refuse(g.log, l, done, err)
	}
}

// try sends a request to the member of its key, or parks it; with an error it was not sent, and
// done is still to be run.
func (g *Group) try(pins *pins, from, to int, by trier, l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	if len(g.peers) == 1 {
		return by(g.peers[0], l, key, seq, req, done)
	}
	pick := func() int { return g.pick(from, to, key) }
	send := func(peer int, at *pin) error {
		err := by(g.peers[peer], l, key, seq, req, func(m pb.Message, err error) {
			failed := err != nil || notStored(m) // done may change m
			// After done: whoever takes the next answer must not come before it.
			defer pins.release(key, at, failed, pick)
			done(m, err)
		})
		if err != nil {
			pins.release(key, at, true, pick)
		}
		return err
	}
	give := func(err error) { answer(g.log, l, done, nil, err) } // Call has returned long ago
	peer, at := pins.take(key, g.up, pick, parked{
		send: func(peer int, at *pin) {
			if err := send(peer, at); err != nil {
				give(err)
			}
		},
		refuse: give,
	})
	switch peer {
	case noneUp:
		return notSent(g.down())
	case tooMany:
		return notSent(im.Errorf(im.Busy, "%s: %d calls of one key wait for another server", g.name, maxParked))
	case isParked:
		return nil
	}
	return send(peer, at)
}

// notStored reports whether an answer says that a message was not stored.
func notStored(m pb.Message) bool {
	d, ok := m.(*pb.MsgData)
	return ok && d.MsgID == 0
}

func (g *Group) up(i int) bool { return g.peers[i].Up() }

// pick prefers the members from … to-1 and takes any other when none of them is up; -1 when there is none.
func (g *Group) pick(from, to int, key uint64) int {
	if i := choose(saltPeers, key, to-from, func(i int) bool { return g.up(from + i) }); i >= 0 {
		return from + i
	}
	if to-from == len(g.peers) {
		return -1
	}
	return choose(saltPeers, key, len(g.peers), g.up)
}

func (g *Group) down() error { return im.Errorf(im.Unavailable, "no %s is up", g.name) }

// classPeer is a Group as one class sees it.
type classPeer struct {
	*Group
	from, to int
	pins     pins
}

func (v *classPeer) Send(key uint64, seq uint16, m pb.Message) error {
	return v.send(v.from, v.to, key, seq, m)
}

func (v *classPeer) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	v.call(&v.pins, v.from, v.to, Peer.Call, l, key, seq, req, done)
}

func (v *classPeer) TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error {
	return v.try(&v.pins, v.from, v.to, tryCall, nil, key, seq, req, done)
}

func (v *classPeer) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	v.call(&v.pins, v.from, v.to, Peer.CallEncoded, l, key, seq, req, done)
}

func (v *classPeer) Close() error { return nil }
