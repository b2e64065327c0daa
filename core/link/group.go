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
func (g *Group) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	g.call(&g.pins, 0, len(g.peers), Peer.Call, l, key, seq, req, done)
}

// CallEncoded asks as Call does, see Peer.
func (g *Group) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	g.call(&g.pins, 0, len(g.peers), Peer.CallEncoded, l, key, seq, req, done)
}

// caller is one of the ways to ask a peer.
type caller func(p Peer, l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))

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
	i, at := pins.take(key, g.up, func() int { return g.pick(from, to, key) })
	if i < 0 {
		refuse(g.log, l, done, g.down())
		return
	}
	by(g.peers[i], l, key, seq, req, func(m pb.Message, err error) {
		defer pins.release(key, at) // after done: whoever takes the next answer must not come before it
		done(m, err)
	})
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

func (v *classPeer) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) {
	v.call(&v.pins, v.from, v.to, Peer.CallEncoded, l, key, seq, req, done)
}

func (v *classPeer) Close() error { return nil }
