// Package pusher decides which phones get a push about a stored message. These are the
// phones of recipients that have a token and want pushes, at this hour and from this
// group. The push is silent when the recipient has a pc client online, and otherwise
// loud. Every server that stores messages uses it: the message server and the HTTP API.
//
// It first asks db_proxy for the tokens, so that a message to users without a phone costs
// only that question. It asks for the sender's nick, which a push displays, last, and
// caches it for a minute. No caller waits for it. When a question fails, the push is
// dropped and counted: the message remains in the history.
package pusher

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Peer is another server, or several equivalent ones. Both link.Peer and link.Group
// implement it.
type Peer interface {
	// Call sends req and runs done with the answer or an error. Here l is nil: done runs
	// on the goroutine that receives the answer and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m, which has no answer.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// Options configures a Pusher. Connect sets the peers.
type Options struct {
	// Role is the server that stores messages, "msg" or "http". It is part of the
	// metrics' names, as in teamtalk_<role>_pushes_total. Required.
	Role string
	// HasPC reports whether a pc client of user is connected to this server. Any
	// goroutine calls it. Default: false for every user.
	HasPC func(user uint32) bool
	// Text is the number of characters of a message that a push displays after the
	// sender's nick. 0: no text, only the nick.
	Text int
	// Cipher decrypts the clients' texts. Required, unless Text is 0.
	Cipher *im.TextCipher
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Log receives failures. Default: discarded.
	Log *slog.Logger
	// Registerer receives the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Pusher sends pushes to push servers. Any goroutine, after Connect.
type Pusher struct {
	opt     Options
	log     *slog.Logger
	metrics metrics
	often   struct{ push, token obs.Often }

	push, db, tokens, route Peer
	none                    func() bool // there is no push server at all

	nicks nicks

	under atomic.Int64 // pushes under way
}

// New returns a Pusher. It sends no pushes before Connect.
func New(opt Options) *Pusher {
	if opt.HasPC == nil {
		opt.HasPC = func(uint32) bool { return false }
	}
	if opt.Now == nil {
		opt.Now = mono.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Pusher{opt: opt, log: opt.Log.With("role", opt.Role), nicks: newNicks(),
		metrics: newMetrics(opt.Role, opt.Registerer)}
}

// Peers are the servers that a Pusher needs.
type Peers struct {
	// Push is push_server, which receives the pushes. While it has a method Empty that returns
	// true, no pushes are sent, and none counts as dropped.
	Push   Peer
	DB     Peer // db_proxy: returns tokens, groups and nicks
	Tokens Peer // db_proxy: receives dead tokens
	Route  Peer // route_server: returns the users with a pc client on other message servers
}

// Connect sets the peers. It is called before the first message is stored.
func (p *Pusher) Connect(peers Peers) {
	p.push, p.db, p.tokens, p.route = peers.Push, peers.DB, peers.Tokens, peers.Route
	p.none = func() bool { return false }
	if g, ok := peers.Push.(interface{ Empty() bool }); ok {
		p.none = g.Empty
	}
}

// Link returns the handler for links to push servers. It receives the results of pushes.
func (p *Pusher) Link() session.LinkHandler {
	l := &pushLink{Router: router.New[*session.Link](router.Options{
		Role: p.opt.Role + "_push", Log: p.opt.Log, Registerer: p.opt.Registerer})}
	router.Handle(l.Router, router.Public,
		func(*session.Link, uint16, *pb.IMHeartBeat) error { return nil })
	router.Handle(l.Router, router.Public, p.handlePushed)
	return l
}

type pushLink struct{ *router.Router[*session.Link] }

// Open does nothing: push servers need no introduction.
func (*pushLink) Open(*session.Link) error { return nil }

// Close does nothing.
func (*pushLink) Close(*session.Link, error) {}

// The result codes of push_server.
const (
	pushSent = 0
	pushDead = 2
)

// handlePushed counts the results of pushes and asks db_proxy to clear dead tokens.
func (p *Pusher) handlePushed(_ *session.Link, _ uint16, m *pb.IMPushToUserRsp) error {
	for _, r := range m.GetPushResultList() {
		switch {
		case r.GetResultCode() == pushSent:
			p.metrics.results.WithLabelValues("sent").Inc()
		case r.GetResultCode() == pushDead && r.HasUserId():
			p.metrics.results.WithLabelValues("dead").Inc()
			token := pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(r.GetUserId()),
				DeviceToken: proto.String(""), DeadToken: proto.String(r.GetUserToken())}.Build()
			if err := p.tokens.Send(uint64(r.GetUserId()), 0, token); err != nil {
				p.often.token.Warn(p.log, p.opt.Now(), "dead push token not cleared",
					"user", r.GetUserId(), "err", err)
			}
		default:
			p.metrics.results.WithLabelValues("failed").Inc()
		}
	}
	return nil
}

type metrics struct {
	pushes   prometheus.Counter
	nameless prometheus.Counter
	dropped  *prometheus.CounterVec
	results  *prometheus.CounterVec
}

func newMetrics(role string, reg prometheus.Registerer) metrics {
	name := func(s string) string { return fmt.Sprintf("teamtalk_%s_%s", role, s) }
	m := metrics{
		pushes: prometheus.NewCounter(prometheus.CounterOpts{Name: name("pushes_total"),
			Help: "Pushes sent to push servers, one per phone."}),
		nameless: prometheus.NewCounter(prometheus.CounterOpts{Name: name("pushes_nameless_total"),
			Help: "Messages pushed without sender and text: db_proxy did not return the nick."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("pushes_dropped_total"),
			Help: "Messages without a push because a step failed, by reason."}, []string{"reason"}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("push_results_total"),
			Help: "Results from push servers, by phone: sent, failed, dead (the token)."},
			[]string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(m.pushes, m.nameless, m.dropped, m.results)
	}
	return m
}
