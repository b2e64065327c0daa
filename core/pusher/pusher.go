// Package pusher decides who is pushed to about a stored message: the recipients whose phone has a token and who want pushes, now and from that group; loud,
// or silent where the user sits at a pc. Every server that has messages stored uses it: the message server, and the HTTP API.
//
// It asks db_proxy for the tokens first, so that accounts without a phone cost that one question.
// The sender's nick, which a push names, is asked last and kept for a minute. Nothing waits for it: what cannot be decided is counted
// and left, the message is in the history.
package pusher

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Peer is another server, or several that can stand in for each other: link.Peer and link.Group are ones.
type Peer interface {
	// Call sends req and runs done with the answer or an error; l is nil here: done runs where the answer arrives and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m, which is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// Options sets up a Pusher. Zero values mean the defaults; the peers are set with Connect.
type Options struct {
	// Role is the server that stores messages, "msg" or "http": its metrics are teamtalk_<role>_pushes_total and so on. Required.
	Role string
	// HasPC reports whether a pc client of user is connected to this server; it may be called from anywhere. Default: nobody's is.
	HasPC func(user uint32) bool
	// Text is how many characters of a message a push shows behind the sender's nick. Default
	// 40; negative: none, only who sent one.
	Text int
	// Cipher opens the clients' texts. Required, unless Text is negative.
	Cipher *im.TextCipher
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets failures. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Pusher has phones pushed to. It may be used from anywhere once it is connected.
type Pusher struct {
	opt     Options
	log     *slog.Logger
	metrics metrics
	often   struct{ push, token obs.Often }

	push, db, tokens, route Peer

	nicks nicks

	under atomic.Int64 // pushes under way
}

// New makes a Pusher that pushes to nobody until it is connected.
func New(opt Options) *Pusher {
	if opt.HasPC == nil {
		opt.HasPC = func(uint32) bool { return false }
	}
	if opt.Text == 0 {
		opt.Text = 40
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Pusher{opt: opt, log: opt.Log.With("role", opt.Role), nicks: newNicks(),
		metrics: newMetrics(opt.Role, opt.Registerer)}
}

// Peers are the servers a Pusher needs.
type Peers struct {
	Push   Peer // takes the pushes
	DB     Peer // a db_proxy, asked about phones, groups and senders' nicks
	Tokens Peer // a db_proxy, told of tokens that are dead
	Route  Peer // asked who sits at a pc elsewhere
}

// Connect sets the peers, before the first message is stored.
func (p *Pusher) Connect(peers Peers) {
	p.push, p.db, p.tokens, p.route = peers.Push, peers.DB, peers.Tokens, peers.Route
}

// Link is the handler for links to push servers: it takes what they say of pushes.
func (p *Pusher) Link() session.Handler {
	l := &pushLink{Router: router.New(router.Options{Role: p.opt.Role + "_push", Log: p.opt.Log, Registerer: p.opt.Registerer})}
	router.Handle(l.Router, router.Public, func(*session.Session, uint16, *pb.IMHeartBeat) error { return nil })
	router.Handle(l.Router, router.Public, p.handlePushed)
	return l
}

type pushLink struct{ *router.Router }

// Open has nothing to say.
func (*pushLink) Open(*session.Session) error { return nil }

// Close has nothing to do.
func (*pushLink) Close(*session.Session, error) {}

// What push_server says of a token.
const (
	pushSent = 0
	pushDead = 2
)

// handlePushed counts what became of pushes, and has tokens forgotten that are dead.
func (p *Pusher) handlePushed(_ *session.Session, _ uint16, m *pb.IMPushToUserRsp) error {
	for _, r := range m.GetPushResultList() {
		switch {
		case r.GetResultCode() == pushSent:
			p.metrics.results.WithLabelValues("sent").Inc()
		case r.GetResultCode() == pushDead && r.HasUserId():
			p.metrics.results.WithLabelValues("dead").Inc()
			token := pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(r.GetUserId()), DeviceToken: proto.String(""), DeadToken: proto.String(r.GetUserToken())}.Build()
			if err := p.tokens.Send(uint64(r.GetUserId()), 0, token); err != nil {
				p.warn(&p.often.token, "dead push token not cleared", "user", r.GetUserId(), "err", err)
			}
		default:
			p.metrics.results.WithLabelValues("failed").Inc()
		}
	}
	return nil
}

// warn logs what may go wrong for thousands at once.
func (p *Pusher) warn(o *obs.Often, text string, args ...any) {
	if held, ok := o.Allow(p.opt.Now()); ok {
		p.log.Warn(text, append(args, "held", held)...)
	}
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
		pushes: prometheus.NewCounter(prometheus.CounterOpts{Name: name("pushes_total"), Help: "Pushes handed to push servers, one for each phone."}),
		nameless: prometheus.NewCounter(prometheus.CounterOpts{Name: name("pushes_nameless_total"),
			Help: "Messages pushed without sender and text: db_proxy did not give the nick."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("pushes_dropped_total"),
			Help: "Messages about which nobody was pushed to, by reason."}, []string{"reason"}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("push_results_total"),
			Help: "What push servers said of pushes: sent, failed, dead (the token is)."}, []string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(m.pushes, m.nameless, m.dropped, m.results)
	}
	return m
}
