// Package presence tells clients that users come and leave, and of their new signatures
// and pictures.
//
// coalesce.go collects the changes of a window and gives them to the loops. audience.go
// is the clients of a loop that hear of them, contacts.go the users that a client hears
// of when it does not hear of all. status.go takes the changes from route servers and
// from clients here.
package presence

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Mode says which clients are told when a PC client comes or leaves.
type Mode string

// The modes.
const (
	All      Mode = "all"      // every PC client
	Contacts Mode = "contacts" // PC clients of users that have a conversation with the user
	None     Mode = "none"     // none
)

// Store is the db_proxy that knows the conversations of users.
type Store interface {
	// Call sends req and calls done with the answer or an error on loop l.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Others is the other message servers.
type Others interface {
	// Forward gives m to the route server that passes it on. It reports whether it was
	// taken.
	Forward(m pb.Message) bool
}

// Options sets up a Handler. All fields but Registerer must be set.
type Options struct {
	Mode Mode
	// Window is how long changes are collected, to be told together. If it is negative,
	// each is told at once, unless clients are still being told of the one before.
	Window time.Duration

	// Client and Loop return what this package keeps for a session and for a loop.
	Client func(*session.Client) *Client
	Loop   func(*session.Loop) *Loop
	// Loops returns all loops.
	Loops func() []*session.Loop

	Online *session.Registry
	Others Others
	// QueriesFailed counts queries without an answer, by kind.
	QueriesFailed *prometheus.CounterVec

	Now func() time.Time
	// AfterFunc calls f in d, see mono.AfterFunc.
	AfterFunc  func(d time.Duration, f func()) (stop func() bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Handler tells clients of changes.
type Handler struct {
	opt     Options
	log     *slog.Logger
	store   Store
	news    collector
	metrics metrics
	often   obs.Often
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) (*Handler, error) {
	switch opt.Mode {
	case All, Contacts, None:
	default:
		return nil, fmt.Errorf("msg: unknown presence mode %q", opt.Mode)
	}
	return &Handler{opt: opt, log: opt.Log, news: collector{at: map[about]int{}},
		metrics: newMetrics(opt.Registerer)}, nil
}

// Connect sets the db_proxy that is asked for conversations.
func (h *Handler) Connect(store Store) { h.store = store }

// Client is what the package keeps for one client connection. The zero value is ready.
// Loop only.
type Client struct {
	seat     int // place in the loop's audience plus one; 0: none
	contacts contactList
}

// Loop is what the package keeps for one loop. The zero value is ready. Loop only.
type Loop struct {
	audience
	contacts contactIndex
}

// Join makes the client of s, which has logged in, hear of changes. Loop only.
func (h *Handler) Join(s *session.Client) {
	h.join(h.opt.Loop(s.Loop()), s)
	h.findContacts(s)
}

// Leave ends what Join began. Loop only.
func (h *Handler) Leave(s *session.Client) {
	h.forgetContacts(s)
	h.part(h.opt.Loop(s.Loop()), s)
}

type metrics struct{ told, merged, dropped prometheus.Counter }

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help})
	}
	m := metrics{
		told: counter("notifies_total",
			"Changes that all clients are told: status, sign info, avatar."),
		merged: counter("notifies_merged_total",
			"Those among them that replaced one that was not told yet."),
		dropped: counter("notifies_dropped_total", "Those among them not told because too many "+
			"waited. Clients see the old state until they ask."),
	}
	if reg != nil {
		reg.MustRegister(m.told, m.merged, m.dropped)
	}
	return m
}
