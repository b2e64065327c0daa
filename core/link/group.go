package link

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/hash"
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

// Group is several equivalent servers: the db_proxies, or all route servers. It is itself
// a Peer whose requests may go to any of them.
type Group struct {
	name   string
	log    *slog.Logger
	roster atomic.Pointer[roster]
	all    members
	// rounds is how often refused calls were given to another member, see pin.round.
	rounds atomic.Uint32

	dial   func(Address) []Peer // nil: the servers do not change
	linger time.Duration        // see Linger

	mu      sync.Mutex // held while roster changes
	closed  bool
	leaving []*server // that were removed, and are not closed
	drains  sync.WaitGroup
}

var _ Peer = (*Group)(nil)

// Name returns the group's name.
func (g *Group) Name() string { return g.name }

// Peers returns the connections of all servers.
func (g *Group) Peers() (list []Peer) {
	for _, m := range g.roster.Load().members {
		list = append(list, m.Peer)
	}
	return list
}

// Up reports whether any member takes requests.
func (g *Group) Up() bool {
	return slices.ContainsFunc(g.roster.Load().members, (*member).Up)
}

// Withdrawn reports whether every member that is up has withdrawn. These get the requests
// then: they serve those for which their store suffices.
func (g *Group) Withdrawn() bool { return g.Up() && !g.isServing() }

// isServing reports whether a member is up that has not withdrawn.
func (g *Group) isServing() bool {
	return slices.ContainsFunc(g.roster.Load().members, (*member).serves)
}

func (m *member) serves() bool { return m.Up() && !m.Withdrawn() }

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
	return &classPeer{Group: g, own: members{group: g, half: true, class: c}}
}

// takes reports whether a connection takes requests: it is up, and its server has not
// withdrawn unless all have.
func (g *Group) takes(m *member) bool {
	return !m.server.left.Load() && m.Up() && (!m.Withdrawn() || !g.isServing())
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

// own returns the connections of a server that belong to this use.
func (m *members) own(s *server) []*member {
	half := len(s.conns) / 2
	switch {
	case !m.half || half == 0:
		return s.conns
	case m.class == ClassLogin:
		return s.conns[:half]
	}
	return s.conns[half:]
}

func (m *members) send(key uint64, seq uint16, msg pb.Message) error {
	for moves := 0; ; moves++ {
		to := m.pick(key, 0)
		if to == nil {
			return m.group.down()
		}
		err := to.Send(key, seq, msg)
		// A message goes to another member when this one died after it was chosen.
		if err == nil || to.Up() || moves >= len(m.group.roster.Load().members) {
			return err
		}
	}
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
	if list := g.roster.Load().members; len(list) == 1 && g.dial == nil {
		return r.sendTo(list[0].Peer, r.done)
	}
	at := m.pins.take(r.key, m, func() parked { return m.parked(r, 0, nil) })
	switch at.state {
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
	server := at.member.server.number
	again := func(err error) bool {
		return server < maxTried && goesElsewhere(err) &&
			m.pins.again(r.key, at, m.parked(r, tried|1<<server, err), m)
	}
	err := r.sendTo(at.member.Peer, func(rsp pb.Message, err error) {
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

// pick returns the connection for a key to a server that is not among the tried ones, nil
// when none takes requests. All callers that know a server under the same name, and reach
// the same servers, select the same one for a key.
func (m *members) pick(key, tried uint64) *member {
	g := m.group
	servers := g.roster.Load().servers
	hashOf := func(i int) uint64 { return servers[i].hash }
	usable := func(i int) bool {
		s := servers[i]
		return (s.number >= maxTried || tried>>s.number&1 == 0) &&
			slices.ContainsFunc(s.conns, g.takes)
	}
	for {
		best := hash.Choose(key, len(servers), hashOf, usable)
		if best < 0 {
			return nil
		}
		s := servers[best]
		to := g.chooseConn(key, m.own(s))
		if to == nil {
			to = g.chooseConn(key, s.conns)
		}
		if to != nil || s.number >= maxTried {
			return to
		}
		tried |= 1 << s.number // its last connection failed meanwhile
	}
}

// chooseConn selects one of several connections for a key, nil when none takes requests.
func (g *Group) chooseConn(key uint64, list []*member) *member {
	i := hash.Choose(key, len(list), connHash, func(i int) bool { return g.takes(list[i]) })
	if i < 0 {
		return nil
	}
	return list[i]
}

func (m *members) takes(to *member) bool { return m.group.takes(to) }
func (m *members) round() uint32         { return m.group.round() }
func (m *members) next() uint32          { return m.group.next() }

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
