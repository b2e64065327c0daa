// Package msg is the message server: it holds the clients. It checks logins, takes messages, has them stored, delivers them to whoever
// is connected, and passes on what concerns clients of other message servers.
//
// Three kinds of sessions meet here: clients (Server itself is their handler), and the links to route servers, login servers and db_proxies (RouteLink,
// LoginLink, DBLink). A client's session is touched on its loop only. What must keep the order of a conversation – the delivery of stored messages – runs where
// db_proxy's answer arrives, in the order of the answers, and reaches each client through its loop's mailbox, which keeps it.
package msg

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/pusher"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// DevicePolicy says what a second login of a user does to the first.
type DevicePolicy string

// The device policies.
const (
	// DeviceClass allows one pc and one mobile; a newer login closes the older one of its class.
	DeviceClass DevicePolicy = "device_class"
	// OneClient allows one connection; a newer login closes the older one.
	OneClient DevicePolicy = "one_client"
	// KeepFirst refuses a login while a connection of its class is there.
	KeepFirst DevicePolicy = "keep_first"
	// Unlimited closes nothing.
	Unlimited DevicePolicy = "unlimited"
)

// AckPolicy says when a sender gets its ack. It is never sent before the message is stored.
type AckPolicy string

// The ack policies.
const (
	// AckDelivered waits until a device of the recipient has answered, where one is connected.
	AckDelivered AckPolicy = "delivered"
	// AckStored does not wait once the message is stored.
	AckStored AckPolicy = "stored"
)

// Presence says who is told when a pc client comes or goes.
type Presence string

// The presence modes.
const (
	PresenceAll      Presence = "all"      // every pc client
	PresenceContacts Presence = "contacts" // pc clients of those who have a conversation with the user
	PresenceNone     Presence = "none"     // nobody
)

