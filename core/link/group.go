package link

import (
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Class is a kind of traffic that has peers of its own when a group has enough of them.
type Class uint8

// The classes.
const (
	ClassLogin   Class = iota // logins, and the requests of a client's first screen
	ClassMessage              // everything else, mostly messages
)

// Server is a member of a Group, with the connections to it.
type Server struct {
	// Name identifies the server: callers with the same name for it select it for the same
	// keys, whatever else is in their lists. It is the address in the configuration.
	Name string
	// Conns are the connections, each with its own Dial.
	Conns []Peer
}

// Group is several equivalent servers: the db_proxies, or all route servers. It is itself
// a Peer whose requests may go to any of them.
type Group struct {
	name    string
	servers []server
	peers   []Peer // the connections of all servers
	of      []int  // of[i] is the index of the server of peers[i]
	log     *slog.Logger
	all     members
	// rounds is how often refused calls were given to another member, see pin.round.
	rounds atomic.Uint32
}

var _ Peer = (*Group)(nil)

// server is a server of a group: it has the connections from … to-1.
type server struct {
	hash     uint64
	from, to int
}

// NewGroup returns a group. Servers with the same name are one, with the connections of
// all of them. The group owns the connections: Close closes them. The log may be nil.
func NewGroup(name string, log *slog.Logger, servers ...Server) *Group {
	g := &Group{name: name, log: logFor(log, name)}
	conns := map[string][]Peer{}
	for _, s := range servers {
		conns[s.Name] = append(conns[s.Name], s.Conns...)
	}
	for _, s := range servers {
		if len(conns[s.Name]) == 0 {
			continue
		}
		from := len(g.peers)
		g.peers = append(g.peers, conns[s.Name]...)
		for range conns[s.Name] {
			g.of = append(g.of, len(g.servers))
		}
		g.servers = append(g.servers, server{hashName(s.Name), from, len(g.peers)})
		delete(conns, s.Name)
	}
	g.all.group = g
	return g
}

// Name returns the group's name.
func (g *Group) Name() string { return g.name }

// Peers returns the connections of all servers. The caller must not change the slice.
func (g *Group) Peers() []Peer { return g.peers }

// Up reports whether any member takes requests.
func (g *Group) Up() bool { return slices.ContainsFunc(g.peers, Peer.Up) }

// Withdrawn reports whether every member that is up has withdrawn. These get the requests
// then: they serve those for which their store suffices.
func (g *Group) Withdrawn() bool { return g.Up() && !g.isServing() }

// isServing reports whether a member is up that has not withdrawn.
func (g *Group) isServing() bool { return slices.ContainsFunc(g.peers, serves) }

func serves(p Peer) bool { return p.Up() && !p.Withdrawn() }

// Send sends m to the member that the key selects among those that are up, or if none is,
// among those that have withdrawn.
func (g *Group) Send(key uint64, seq uint16, m pb.Message) error { return g.all.send(key, seq, m) }

// Call sends the request to the member that the key selects among those that are up.
// While calls of the key are open, the next one goes to the same member. When that member
// takes no more requests, the call waits until they have ended, and then goes to another
// member. A request that a member answers with a Refusal to be served elsewhere goes to
// the other members in turn, with the requests of its key behind it.
func (g *Group) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	g.all.call(request{callPlain, l, key, seq, req, done})
}

// TryCall selects the member as Call does, see Peer. A request that waits counts as sent:
// done may receive ErrNotSent.
func (g *Group) TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error {
	return g.all.try(request{callTry, nil, key, seq, req, done})
}

// CallEncoded selects the member as Call does, see Peer.
func (g *Group) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	g.all.call(request{callEncoded, l, key, seq, req, done})
}

// Class returns the group as a Peer for one class of requests. Of each server with two or
// more connections, the first half is for logins and the rest for messages, so that a flood
// of messages does not block logins. Both classes of a key select the same server. While no
// connection of its half is up, a class uses the other half. Close of the returned Peer does
// nothing, because the group owns the connections.
func (g *Group) Class(c Class) Peer {
	v := &classPeer{Group: g}
	v.own.group, v.own.class = g, c
	v.own.half = true
	return v
}

