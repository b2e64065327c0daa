// Package passing forwards the requests of clients that another server answers: lists,
// histories and settings. The message server only adds the user, and returns the answer
// to the client.
package passing

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/obs"
	"teamtalk/core/rate"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Peer is a server that answers.
type Peer interface {
	// Call sends req and calls done with the answer or an error. With l nil, done runs
	// where the answer arrives, otherwise on loop l.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Up reports whether a request would be sent now.
	Up() bool
}

// encodedPeer is a Peer that can leave large answers encoded: this server forwards them
// without decoding them.
type encodedPeer interface {
	// CallEncoded is Call whose answer may be a *pb.Encoded.
	CallEncoded(l *session.Loop, key uint64, seq uint16, req pb.Attachment,
		done func(pb.Message, error))
}

// Others is the other message servers.
type Others interface {
	// Forward gives m to the route server that passes it on. It reports whether it was
	// taken.
	Forward(m pb.Message) bool
}

// Reads holds read acks back.
type Reads interface {
	// FlushReads passes on the read acks of s that wait. Loop only.
	FlushReads(s *session.Client)
}

// Profiles tells clients of changes of a user.
type Profiles interface {
	SignInfoChanged(user uint32, text string)
	AvatarChanged(user uint32, url string)
}

// Options sets up a Handler. All fields but Registerer must be set.
type Options struct {
	// Hold is how long a query that only reads is held while no server answers it, counted
	// from its arrival. 0: not at all.
	Hold time.Duration
	// Client and Loop return what this package keeps for a session and for a loop.
	Client func(*session.Client) *Client
	Loop   func(*session.Loop) *Loop

	Online   *session.Registry
	Others   Others
	Reads    Reads
	Profiles Profiles
	// Slow makes the next login of the client of s wait. Loop only.
	Slow func(s *session.Client)

	// SoundTooLong is the body of the text that Android gets in place of a sound that
	// does not fit its frame. AndroidCut counts what does not fit, by outcome.
	SoundTooLong []byte
	AndroidCut   *prometheus.CounterVec
	// QueriesFailed counts queries without an answer, by kind, or as too_long,
	// hold_expired, hold_full or client_gone.
	QueriesFailed *prometheus.CounterVec

	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Handler forwards requests.
type Handler struct {
	opt        Options
	log        *slog.Logger
	db, first  Peer
	route      Peer
	p2pDropped *prometheus.CounterVec
	holding    *holding
	often      obs.Often
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) *Handler {
	h := &Handler{opt: opt, log: opt.Log, p2pDropped: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: "teamtalk_msg_p2p_dropped_total",
			Help: "P2P commands from clients not passed on, by reason."}, []string{"reason"}),
		holding: newHolding(opt.Registerer)}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(h.p2pDropped)
	}
	return h
}

// Connect sets the peers: db answers about messages, first about what a client shows
// first, route about users.
func (h *Handler) Connect(db, first, route Peer) { h.db, h.first, h.route = db, first, route }

// Client is what the package keeps for one client connection. The zero value is ready.
// Loop only.
type Client struct {
	queries int32 // waiting for their answers
	held    int32 // of these, those that no server has
	stats   int   // users asked about in them
	p2p     rate.Bucket
}

// Waiting returns the number of queries that a server is to answer. Those that are held do
// not count.
func (c *Client) Waiting() int32 { return c.queries - c.held }

const (
	// maxQueries is how many queries of one connection may wait for their answers. A
	// client that shows its first screen asks about each of its 100 latest conversations
	// at once. A client that asks more would fill the queues in which the logins of
	// others wait.
	maxQueries = 128
	// maxStats is how many users the status queries of one connection that wait for their
	// answers may ask about. A client asks about all users of the directory at once, tens
	// of thousands; each costs route_server some hundred nanoseconds.
	maxStats = 50_000
)

// Take counts a query of the client of s and reports whether it is within the bound.
// waiting is the number of queries before it. Loop only.
func (h *Handler) Take(s *session.Client) (waiting int32, ok bool) {
	c := h.opt.Client(s)
	if c.queries >= maxQueries {
		return c.queries, false
	}
	c.queries++
	return c.queries - 1, true
}

// Done ends a query that Take or Begin counted. Loop only.
func (h *Handler) Done(s *session.Client) { h.opt.Client(s).queries-- }

// Begin counts a query of the client of s, and passes on its read acks: a query for
// unread messages finds them cleared. Loop only.
func (h *Handler) Begin(s *session.Client) error {
	if waiting, ok := h.Take(s); !ok {
		h.opt.QueriesFailed.WithLabelValues("too_many").Inc()
		return im.Errorf(im.Denied, "query dropped: %d are waiting for their answers", waiting)
	}
	h.opt.Reads.FlushReads(s)
	return nil
}

// failed counts and logs a query that got no answer. The client asks again, unless the answer
// is too long: it would never have one, and is disconnected instead. Its next login waits,
// since it may ask again. Loop only.
func (h *Handler) failed(s *session.Client, seq uint16, cmd pb.Command, err error) {
	reason := im.KindOf(err).String()
	var g *givenUp
	switch {
	case errors.As(err, &g):
		reason = g.reason
	case errors.Is(err, link.ErrTooLong):
		reason = "too_long"
		h.opt.Slow(s)
		s.Close(err)
	}
	h.opt.QueriesFailed.WithLabelValues(reason).Inc()
	h.often.Warn(h.log, h.opt.Now(), "query not answered", "conn", s.ID(), "user", s.User,
		"cmd", cmd.String(), "seq", seq, "err", err)
}

// Answer sends an answer. Loop only.
func (h *Handler) Answer(s *session.Client, seq uint16, m pb.Message) {
	if err := h.reply(s, seq, m); err != nil {
		h.log.Error("answer not sent", "conn", s.ID(), "cmd", m.Command().String(), "err", err)
	}
}