// Peer is another server that is asked: link.Peer and link.Group are ones.
type Peer interface {
	// Call sends req and runs done with the answer or an error: on loop l, or where l is nil wherever the answer arrives, in the order of
	// the answers of one key. done then must not wait. Requests of one key keep their order.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m, which is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// DB is a db_proxy that stores messages.
type DB interface {
	Peer
	// TryCall is Call without a loop, but returns the error when req was not sent.
	TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error
}

// Options sets up a Server. Zero values mean the defaults; the peers are set with Connect.
type Options struct {
	// MaxConns is announced to login servers as the most clients held. Default 100,000.
	MaxConns int
	// HostName is announced to login servers.
	HostName string

	Policy   DevicePolicy // default DeviceClass
	Ack      AckPolicy    // default AckDelivered
	Presence Presence     // default PresenceAll

	// PresenceWindow is how long comings and goings are collected, to be told together. Default 100 ms; negative: each is told at once, unless clients are still
	// being told of the one before.
	PresenceWindow time.Duration

	// AckWait is the longest an ack waits for the recipient's devices. Default 2 s.
	AckWait time.Duration
	// RedeliverAfter is when a message that a device did not answer is sent to it again, once. Default 15 s; negative: never.
	RedeliverAfter time.Duration
	// ResendWindow is how long a repeated message is recognised by its seq on one connection. Default 60 s; negative: not at all.
	ResendWindow time.Duration
	// Rate is how many messages a second one connection may send, RateBurst how many at once; what is beyond is dropped. Default 20 and 20; a negative
	// Rate means no limit.
	Rate, RateBurst float64

	// RequireCipher drops texts that are not base64 of whole cipher blocks, see
	// im.IsCipherText. Default: texts are opaque.
	RequireCipher bool

	// PushText is how many characters of a message a push shows behind the sender's nick.
	// Default 40; negative: none, only who sent one.
	PushText int
	// TextKey is the key of the clients' texts, 32 bytes, which pushes need. Default im.DefaultTextKey.
	TextKey string

	// LoginDeadline closes connections that did not log in. Default 15 s.
	LoginDeadline time.Duration
	// PCTimeout and MobileTimeout close clients that sent nothing for so long. Default 120 s and 300 s.
	PCTimeout, MobileTimeout time.Duration

	Now        func() time.Time      // default time.Now
	Log        *slog.Logger          // default: discarded
	Registerer prometheus.Registerer // default: none
}

func (o *Options) defaults() error {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&o.PresenceWindow, 100*time.Millisecond)
	set(&o.AckWait, 2*time.Second)
	set(&o.RedeliverAfter, 15*time.Second)
	set(&o.ResendWindow, time.Minute)
	set(&o.LoginDeadline, 15*time.Second)
	set(&o.PCTimeout, 120*time.Second)
	set(&o.MobileTimeout, 300*time.Second)
	if o.MaxConns <= 0 {
		o.MaxConns = 100_000
	}
	if o.Rate == 0 {
		o.Rate = 20
	}
	if o.PushText == 0 {
		o.PushText = 40
	}
	if o.RateBurst <= 0 {
		o.RateBurst = max(o.Rate, 1)
	}
	if o.Policy == "" {
		o.Policy = DeviceClass
	}
	if o.Ack == "" {
		o.Ack = AckDelivered
	}
	if o.Presence == "" {
		o.Presence = PresenceAll
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch o.Policy {
	case DeviceClass, OneClient, KeepFirst, Unlimited:
	default:
		return fmt.Errorf("msg: unknown device policy %q", o.Policy)
	}
	switch o.Ack {
	case AckDelivered, AckStored:
	default:
		return fmt.Errorf("msg: unknown ack policy %q", o.Ack)
	}
	switch o.Presence {
	case PresenceAll, PresenceContacts, PresenceNone:
	default:
		return fmt.Errorf("msg: unknown presence mode %q", o.Presence)
	}
	return nil
}

// Server is the message server, and the session.Handler of its clients.
type Server struct {
	*router.Router
	opt     Options
	log     *slog.Logger
	metrics metrics
	online  *session.Registry
	groups  *groups

	// The peers; see Connect.
	db             DB
	dbFirst, route Peer

	pushes *pusher.Pusher
	files  fileServers
	marks  readMarks

	// soundTooLong is the body of a text; see android.go.
	soundTooLong []byte

	// Where clients reach this server; see Announce.
	ip1, ip2 string
	port     int

	// presence orders what the other servers are told of logins and logouts: each learns of a user either from the list it gets when it
	// connects or from a single update, never from both.
	presence presence
	crier    crier

	refusals *refusals
	fights   *fights

	mu    sync.Mutex
	loops []*session.Loop

	// often keeps what goes wrong for thousands at once – a db_proxy that is gone, a disk that is full – from flooding the log.
	often struct{ query, message, login, token, delivery, members, file obs.Often }

	draining atomic.Bool
	inFlight atomic.Int64 // messages given to db_proxy and not answered
}

// presence is the servers that are told who is here.
type presence struct {
	mu     sync.Mutex
	routes []*session.Session // in order of connecting; the first is the one used for forwarding
	logins []*session.Session
	behind map[*session.Session]struct{} // of both: those that missed an update
	// receipts are the route servers among routes that forward acks, in order of connecting; hasReceipts
	// says that there is one, from anywhere. early are those that may be one, and were not told that a
	// client's acks changed because they had not said it yet.
	receipts    []*session.Session
	hasReceipts atomic.Bool
	early       map[*session.Session]struct{}

	// missed are the pc clients that went while no route server was there to hear it, by user; at most as many as were here, as nobody logs in meanwhile. since is when
	// one was there again. See tellMissed.
	missed map[uint32]pb.ClientType
	since  time.Time

	notForwarded *prometheus.CounterVec // the server's
}

// New makes a server. Connect gives it its peers.
func New(opt Options) (*Server, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	texts, err := im.NewTextCipher(opt.TextKey)
	if err != nil {
		return nil, fmt.Errorf("msg: %w", err)
	}
	h := &Server{
		Router: router.New(router.Options{Role: "msg", Log: opt.Log, Registerer: opt.Registerer}),
		opt:    opt, log: opt.Log.With("role", "msg"), online: session.NewRegistry(),
	}
	h.soundTooLong = texts.Encrypt(soundTooLong)
	h.metrics = newMetrics(opt.Registerer, h.online)
	h.pushes = pusher.New(pusher.Options{Role: "msg", HasPC: h.hasPC, Text: opt.PushText, Cipher: texts, Now: opt.Now, Log: opt.Log, Registerer: opt.Registerer})
	h.crier.at, h.presence.missed = map[about]int{}, map[uint32]pb.ClientType{}
	h.presence.behind, h.presence.notForwarded = map[*session.Session]struct{}{}, h.metrics.notForwarded
	h.presence.early = map[*session.Session]struct{}{}
	h.groups = newGroups(h)
	h.refusals, h.fights = newRefusals(), newFights()
	h.clientRoutes()
	return h, nil
}

// Connect sets the peers, before the first client comes. db is asked to store and fetch messages, dbFirst for logins and what a client shows first; they
// may be the same. route answers queries about users elsewhere.
func (h *Server) Connect(db DB, dbFirst, route Peer) {
	h.db, h.dbFirst, h.route = db, dbFirst, route
}

// Announce sets where clients reach this server: what login servers hand out. Before the first link to a login server.
func (h *Server) Announce(ip1, ip2 string, port int) { h.ip1, h.ip2, h.port = ip1, ip2, port }

// clientRoutes is the table of what clients may say.
func (h *Server) clientRoutes() {
	r := h.Router
	router.Handle(r, router.Public, h.handleHeartbeat)
	router.Handle(r, router.Public, h.handleLogin)
	router.Handle(r, router.LoggedIn, h.handleLogout)
	router.Handle(r, router.LoggedIn, h.handleKickPC)
	router.Handle(r, router.LoggedIn, h.handleTime)

	router.Handle(r, router.LoggedIn, h.handleMsgData)
	router.Handle(r, router.LoggedIn, h.handleMsgDataAck)
	router.Handle(r, router.LoggedIn, h.handleReadAck)

	router.Handle(r, router.LoggedIn, h.handleGroupCreate)
	router.Handle(r, router.LoggedIn, h.handleGroupChange)
	query[pb.IMNormalGroupListReq, pb.IMNormalGroupListRsp](h, func() Peer { return h.dbFirst })
	query[pb.IMGroupInfoListReq, pb.IMGroupInfoListRsp](h, func() Peer { return h.dbFirst })
	query[pb.IMGroupShieldReq, pb.IMGroupShieldRsp](h, func() Peer { return h.dbFirst })

	query[pb.IMUnreadMsgCntReq, pb.IMUnreadMsgCntRsp](h, func() Peer { return h.dbFirst })
	query[pb.IMGetMsgListReq, pb.IMGetMsgListRsp](h, func() Peer { return h.db })
	query[pb.IMGetMsgByIdReq, pb.IMGetMsgByIdRsp](h, func() Peer { return h.db })
	query[pb.IMGetLatestMsgIdReq, pb.IMGetLatestMsgIdRsp](h, func() Peer { return h.db })
	query[pb.IMRecentContactSessionReq, pb.IMRecentContactSessionRsp](h, func() Peer { return h.dbFirst })
	directoryQuery[pb.IMAllUserReq, pb.IMAllUserRsp](h, func() Peer { return h.dbFirst })
	query[pb.IMUsersInfoReq, pb.IMUsersInfoRsp](h, func() Peer { return h.dbFirst })
	router.Handle(r, router.LoggedIn, h.handleUsersStat)
	h.settingsRoutes()
	h.fileRoutes()
}

// client is what the server knows of a client connection beyond its session. It is the session's Data from Open on. Loop only, but for
// unacked.answers.
type client struct {
	login   loginState
	queries int32 // waiting for their answers
	stats   int   // users asked about in them
	sends   resends
	bucket  bucket
	p2p     bucket
	files   bucket
	reads   bucket
	unacked unacked

	seat     int // place in the loop's audience plus one, 0: not there
	contacts contactList
}

type loginState uint8

const (
	connected  loginState = iota
	validating            // also while the answer waits, see heldLogin
	loggedIn
	kicked // no longer served
)

func clientOf(s *session.Session) *client { return s.Data.(*client) }

// loopState is what each loop keeps; it is the loop's Data.
type loopState struct {
	waits   ackWaits
	waiting []*session.Session // those with deliveries not answered yet
	start   time.Time          // see ms
	rings   ringPool
	reads   map[*session.Session][]heldRead // read acks beyond the rate
	checked time.Time
	held    heldLogins
	audience
	contacts contactIndex
}

func stateOf(l *session.Loop) *loopState { return l.Data.(*loopState) }

// OpenLoop prepares a loop.
func (h *Server) OpenLoop(l *session.Loop) {
	l.Data = &loopState{waits: newAckWaits()}
	h.mu.Lock()
	h.loops = append(h.loops, l)
	h.mu.Unlock()
}

// Tick looks at what waits for an answer.
func (h *Server) Tick(l *session.Loop, now time.Time) {
	st := stateOf(l)
	h.expireAcks(st, now)
	h.releaseHeld(&st.held, now)
	h.passReads(st, now)
	if now.Sub(st.checked) >= time.Second {
		st.checked = now
		h.overdue(st, now)
		h.catchUp()
		h.askContacts(l)
	}
}

// Open takes a new connection.
func (h *Server) Open(s *session.Session) error {
	s.Data = &client{}
	s.SetDeadline(h.opt.LoginDeadline)
	return nil
}

// Close forgets a connection, and tells the other servers when a user was logged in on it.
func (h *Server) Close(s *session.Session, err error) {
	switch clientOf(s).login {
	case loggedIn:
		h.retire(s)
		h.leave(s)
	case validating:
		h.forgetHeld(s)
		return
	default:
		return
	}
	h.log.Debug("client gone", "conn", s.ID(), "user", s.User, "err", err)
}

func (h *Server) handleHeartbeat(s *session.Session, seq uint16, m *pb.IMHeartBeat) error {
	return s.Send(seq, m)
}

func (h *Server) handleTime(s *session.Session, seq uint16, _ *pb.IMClientTimeReq) error {
	rsp := &pb.IMClientTimeRsp{}
	rsp.SetServerTime(h.unix())
	return s.Send(seq, rsp)
}

// Drain takes no more messages – they get no ack, so their senders send them again elsewhere – and waits until those on
// their way to the store are answered and those to groups delivered, or ctx ends. The connections stay.
func (h *Server) Drain(ctx context.Context) error {
	h.draining.Store(true)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		n := h.inFlight.Load() + h.groups.waiting.Load()
		if n == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("drain: %d messages not answered by db_proxy or not delivered: %w", n, ctx.Err())
		}
	}
}

// unix is the time in the unit of the protocol.
func (h *Server) unix() uint32 { return uint32(h.opt.Now().Unix()) }

// Online is the number of users connected here.
func (h *Server) Online() int { return h.online.Users() }

// warn logs at most once a second for each o; "held" says how many such lines there were in between.
func (h *Server) warn(o *obs.Often, text string, args ...any) {
	if held, ok := o.Allow(h.opt.Now()); ok {
		h.log.Warn(text, append(args, "held", held)...)
	}
}

// allLoops returns the loops that have had a client; the slice must not be changed.
func (h *Server) allLoops() []*session.Loop {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loops
}
