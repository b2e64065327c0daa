// Package msg is the message server: it holds the clients.
//
// Server builds the parts and connects them to the commands of clients (commands.go) and
// of other servers (links.go). Each part is a package: admission lets clients in,
// conversation takes and delivers messages, group knows the members of groups, presence
// tells clients of other users, passing forwards requests that db_proxy answers, transfer
// arranges transfers of files, and peers is the links to the other servers. PATHS.md
// shows the way of a text and of a login through them.
//
// A client's session is touched on its loop only.
package msg

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/pusher"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/admission"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/handlers/msg/fanout"
	"teamtalk/handlers/msg/group"
	"teamtalk/handlers/msg/missing"
	"teamtalk/handlers/msg/passing"
	"teamtalk/handlers/msg/peers"
	"teamtalk/handlers/msg/presence"
	"teamtalk/handlers/msg/transfer"
	"teamtalk/proto/pb"
)

// Peer is another server that is asked. link.Peer and link.Group implement it.
type Peer interface {
	// Call sends req and calls done with the answer or an error: on loop l, or if l is
	// nil wherever the answer arrives, in the order of the answers of one key. In the
	// second case done must not wait. Requests of one key keep their order.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
	// Send sends m. It is not answered.
	Send(key uint64, seq uint16, m pb.Message) error
	// Up reports whether a request would be sent now.
	Up() bool
}

// Route is the route servers, or the mesh in their place.
type Route interface {
	Peer
	// Withdrawn reports whether the servers that are up asked for no requests for now.
	Withdrawn() bool
}

// DB is a db_proxy that stores messages.
type DB interface {
	Peer
	// Withdrawn reports whether every db_proxy that is up has withdrawn.
	Withdrawn() bool
	// TryCall is Call without a loop, but returns an error when req was not sent.
	TryCall(key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error)) error
}

// Server is the message server, and the session.ClientHandler of its clients.
type Server struct {
	*router.Router[*session.Client]
	opt    Options
	log    *slog.Logger
	online *session.Registry

	// The peers; see Connect.
	db             DB
	dbFirst, route Peer
	connected      chan struct{} // closed when the peers are set, by setConnected
	setConnected   func()        // once

	admission    *admission.Handler
	conversation *conversation.Handler
	groups       *group.Groups
	missing      *missing.Finder
	marks        missing.Marks
	passing      *passing.Handler
	peers        *peers.Links
	presence     *presence.Handler
	pushes       *pusher.Pusher
	transfer     *transfer.Handler
	floods       *floods
	early        *prometheus.CounterVec
	draining     atomic.Bool

	mu    sync.Mutex
	loops []*session.Loop
}

// New returns a server. Connect sets its peers.
func New(opt Options) (*Server, error) {
	opt.defaults()
	texts, err := im.NewTextCipher(opt.TextKey)
	if err != nil {
		return nil, fmt.Errorf("msg: %w", err)
	}
	h := &Server{
		Router: router.New[*session.Client](router.Options{
			Role: "msg", Log: opt.Log, Registerer: opt.Registerer, MaxBody: maxBody}),
		floods: newFloods(opt.Registerer), early: newEarlyMetric(opt.Registerer),
		opt: opt, log: opt.Log.With("role", "msg"), online: session.NewRegistry(),
		connected: make(chan struct{}),
	}
	h.missing = missing.New(opt.Registerer)
	h.setConnected = sync.OnceFunc(func() { close(h.connected) })
	h.pushes = pusher.New(pusher.Options{Role: "msg", HasPC: h.online.HasPC, Text: opt.PushText,
		Cipher: texts, Now: opt.Now, Log: opt.Log, Registerer: opt.Registerer})
	h.peers = peers.New(peers.Options{MaxConns: opt.MaxConns, HostName: opt.HostName,
		Alone: opt.Alone, Listed: opt.Listed, Whereabouts: opt.Announces, Online: h.online,
		Acks:         acks,
		RouteChanged: func() { h.groups.Forget() },
		GroupsBegun:  func(groups []uint32) { h.groups.Begin(groups) },
		RouteLost:    func() { h.conversation.Receipts.RouteLost() },
		Owing:        h.reconsider,
		Replaces:     opt.Policy == DeviceClass || opt.Policy == OneClient,
		Now:          opt.Now, Registerer: opt.Registerer})
	soundTooLong := texts.Encrypt(fanout.SoundTooLong)
	if err := h.build(soundTooLong, newMetrics(opt.Registerer, h.online)); err != nil {
		return nil, err
	}
	h.commands()
	h.OnRefused(h.refused)
	return h, nil
}

