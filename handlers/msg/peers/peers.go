// Package peers is the message server's ends of the links to route servers, login servers
// and db_proxies: what it tells them of its clients, and what it forwards.
//
// Each route and login server learns of a client either from the list that it gets when
// it connects or from a single update, never from both.
package peers

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// What IMUserStatusUpdate and IMUserCntUpdate say.
const (
	online  = uint32(pb.UserStatType_USER_STATUS_ONLINE) // also: one more
	offline = uint32(pb.UserStatType_USER_STATUS_OFFLINE)
)

// Options sets up Links. All fields but Registerer must be set.
type Options struct {
	// MaxConns and HostName are announced to login servers.
	MaxConns int
	HostName string

	// Alone says that no other message server can be connected: the route server is in
	// this process and has no port.
	Alone bool
	// Listed says that login servers know this server without a link.
	Listed bool

	// Whereabouts says that a mesh takes the place of route servers. It gets the whereabouts
	// of the users of texts.
	Whereabouts bool

	Online *session.Registry
	// Acks reports whether the client of a session acknowledges deliveries. Any
	// goroutine.
	Acks func(*session.Client) bool
	// Replaces says that a login ends the user's older sessions of its device class, here
	// and on other message servers.
	Replaces bool
	// RouteChanged is called when a link to a route server or to another message server opens
	// or closes: messages and changes made on other servers may have been missed.
	RouteChanged func()
	// GroupsBegun is called with groups whose messages and changes this server has not got, and
	// gets from now on.
	GroupsBegun func(groups []uint32)
	// RouteLost is called after such a link has closed: what it carried may be lost.
	RouteLost func()
	// Owing is called when CatchUp has something to do, after a time without. Nil: the caller
	// calls CatchUp once a second in any case.
	Owing func()

	Now        func() time.Time
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Links is the links to route and login servers. Any goroutine.
type Links struct {
	opt          Options
	online       *session.Registry
	notForwarded *prometheus.CounterVec

	// Where clients reach this server; see Announce.
	ip1, ip2 string
	port     int

	owes atomic.Bool // CatchUp has something to do

	mu     sync.Mutex
	routes []*session.Link // in order of connecting; the first one forwards
	logins []*session.Link
	full   bool // login servers shall send no client
	// maxConns is Options.MaxConns, or that of SetMaxConns.
	maxConns int
	behind   map[*session.Link]struct{} // of both: those that missed an update
	// receipts are the route servers among routes that forward acks, in order of
	// connecting. hasReceipts says that there is one, from any goroutine. early are those
	// that may be one, and were not told that a client's acks changed because they had
	// not said it yet.
	receipts    []*session.Link
	repeats     []*session.Link // those of repeated messages
	hasReceipts atomic.Bool
	early       map[*session.Link]struct{}

	// since is when a route server was connected after a time without one.
	since    time.Time
	statuses statuses
	kicks    kicks
	outbox   outbox
	// resends are the route servers among routes that forward texts that are sent again to
	// message servers that recognise them.
	resends map[*session.Link]struct{}
}

// New returns Links without a link.
func New(opt Options) *Links {
	p := &Links{opt: opt, online: opt.Online, maxConns: opt.MaxConns,
		notForwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_not_forwarded_total",
			Help: "Messages for devices on other message servers that no route server took, " +
				"by command.",
		}, []string{"cmd"}),
		behind: map[*session.Link]struct{}{}, early: map[*session.Link]struct{}{},
		statuses: newStatuses(), outbox: newOutbox(), resends: map[*session.Link]struct{}{}}
	p.kicks.resent = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msg_kicks_resent_total",
		Help: "Kicks of clients on other message servers sent late or again, because the link " +
			"to the route server was lost."})
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(p.notForwarded, p.kicks.resent, p.outbox.resent,
			p.outbox.dropped, p.statuses.again)
	}
	return p
}

// Announce sets where clients reach this server: login servers hand it out. It must be
// called before the first link to a login server opens.
func (p *Links) Announce(ip1, ip2 string, port int) { p.ip1, p.ip2, p.port = ip1, ip2, port }

// Lock makes the registry of sessions and what the other servers are told of it change
// together. Its caller changes the registry, calls the methods whose names end in Locked
// or that say so, and calls Unlock.
func (p *Links) Lock() { p.mu.Lock() }

// Unlock ends what Lock began.
func (p *Links) Unlock() { p.unlock() }

// Came tells the other servers that the user of s came. With the lock held.
func (p *Links) Came(s *session.Client) { p.update(s, online) }

// Left tells the other servers that the session of a user is no longer online. With the
// lock held.
func (p *Links) Left(s *session.Client) {
	heard := p.update(s, offline)
	if !s.ClientType.IsMobile() && !p.online.HasPC(s.User) {
		p.statuses.left(s.User, s.ClientType, heard, p.opt.Now())
	}
	if p.opt.Acks(s) {
		p.tellAcks(s) // the devices of its type that stay may not acknowledge
	}
}

// GiveUp tells the mesh, which takes the place of route servers then, that a login that was
// announced to it was given up. With the lock held.
func (p *Links) GiveUp(user uint32, client pb.ClientType) {
	st := statusUpdate(user, client, offline)
	st.SetComes(true)
	for _, r := range p.routes {
		_ = r.Send(0, st) // the mesh gives the login up itself, some seconds later
	}
}

// update tells every route and login server that the user of s came or left. It reports
// whether a route server hears of it, now or when it gets the whole state. With mu held.
func (p *Links) update(s *session.Client, status uint32) (heard bool) {
	st := statusUpdate(s.User, s.ClientType, status)
	for _, r := range p.routes {
		if p.tell(r, st) {
			heard = true
		}
	}
	cnt := &pb.IMUserCntUpdate{}
	cnt.SetUserAction(status)
	cnt.SetUserId(s.User)
	for _, l := range p.logins {
		p.tell(l, cnt)
	}
	return heard
}

