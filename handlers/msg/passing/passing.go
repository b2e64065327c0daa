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
	// GroupMade says that a client here has made a group.
	GroupMade(group uint32)
}

// Reads holds read acks back.
type Reads interface {
	// FlushReads passes on the read acks of s that wait, and returns their number. Loop
	// only.
	FlushReads(s *session.Client) int
}

// Profiles tells clients of changes of a user.
type Profiles interface {
	SignInfoChanged(user uint32, text string)
	AvatarChanged(user uint32, url string)
}

// Options sets up a Handler. All fields but Registerer must be set.
type Options struct {
	// Hold is how long a query that only reads is held while no server answers it, counted
	// from its first attempt. 0: not at all.
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
	// QueriesFailed counts queries without an answer, by kind, or as too_many, too_large,
	// room_full, too_long, hold_expired, hold_full or client_gone.
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
	askedAgain prometheus.Counter
	changes    profileRates
	long       *longQueries
	often      obs.Often
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) *Handler {
	h := &Handler{opt: opt, log: opt.Log, p2pDropped: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: "teamtalk_msg_p2p_dropped_total",
			Help: "P2P commands from clients not passed on, by reason."}, []string{"reason"}),
		holding: newHolding(opt.Registerer), long: newLongQueries(opt),
		askedAgain: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msg_queries_repeated_total",
			Help: "Queries asked again because their client had not read the answers before."})}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(h.p2pDropped, h.askedAgain)
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
	asked   int32 // of those, the ones in flight
	held    int32 // of these, those that no server has
	stats   int32 // users asked about in them
	long    int32 // bytes of the long ones
	turns   []turn
	budget  rate.Bucket // for requests
	p2p     rate.Bucket
}

// Waiting returns the number of queries that wait for their answers, or for their turn.
// Those that are held do not count.
func (c *Client) Waiting() int32 { return c.queries - c.held }

// InFlight returns the number of those that another server has.
func (c *Client) InFlight() int32 { return c.asked - c.held }

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
