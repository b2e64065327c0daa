// Package dbproxy decides for the db_proxy server: the only role that touches the store. It turns requests of message servers into
// calls of an im.Store, run by workers so that no loop waits, and answers when they are done.
//
// # Order
//
// Messages of one conversation are stored, and answered, in the order they came. When one cannot be
// stored for now, those that its sender pipelined behind it are not stored either: see order.go.
//
// All other requests of one user are done in order, too: who
// says that something is read and then asks what is unread gets the right count.
//
// # Failure
//
// What cannot be done is answered so that nobody takes it for done:
//
//   - A message that is not stored comes back with msg_id 0: its sender gets no ack and repeats it.
//   - A login that cannot be checked is answered with result 2 and a text if the asker knows that
//     result, and else not at all: see notValidated.
//   - A query that fails is not answered. The protocol has no "failed" for them, and an empty answer would be believed: a client would
//     show an empty history, or no unread messages. The asking server's call times out, and the client asks again.
//   - A change whose answer has a result_code – of a group, a conversation removed, a sign info – is answered with 1, like one that is not allowed.
//
// The same holds when too much is queued, and for requests that waited longer than Options.Timeout, whose caller has given up.
//
// # Memory
//
// Users and departments are kept in memory and followed by what has changed: see directory.go. Sounds of audio messages are files, not rows: the
// store knows where they are (Options.Sounds). All else is the store's to remember.
package dbproxy

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/sound"
	"teamtalk/proto/pb"
)

// Tasks runs a task on a worker, after all earlier ones of the same key, and returns at once. An error, of kind im.Busy or im.Closed, means that it
// will not run. The context ends when the program does.
type Tasks interface {
	Do(key uint64, task func(ctx context.Context)) error
}

// Messages collects messages into batches for Server.AppendBatch, those of one key in the order of their Adds, never two batches with the same
// key at once. An error, of kind im.Busy or im.Closed, means that the message was not taken.
type Messages interface {
	Add(key uint64, p *Pending) error
}

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// Store keeps everything. Required.
	Store im.Store
	// Tasks runs what is not a message. Required.
	Tasks Tasks
	// Messages collects messages. Required before the first session; as it is made of the server's own methods, SetMessages may set it later.
	Messages Messages
	// Sounds keeps the sound of audio messages, in files of up to im.MaxAudio bytes. nil: audio messages are not stored, and those that are in the store
	// are answered without their sound.
	Sounds sound.Store
	// Text encrypts what stands for a sound in lists of conversations. nil: with im.DefaultTextKey.
	Text *im.TextCipher
	// HistoryLimit is the most messages one request returns. Default 100.
	HistoryLimit int
	// Timeout is how long a request may take, waiting included; half of it is for a message's waiting, half for storing it. It must be shorter than
	// the callers' patience: a message stored after its message server gave up is not acked, not delivered, and stored once more when
	// its sender repeats it. Default 8 s.
	Timeout time.Duration
	// LockAttempts different wrong passwords within LockWindow lock a name until the oldest of
	// them is over; negative: never. Defaults 10 and 30 minutes.
	LockAttempts int
	LockWindow   time.Duration
	// LinkTimeout is how long a message server may be silent before its link is closed, LinkHeartbeat how long this side may be.
	// Defaults 30 s and 5 s.
	LinkTimeout, LinkHeartbeat time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets failures and locked names. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the db_proxy role: the session.Handler of the message servers' links.
type Server struct {
	*router.Router
	opt         Options
	log         *slog.Logger
	store       im.Store
	lock        *lockout
	order       *sendOrder
	sounds      *sounds
	users       *book[im.User]
	departs     *book[im.Depart]
	seed        maphash.Seed
	logins      [loginShards]logins
	metrics     *metrics
	fileMetrics fileMetrics
	// audioText stands for a sound, encrypted.
	audioText []byte
	// often keeps the log readable while a store that is gone fails everything.
	often struct {
		request, messages [im.Closed + 1]obs.Often
		sound, sync       obs.Often
	}

	open     atomic.Int64 // requests accepted and not answered
	draining atomic.Bool
	stopped  chan struct{} // closed once draining
	idle     chan struct{} // closed once draining and open is 0
	once     sync.Once     // closes idle

	mu       sync.Mutex
	sessions map[*session.Session]struct{}
}