// build makes the parts, those first that others need.
func (h *Server) build(soundTooLong []byte, m metrics) (err error) {
	opt := &h.opt
	if h.presence, err = presence.New(presence.Options{Mode: opt.Presence,
		Window: opt.PresenceWindow, Client: presenceOf, Loop: presenceLoop, Loops: h.allLoops,
		Online: h.online, Others: h.peers, QueriesFailed: m.queriesFailed, Now: opt.Now,
		AfterFunc: opt.AfterFunc, Log: h.log, Registerer: opt.Registerer}); err != nil {
		return err
	}
	h.passing = passing.New(passing.Options{Hold: opt.Hold, Client: passingOf,
		Loop: passingLoop, Online: h.online, Others: h.peers,
		Reads: reads{h}, Profiles: h.presence, SoundTooLong: soundTooLong,
		Slow:       func(s *session.Client) { h.admission.Slow(s) },
		AndroidCut: m.androidCut, QueriesFailed: m.queriesFailed,
		Now: opt.Now, Log: h.log, Registerer: opt.Registerer})
	out := fanout.New(fanout.Options{SoundTooLong: soundTooLong,
		AndroidCut: m.androidCut, Now: opt.Now, Log: h.log, Registerer: opt.Registerer})
	h.groups = group.New(group.Options{Tag: conversation.TagGroup, Online: h.online,
		Fanout: out, Pushes: h.pushes, Others: h.peers, Queries: h.passing,
		Missing: h.missing, Since: h.since, Writes: h.writes,
		QueriesFailed: m.queriesFailed, Now: opt.Now, AfterFunc: opt.AfterFunc, Log: h.log,
		Registerer: opt.Registerer})
	if h.conversation, err = conversation.New(conversation.Options{Ack: opt.Ack,
		AckWait: opt.AckWait, RedeliverAfter: opt.RedeliverAfter, ResendWindow: opt.ResendWindow,
		Hold: opt.Hold, Rate: opt.Rate, RateBurst: opt.RateBurst, RequireCipher: opt.RequireCipher,
		Whereabouts: opt.Whereabouts, Client: conversationOf,
		Loop: conversationLoop, Loops: h.allLoops, Online: h.online, Fanout: out,
		Others: h.peers, Groups: h.groups, Pushes: h.pushes,
		Contacts: h.presence, Missing: h.missing, NoEffect: h.noEffect, Since: h.since,
		Trace: opt.Trace,
		Now:   opt.Now, AfterFunc: opt.AfterFunc, Log: h.log,
		Registerer: opt.Registerer}); err != nil {
		return err
	}
	h.transfer = transfer.New(transfer.Options{Client: transferOf, Online: h.online,
		Repeats: func(s *session.Client) bool { return admissionOf(s).FileRepeats() },
		Queries: h.passing, Others: h.peers, Now: opt.Now, Log: h.log, LinkLog: opt.Log,
		Registerer: opt.Registerer})
	h.admission, err = admission.New(admission.Options{Policy: opt.Policy,
		Announces: opt.Announces, Proxies: opt.Proxies,
		PCTimeout: opt.PCTimeout, MobileTimeout: opt.MobileTimeout,
		LoginKey: opt.LoginKey, UploadTickets: len(opt.TicketKey) > 0,
		Client: admissionOf, Loop: admissionLoop, Online: h.online, Others: h.peers,
		Audience: h.presence, Conversations: h.conversation, Admitted: h.admitted,
		Denied: h.dropEarly, Reconsider: h.reconsider, Now: opt.Now, Audit: opt.Audit, Log: h.log,
		Registerer: opt.Registerer})
	return err
}

// since returns a session id: those connected for longer than age have lower ones.
func (h *Server) since(age time.Duration) uint64 { return h.marks.Since(h.opt.Now(), age) }

// writes reports whether db_proxy may have a message of s that it has not answered. Any
// goroutine.
func (h *Server) writes(s *session.Client) bool { return conversationOf(s).Writes(h.opt.Now()) }

// reads is the conversation part as the passing part sees it. It is made later.
type reads struct{ h *Server }