func statusUpdate(user uint32, client pb.ClientType, status uint32) *pb.IMUserStatusUpdate {
	st := &pb.IMUserStatusUpdate{}
	st.SetUserStatus(status)
	st.SetUserId(user)
	st.SetClientType(client)
	return st
}

// tell sends an update on a link. A link that is full misses it and gets the whole state
// later, see CatchUp. A link that is closed gets it when it opens again. tell reports
// whether the link is open. With mu held.
func (p *Links) tell(link *session.Link, m pb.Message) (open bool) {
	err := link.Send(0, m)
	if err != nil {
		p.behind[link] = struct{}{}
	}
	return err == nil || im.KindOf(err) == im.Busy
}

// Owes reports whether CatchUp has something to do, now or within a minute. Any goroutine.
func (p *Links) Owes() bool { return p.owes.Load() }

// unlock ends what a lock of mu began, and says that CatchUp has something to do.
func (p *Links) unlock() {
	owes := len(p.behind) > 0 || len(p.kicks.sent) > 0 || len(p.outbox.texts) > 0
	if !owes && len(p.routes) > 0 { // otherwise the Open of a link looks again
		owes = p.statuses.owes() || len(p.kicks.owed) > 0 || p.outbox.wanted
	}
	begins := p.owes.Swap(owes) != owes && owes
	p.mu.Unlock()
	if begins && p.opt.Owing != nil {
		p.opt.Owing()
	}
}

// CatchUp gives links that missed updates the whole state, as far as they take it now. It
// is called about once a second while Owes reports true.
func (p *Links) CatchUp() {
	p.mu.Lock()
	defer p.unlock()
	for link := range p.behind {
		var err error
		switch {
		case slices.Contains(p.routes, link):
			err = p.sendUsers(link)
		case slices.Contains(p.logins, link):
			err = link.Send(0, p.info())
		}
		if err == nil {
			delete(p.behind, link)
		}
	}
	p.tellStatuses()
	p.kickAgain()
	p.sendTexts()
}

// Forward gives m to the route server that forwards, and reports whether it took it.
// Otherwise m is counted. A text is sent when a route server is connected again, see
// outbox. Anything else is lost to devices elsewhere.
func (p *Links) Forward(m pb.Message) bool {
	if t, ok := m.(*pb.MsgData); ok {
		return p.forwardText(t)
	}
	p.mu.Lock()
	r := first(p.routes)
	p.mu.Unlock()
	return p.push(r, m)
}

// GroupMade tells the mesh, which takes the place of route servers then, that a client here has
// made a group. Route servers are not told: they know no groups.
func (p *Links) GroupMade(group uint32) {
	if !p.opt.Whereabouts || group == 0 {
		return
	}
	p.mu.Lock()
	r := first(p.routes)
	p.mu.Unlock()
	m := &pb.IMRoleSet{}
	m.SetMaster(0)
	m.SetMadeGroups([]uint32{group})
	if r != nil {
		_ = r.Send(0, m) // without it the first text goes to all message servers
	}
}

// ForwardReceipt is Forward for an ack, which only some route servers forward.
func (p *Links) ForwardReceipt(m pb.Message) bool {
	p.mu.Lock()
	r := first(p.receipts)
	p.mu.Unlock()
	return p.push(r, m)
}

// ForwardRepeat is Forward for a message that was perhaps delivered before. Route servers
// that understand it pass it only to message servers that deliver no message twice.
func (p *Links) ForwardRepeat(m pb.Message) bool {
	p.mu.Lock()
	r := first(p.repeats)
	p.mu.Unlock()
	return p.push(r, m)
}

func first(links []*session.Link) *session.Link {
	if len(links) == 0 {
		return nil
	}
	return links[0]
}

func (p *Links) push(r *session.Link, m pb.Message) bool {
	if r == nil || r.Send(0, m) != nil {
		p.notForwarded.WithLabelValues(m.Command().String()).Inc()
		return false
	}
	return true
}

// Alone reports whether there can be no other message server: nothing need be forwarded to
// one.
func (p *Links) Alone() bool { return p.opt.Alone }

// HasReceipts reports whether a route server is connected that forwards acks of other
// message servers.
func (p *Links) HasReceipts() bool { return !p.opt.Alone && p.hasReceipts.Load() }

// HasRoute reports whether a route server is connected.
func (p *Links) HasRoute() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.routes) > 0
}

// HasLogin reports whether a login server is connected, or none needs to be.
func (p *Links) HasLogin() bool {
	if p.opt.Listed {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.logins) > 0
}

// AcksChanged tells the route servers that forward acks whether a client of the user and
// type of s acknowledges deliveries.
func (p *Links) AcksChanged(s *session.Client) {
	p.mu.Lock()
	defer p.unlock()
	p.tellAcks(s)
}

// tellAcks is AcksChanged. C++ route servers are not told: they would count one more
// client. With mu held.
func (p *Links) tellAcks(s *session.Client) {
	there, acks := false, false
	for _, o := range p.online.Of(s.User) {
		if o.ClientType == s.ClientType {
			there, acks = true, acks || p.opt.Acks(o)
		}
	}
	if !there {
		return // the last one left, and the route servers know
	}
	m := statusUpdate(s.User, s.ClientType, online)
	m.SetAcks(acks)
	for _, r := range p.routes {
		if slices.Contains(p.receipts, r) {
			p.tell(r, m)
		} else {
			p.early[r] = struct{}{}
		}
	}
}