// Close closes all connections.
func (g *Group) Close() error {
	var errs []error
	for _, p := range g.peers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// takes reports whether a connection takes requests: it is up, and its server has not
// withdrawn unless all have.
func (g *Group) takes(i int) bool {
	p := g.peers[i]
	return p.Up() && (!p.Withdrawn() || !g.isServing())
}

// round returns the round of the calls that are sent from now on.
func (g *Group) round() uint32 { return g.rounds.Load() }

// next begins a round.
func (g *Group) next() uint32 { return g.rounds.Add(1) }

func (g *Group) down() error { return im.Errorf(im.Unavailable, "no %s is up", g.name) }

// method is the method of Peer with which a request was sent.
type method uint8

const (
	callPlain method = iota
	callEncoded
	callTry
)

// request is a call on its way to a member.
type request struct {
	by   method
	loop *session.Loop
	key  uint64
	seq  uint16
	req  pb.Attachment
	done Done
}

// trier is a peer that tells at once that a request was not sent. Remote and Pipe are.
type trier interface {
	// try sends a request. An error means that it was not sent and done has not run.
	try(encoded bool, l *session.Loop, seq uint16, req pb.Attachment, done Done) error
}

// sendTo sends the request to p, with done in place of the caller's continuation. An
// error means that the request was not sent and done will not run; a peer that is no trier
// returns one for callTry only.
func (r *request) sendTo(p Peer, done Done) error {
	if t, ok := p.(trier); ok {
		return t.try(r.by == callEncoded, r.loop, r.seq, r.req, done)
	}
	switch r.by {
	case callTry:
		return p.TryCall(r.key, r.seq, r.req, done)
	case callEncoded:
		p.CallEncoded(r.loop, r.key, r.seq, r.req, done)
	default:
		p.Call(r.loop, r.key, r.seq, r.req, done)
	}
	return nil
}

// members are the connections of a group for one use, with the calls that were sent
// through them.
type members struct {
	group *Group
	half  bool  // only the half of a class is used, while any of it is up
	class Class // with half
	pins  pins
}

// own returns the range of a server's connections that belong to this use.
func (m *members) own(s server) (from, to int) {
	half := (s.to - s.from) / 2
	if !m.half || half == 0 {
		return s.from, s.to
	}
	if m.class == ClassLogin {
		return s.from, s.from + half
	}
	return s.from + half, s.to
}

func (m *members) send(key uint64, seq uint16, msg pb.Message) error {
	for moves := 0; ; moves++ {
		i := m.pick(key, 0)
		if i < 0 {
			return m.group.down()
		}
		err := m.group.peers[i].Send(key, seq, msg)
		if err == nil || !m.movesOn(i, moves) {
			return err
		}
	}
}

// movesOn reports whether what was not sent to member i goes to another one: the member
// died after it was chosen.
func (m *members) movesOn(i, moves int) bool {
	return !m.group.peers[i].Up() && moves < len(m.group.peers)
}

func (m *members) call(r request) {
	if err := m.try(r); err != nil {
		refuse(m.group.log, r.loop, r.done, err)
	}
}

// try sends a request to the member of its key, or parks it. An error means that the
// request was not sent and done has not run.
func (m *members) try(r request) error {
	g := m.group
	if len(g.peers) == 1 {
		return r.sendTo(g.peers[0], r.done)
	}
	at := m.pins.take(r.key, m, func() parked { return m.parked(r, 0, nil) })
	switch at.peer {
	case noneUp:
		return notSent(g.down())
	case tooMany:
		return notSent(im.Errorf(im.Busy,
			"%s: %d calls of one key wait for another server", g.name, maxParked))
	case isParked:
		return nil
	}
	return m.sendPinned(r, at, 0)
}

// parked returns a request that waits, for pins. tried has a bit for each server that did
// not carry it out, and cause is the answer of the last one.
func (m *members) parked(r request, tried uint64, cause error) parked {
	fail := func(err error) { answer(m.group.log, r.loop, r.done, nil, err) } // Call has returned
	return parked{tried: tried, cause: cause, refuse: fail, send: func(at place) {
		if err := m.sendPinned(r, at, tried); err != nil {
			fail(err)
		}
	}}
}

// sendPinned sends a request to the member of its place, and releases the pin when the
// call ends.
func (m *members) sendPinned(r request, at place, tried uint64) error {
	if d, ok := r.req.(*pb.MsgData); ok {
		d.Round = at.round
	}
	// again passes the request on to another member, as the caller made it.
	server := m.group.of[at.peer]
	again := func(err error) bool {
		return server < maxTried && goesElsewhere(err) &&
			m.pins.again(r.key, at, m.parked(r, tried|1<<server, err), m)
	}
	err := r.sendTo(m.group.peers[at.peer], func(rsp pb.Message, err error) {
		if again(err) {
			return
		}
		how := succeeded
		if err != nil || notStored(rsp) { // before done, which may change rsp
			how = failed
		}
		// Release after done: a parked call must not be answered before this one.
		defer m.pins.release(r.key, at, how, m)
		r.done(rsp, err)
	})
	if err == nil || again(err) {
		return nil
	}
	m.pins.release(r.key, at, failed, m)
	return err
}

// maxTried is the number of servers of a group among which a refused request is passed on.
const maxTried = 64

// notStored reports whether an answer says that a message was not stored.
func notStored(m pb.Message) bool {
	d, ok := m.(*pb.MsgData)
	return ok && d.MsgID == 0
}

// pick returns the connection for a key to a server that is not among the tried ones, -1
// when none takes requests. All callers that know a server under the same name, and reach
// the same servers, select the same one for a key.
func (m *members) pick(key, tried uint64) int {
	g := m.group
	hashOf := func(i int) uint64 { return g.servers[i].hash }
	usable := func(i int) bool { return (i >= maxTried || tried>>i&1 == 0) && g.serverTakes(i) }
	for {
		best := choose(key, len(g.servers), hashOf, usable)
		if best < 0 {
			return -1
		}
		s := g.servers[best]
		from, to := m.own(s)
		i := g.chooseConn(key, from, to)
		if i < 0 {
			i = g.chooseConn(key, s.from, s.to)
		}
		if i >= 0 || best >= maxTried {
			return i
		}
		tried |= 1 << best // its last connection failed meanwhile
	}
}

// chooseConn selects one of the connections from … to-1 for a key, -1 when none takes
// requests.
func (g *Group) chooseConn(key uint64, from, to int) int {
	i := choose(key, to-from, connHash, func(i int) bool { return g.takes(from + i) })
	if i < 0 {
		return -1
	}
	return from + i
}

// serverTakes reports whether a server takes requests on any of its connections.
func (g *Group) serverTakes(i int) bool {
	for c := g.servers[i].from; c < g.servers[i].to; c++ {
		if g.takes(c) {
			return true
		}
	}
	return false
}

func (m *members) takes(i int) bool { return m.group.takes(i) }
func (m *members) round() uint32    { return m.group.round() }
func (m *members) next() uint32     { return m.group.next() }

// classPeer is a Group for the requests of one class.
type classPeer struct {
	*Group
	own members
}

func (v *classPeer) Send(key uint64, seq uint16, m pb.Message) error {
	return v.own.send(key, seq, m)
}

func (v *classPeer) Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done Done) {
	v.own.call(request{callPlain, l, key, seq, req, done})
}

func (v *classPeer) TryCall(key uint64, seq uint16, req pb.Attachment, done Done) error {
	return v.own.try(request{callTry, nil, key, seq, req, done})
}

func (v *classPeer) CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment,
	done Done) {
	v.own.call(request{callEncoded, l, key, seq, req, done})
}

func (v *classPeer) Close() error { return nil }