// FlushReads passes on the read acks of s that wait. Loop only.
func (r reads) FlushReads(s *session.Client) int { return r.h.conversation.Reads.FlushReads(s) }

// Connect sets the peers. It must be called before the first client connects. Frames of
// route servers wait for it. db stores and returns messages. dbFirst checks logins and
// returns what a client shows first. They may be the same. route answers queries about
// users elsewhere.
func (h *Server) Connect(db DB, dbFirst Peer, route Route) {
	h.db, h.dbFirst, h.route = db, dbFirst, route
	h.admission.Connect(dbFirst, route)
	h.conversation.Connect(db, dbFirst, route)
	h.groups.Connect(db)
	h.missing.Connect(db, h.conversation.Found)
	h.passing.Connect(db, dbFirst, route)
	h.presence.Connect(dbFirst)
	h.transfer.Connect(dbFirst, route)
	h.setConnected()
}

// Announce sets where clients reach this server: login servers hand it out. It must be
// called before the first link to a login server opens.
func (h *Server) Announce(ip1, ip2 string, port int) { h.peers.Announce(ip1, ip2, port) }

// OpenLoop prepares a loop.
func (h *Server) OpenLoop(l *session.Loop) {
	l.Data = &loopState{}
	h.mu.Lock()
	h.loops = append(h.loops, l)
	h.mu.Unlock()
}

// allLoops returns the loops that have had a client. The slice must not be changed.
func (h *Server) allLoops() []*session.Loop {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.loops
}

// reconsider makes a loop ask Due again. Any goroutine.
func (h *Server) reconsider() {
	if loops := h.allLoops(); len(loops) > 0 {
		loops[0].Reconsider()
	}
}

// Tick lets each part look at what waits on the loop.
func (h *Server) Tick(l *session.Loop, now time.Time) {
	h.conversation.Tick(l, now)
	h.passing.Tick(l, now)
	h.admission.Tick(l, now)
	if st, second := stateOf(l), session.WholeSecond(l.Millis()); second > st.checked {
		st.checked = second
		h.marks.Note(now)
		h.conversation.Receipts.Overdue(l)
		h.peers.CatchUp()
		h.presence.AskContacts(l)
	}
}

// Due returns when Tick has something to do, see session.LoopHandler.
func (h *Server) Due(l *session.Loop) int64 {
	at := min(h.conversation.Due(l), h.passing.Due(l), h.admission.Due(l))
	if h.peers.Owes() || h.marks.Waits() || h.presence.Asks(l) {
		at = min(at, l.NextSecond())
	}
	return at
}

// Open accepts a new connection, unless the server drains.
func (h *Server) Open(s *session.Client) error {
	if h.draining.Load() {
		return session.ErrShutdown
	}
	s.Data = &client{}
	h.marks.Opened()
	s.SetDeadline(h.opt.LoginDeadline)
	return nil
}

// Sent follows a delivery that was sent to the client of s. Loop only.
func (h *Server) Sent(s *session.Client, tag session.Tag, frame []byte) {
	delivered(s)
	h.conversation.Receipts.Sent(s, tag, frame)
}

// Close forgets a connection, and tells the other servers when a user was logged in on
// it.
func (h *Server) Close(s *session.Client, err error) {
	h.dropEarly(s)
	if h.admission.Closed(s) {
		h.log.Debug("client gone", "conn", s.ID(), "user", s.User, "err", err)
	}
}

// Online returns the number of users connected here.
func (h *Server) Online() int { return h.online.Users() }

// metrics are those that several parts count, or none.
type metrics struct{ queriesFailed, androidCut *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer, online *session.Registry) metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "teamtalk_msg_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "teamtalk_msg_" + name, Help: help},
			func() float64 { return float64(f()) })
	}
	m := metrics{
		queriesFailed: vec("queries_failed_total",
			"Queries that got no answer from another server, by kind of error.", "kind"),
		androidCut: vec("android_cut_total",
			"Answers and deliveries to Android that are too long for it, by outcome: parts, "+
				"shortened (the older end is left out), sound (a text in its place), dropped.",
			"how"),
	}
	if reg != nil {
		reg.MustRegister(m.queriesFailed, m.androidCut,
			gauge("users_online", "Users connected to this message server.", online.Users),
			gauge("clients_online", "Logged-in connections.", online.Count))
	}
	return m
}