// New makes a db_proxy.
func New(opt Options) *Server {
	if opt.HistoryLimit <= 0 {
		opt.HistoryLimit = 100
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 8 * time.Second
	}
	if opt.LockAttempts == 0 {
		opt.LockAttempts = 10
	}
	if opt.LockWindow <= 0 {
		opt.LockWindow = 30 * time.Minute
	}
	if opt.LinkTimeout <= 0 {
		opt.LinkTimeout = 30 * time.Second
	}
	if opt.LinkHeartbeat <= 0 {
		opt.LinkHeartbeat = 5 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Text == nil {
		opt.Text, _ = im.NewTextCipher("") // the default key has the right length
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, log: opt.Log, store: opt.Store, stopped: make(chan struct{}), idle: make(chan struct{}),
		sessions: map[*session.Session]struct{}{}, seed: maphash.MakeSeed(), lock: newLockout(opt.LockAttempts, opt.LockWindow),
		audioText: opt.Text.Encrypt(audioText)}
	s.metrics, s.fileMetrics = newMetrics(opt.Registerer, s), newFileMetrics(opt.Registerer)
	s.order = newSendOrder(2*opt.Timeout, opt.Registerer)
	s.sounds = newSounds(opt.Sounds, opt.Now, s.metrics)
	s.users, s.departs = newUserBook(opt.Store, opt.Now, s.metrics), newDepartBook(opt.Store, opt.Now, s.metrics)
	s.Router = router.New(router.Options{Role: "dbproxy", Log: opt.Log, Registerer: opt.Registerer})
	s.handleMessages()
	s.handleUsers()
	s.handleReading()
	s.handleGroups()
	s.handlePush()
	s.handleFiles()
	s.handleFileList()
	router.Handle(s.Router, router.Public, s.handleHeartBeat)
	return s
}

// SetMessages sets Options.Messages. Before the first session.
func (s *Server) SetMessages(m Messages) { s.opt.Messages = m }

// Open begins a link.
func (s *Server) Open(ses *session.Session) error {
	if s.draining.Load() {
		return im.Errorf(im.Closed, "db_proxy is shutting down")
	}
	if ses.Loop() != nil {
		ses.SetIdleLimit(s.opt.LinkTimeout)
		ses.SetKeepAlive(s.opt.LinkHeartbeat)
	}
	s.mu.Lock()
	s.sessions[ses] = struct{}{}
	s.mu.Unlock()
	s.log.Info("server connected", "role", "dbproxy", "conn", ses.ID(), "peer", ses.Remote())
	return nil
}

// Close ends a link. What it asked for is done all the same.
func (s *Server) Close(ses *session.Session, err error) {
	s.mu.Lock()
	delete(s.sessions, ses)
	s.mu.Unlock()
	s.order.gone(ses)
	s.log.Info("server gone", "role", "dbproxy", "conn", ses.ID(), "peer", ses.Remote(), "err", err)
}

// Drain asks all servers to send nothing more, refuses what comes all the same, and returns when all that was accepted is answered, or
// with ctx's error. The answers may still be on their way to the sockets: close the engine afterwards, which waits for that. Drain may be called again.
func (s *Server) Drain(ctx context.Context) error {
	if !s.draining.Swap(true) {
		close(s.stopped)
		s.mu.Lock()
		for ses := range s.sessions {
			if err := ses.Push(0, pb.IMStopReceivePacket_builder{Result: proto.Uint32(0)}.Build()); err != nil {
				s.log.Debug("not told to stop", "role", "dbproxy", "conn", ses.ID(), "err", err)
			}
		}
		s.mu.Unlock()
	}
	s.checkIdle()
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return im.WithKind(im.Closed, "db_proxy did not finish its requests", ctx.Err())
	}
}

// begin accepts a request unless the server is draining. The count goes first: either Drain sees it and waits, or it is taken back here.
func (s *Server) begin() error {
	s.open.Add(1)
	if s.draining.Load() {
		s.end()
		return im.Errorf(im.Closed, "db_proxy is shutting down")
	}
	return nil
}

// end says that a request has its answer.
func (s *Server) end() {
	if s.open.Add(-1) == 0 && s.draining.Load() {
		s.checkIdle()
	}
}

func (s *Server) checkIdle() {
	if s.open.Load() == 0 {
		s.once.Do(func() { close(s.idle) })
	}
}

// handleHeartBeat has nothing to do: that something came is what counts.
func (s *Server) handleHeartBeat(*session.Session, uint16, *pb.IMHeartBeat) error { return nil }
