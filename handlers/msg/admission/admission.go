// Package admission lets clients in and ends their sessions.
//
// A login passes through login.go, which asks a db_proxy whether name and password are
// right, and admit.go, which takes the answer, registers the session and answers the
// client. refuse.go answers and delays refused logins, held.go keeps logins that wait,
// and pace.go bounds how many of them are checked again.
// kick.go ends sessions, fight.go slows clients that kick each other, returns.go those that
// log in again and again. credentials.go ends the sessions of users that may not log in any
// more, logout.go takes logouts. audit.go records all of it.
package admission

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/audit"
	"teamtalk/core/obs"
	"teamtalk/core/origin"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Policy says what a second login of a user does to the first.
type Policy string

// The policies.
const (
	// DeviceClass allows one PC and one mobile client. A newer login closes the older one
	// of its class.
	DeviceClass Policy = "device_class"
	// OneClient allows one connection. A newer login closes the older one.
	OneClient Policy = "one_client"
	// KeepFirst refuses a login while a connection of its class is online.
	KeepFirst Policy = "keep_first"
	// Unlimited closes nothing.
	Unlimited Policy = "unlimited"
)

// Users is the db_proxy that checks logins.
type Users interface {
	// Call sends req and calls done with the answer or an error on loop l.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m. It is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// Route answers questions about users on other message servers.
type Route interface {
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Withdrawn reports whether the servers that are connected cannot serve logins now.
	Withdrawn() bool
}

// Others is the other servers.
type Others interface {
	// HasRoute and HasLogin report whether a route server and a login server are
	// connected, or not needed.
	HasRoute() bool
	HasLogin() bool
	// Lock makes the registry of sessions and what the others are told of it change
	// together. The methods below it need it. Unlock ends that.
	Lock()
	Unlock()
	// Came and Left tell the others that a session came online or left.
	Came(s *session.Client)
	Left(s *session.Client)
	// KickElsewhere gives m to the route server that forwards to other message servers,
	// or later if none takes it now. by is the client whose login or request it is. Logins
	// that are newer than the call stay.
	KickElsewhere(m *pb.IMServerKickUser, by *session.Client)
	// GiveUp takes back the announcement of a login, see Options.Announces.
	GiveUp(user uint32, client pb.ClientType)
}

// Audience is the clients that hear of other users. Loop only.
type Audience interface {
	Join(s *session.Client)
	Leave(s *session.Client)
}

// Conversations follows the deliveries to clients.
type Conversations interface {
	// End drops the state of a client that is logged in and ends. Loop only.
	End(s *session.Client)
}

// Options sets up a Handler. All fields but Proxies, Audit and Registerer must be set.
type Options struct {
	Policy Policy
	// Proxies are networks of proxies, whose addresses are not those of clients. It may be
	// empty.
	Proxies origin.Networks
	// Announces says that a login is announced to the other message servers, through the route
	// server of this process, before the client is answered. So no message is missed that is
	// sent after the client has read its history, and of two logins one is refused or kicked.
	Announces bool
	// LoginKey returns the key of the logins with a name.
	LoginKey func(name string) uint64
	// UploadTickets says that the server answers IMUploadTicketReq.
	UploadTickets bool
	// PCTimeout and MobileTimeout close clients that sent nothing for so long.
	PCTimeout, MobileTimeout time.Duration

	// Client and Loop return what this package keeps for a session and for a loop.
	Client func(*session.Client) *Client
	Loop   func(*session.Loop) *Loop

	Online        *session.Registry
	Others        Others
	Audience      Audience
	Conversations Conversations
	// Admitted is called when a client has logged in, Denied when it is certain that it does
	// not on this connection. Loop only.
	Admitted, Denied func(*session.Client)
	// Reconsider makes a loop ask Due again. Any goroutine.
	Reconsider func()

	Audit      *audit.Log // nil: none
	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Handler handles logins and logouts.
type Handler struct {
	opt     Options
	log     *slog.Logger
	online  *session.Registry
	others  Others
	users   Users
	route   Route
	metrics metrics

	refusals    *refusals
	fights      *fights
	returns     *returns
	credentials credentials
	pace        pace

	often struct {
		login, announce, token obs.Often
		credentials            obs.Lasting // about requests that are repeated by themselves
	}
}

// New returns a handler. Connect must be called before the first client connects.
func New(opt Options) (*Handler, error) {
	switch opt.Policy {
	case DeviceClass, OneClient, KeepFirst, Unlimited:
	default:
		return nil, fmt.Errorf("msg: unknown device policy %q", opt.Policy)
	}
	return &Handler{opt: opt, log: opt.Log, online: opt.Online, others: opt.Others,
		metrics: newMetrics(opt.Registerer), refusals: newRefusals(), fights: newFights(),
		returns: newReturns()}, nil
}

// Connect sets the peers: users checks logins, route answers questions about other
// message servers.
func (h *Handler) Connect(users Users, route Route) { h.users, h.route = users, route }

// Client is what the package keeps for one client connection. The zero value is ready.
// Loop only.
type Client struct {
	login loginState
	// credential is what the login was checked against, and checked when.
	credential []byte
	checked    int64         // mono.Of
	refusedAt  int64         // mono.Of when a refusal that waits is answered; 0: there is none
	refused    pb.ResultType // the last refusal in the audit log; 0: there is none
	busy       bool          // db_proxy was too busy to check the login
	leaves     bool          // it asked for the end of its session
	denied     bool          // the answer that it may not log in waits
	counted    bool          // its login counts against the rate of its user
	slowed     bool          // its login waited for that rate
	// fileRepeats says that it recognises a notify of a file that it got before.
	fileRepeats atomic.Bool
}

// FileRepeats reports whether the client recognises a notify of a file that it has received
// before. Any goroutine.
func (c *Client) FileRepeats() bool { return c.fileRepeats.Load() }

// LoggedIn reports whether the client is logged in. Loop only.
func (c *Client) LoggedIn() bool { return c.login == loggedIn }

// Waits reports whether the client has sent a login that is not decided. Loop only.
func (c *Client) Waits() bool { return c.login == validating && !c.denied }

type loginState uint8

const (
	connected  loginState = iota
	validating            // also while the answer waits, see heldLogin
	loggedIn
	kicked // no longer served
)

// Loop is what the package keeps for one loop. The zero value is ready. Loop only.
type Loop struct{ held heldLogins }

// Closed forgets the connection of s, and tells the other servers when a user was logged
// in on it. It reports whether that was so. Loop only.
func (h *Handler) Closed(s *session.Client) (wasLoggedIn bool) {
	switch h.opt.Client(s).login {
	case loggedIn:
		h.auditEnd(s)
		h.retire(s)
		h.leave(s)
		return true
	case validating:
		h.forgetHeld(s)
	}
	return false
}

// Leave ends the session of a client because the server ends. The user is offline on it when
// Leave returns: a message that is stored from then on reaches the user's phone as a push.
// Loop only.
func (h *Handler) Leave(s *session.Client, err error) {
	h.Closed(s)
	h.opt.Client(s).login = kicked
	s.Leave(err)
}

// leave removes the session from the registry and tells the other servers.
func (h *Handler) leave(s *session.Client) {
	h.others.Lock()
	defer h.others.Unlock()
	if _, there := h.online.Remove(s); there {
		h.others.Left(s)
	}
}

// unix returns the time in the unit of the protocol.
func (h *Handler) unix() uint32 { return uint32(h.opt.Now().Unix()) }

type metrics struct {
	logins        *prometheus.CounterVec
	kicks         *prometheus.CounterVec
	loginsHeld    *prometheus.CounterVec
	loginsCut     *prometheus.CounterVec
	loginsWaiting prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help}, []string{label})
	}
	m := metrics{
		logins: vec("logins_total", "Logins, by result.", "result"),
		kicks: vec("kicks_total",
			"Clients ended because of another login, on request of their phone, or because their "+
				"user was disabled (disabled) or has another password (password).", "reason"),
		loginsHeld: vec("logins_held_total", "Logins made to wait, by reason: refused (the answer "+
			"waits), kicked (the client was kicked just before), rate (its user logs in too "+
			"often).", "reason"),
		loginsCut: vec("logins_cut_total", "Waits of logins ended early because too many waited, "+
			"by reason: address (from one address), full (on one loop).", "reason"),
		loginsWaiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "teamtalk_msg_logins_waiting", Help: "Logins that wait now."}),
	}
	if reg != nil {
		reg.MustRegister(m.logins, m.kicks, m.loginsHeld, m.loginsCut, m.loginsWaiting)
	}
	return m
}
