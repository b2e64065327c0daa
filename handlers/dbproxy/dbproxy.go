// Package dbproxy implements the db_proxy server, the only role that uses the store. It
// turns requests of message servers into calls of an im.Store, which run on workers so
// that they never block a loop, and sends the answers when the calls return.
//
// # Order
//
// Messages of one conversation are stored, and answered, in the order of their arrival.
// When the store cannot store a message for now, the messages that its sender pipelined
// behind it are not stored either: see order.go.
//
// All other requests of one user run in order, too. A client that reports messages as
// read and then requests the unread counts receives the new counts.
//
// # Failure
//
// The answer to a request that failed never looks like success:
//
//   - A message that is not stored is answered with msg_id 0. Its sender gets no ack and
//     repeats it.
//   - A login that cannot be checked is answered with result 2 and a text when the
//     message server knows that result, and otherwise not at all: see notValidated.
//   - A query that fails is not answered. The protocol has no error code for queries, and
//     a client would believe an empty answer: it would show an empty history, or no
//     unread messages. The message server's call times out, and the client asks again.
//   - A change whose answer has a result_code (of a group, a removed conversation, a sign
//     info) is answered with code 1, like a change that is not allowed.
//
// The same holds when a queue is full, and for requests that waited longer than
// Options.Timeout, whose callers have given up.
//
// # Memory
//
// Users and departments are cached in memory and updated with the rows that changed: see
// package directory. The sounds of audio messages are files, not rows, and the store contains
// their paths (Options.Sounds). All other state is in the store.
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
	"teamtalk/handlers/dbproxy/directory"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/proto/pb"
)

// Tasks runs a task on a worker, after all earlier tasks with the same key. Do does not
// block. An error of kind im.Busy or im.Closed means that the task will not run. ctx ends
// when the program stops.
type Tasks interface {
	Do(key uint64, task func(ctx context.Context)) error
}

// Messages collects messages into batches for Server.AppendBatch. Messages with the same
// key keep the order of their Adds, and never are in two batches at the same time. An
// error of kind im.Busy or im.Closed means that the message was not accepted.
type Messages interface {
	Add(key uint64, p *Pending) error
}

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// Store stores all data. Required.
	Store im.Store
	// Tasks runs the requests other than messages. Required.
	Tasks Tasks
	// Messages collects messages into batches. Required before the first session. It
	// calls methods of the server, so it can be set with SetMessages after New.
	Messages Messages
	// Sounds stores the sounds of audio messages, in files of up to im.MaxAudio bytes.
	// nil: audio messages are not stored, and those in the store are returned without
	// their sound.
	Sounds sound.Store
	// Text encrypts the text that replaces a sound in lists of conversations. nil: the
	// cipher with im.DefaultTextKey.
	Text *im.TextCipher
	// HistoryLimit is the largest number of messages that one request returns. Default
	// 100.
	HistoryLimit int
	// Timeout bounds the duration of a request, including its time in queues. A message
	// has half of it for its time in queues, and half for storing it. It must be shorter
	// than the callers' timeouts. Otherwise a message may be stored after its message
	// server gave up: it is then neither acked nor delivered, and stored once more when
	// its sender repeats it. Default 8 s.
	Timeout time.Duration
	// LockAttempts is the number of different wrong passwords within LockWindow that lock
	// a login name, until the oldest of them is older than LockWindow. Negative: names
	// are never locked. Defaults 10 and 30 minutes.
	LockAttempts int
	LockWindow   time.Duration
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed. LinkHeartbeat is the interval of this side's heartbeats. Defaults 30 s
	// and 5 s.
	LinkTimeout, LinkHeartbeat time.Duration
	// Now returns the current time. Default time.Now.
	Now func() time.Time
	// Log records failures and locked names. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the db_proxy role: the session.Handler of the message servers' links.
type Server struct {
	*router.Router
	opt         Options
	log         *slog.Logger
	store       im.Store
	lock        *lockout.Lockout
	order       *sendOrder
	sounds      *sounds
	users       *directory.Book[im.User]
	departs     *directory.Book[im.Depart]
	seed        maphash.Seed
	logins      [loginShards]logins
	metrics     *metrics
	fileMetrics fileMetrics
	// audioText is the encrypted text that replaces a sound.
	audioText []byte
	// often limits the rate of log lines, for the time in which the store is away and all
	// requests fail.
	often struct {
		request, messages [im.Closed + 1]obs.Often
		sound, sync       obs.Often
	}

	open     atomic.Int64 // requests accepted and not answered
	draining atomic.Bool
	stopped  chan struct{} // closed when draining begins
	idle     chan struct{} // closed when draining has begun and open is 0
	once     sync.Once     // closes idle

	mu       sync.Mutex
	sessions map[*session.Session]struct{}
}

// New returns a db_proxy.
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
	s := &Server{opt: opt, log: opt.Log, store: opt.Store, stopped: make(chan struct{}),
		idle:     make(chan struct{}),
		sessions: map[*session.Session]struct{}{}, seed: maphash.MakeSeed(),
		lock:      lockout.New(opt.LockAttempts, opt.LockWindow),
		audioText: opt.Text.Encrypt(audioText)}
	s.metrics, s.fileMetrics = newMetrics(opt.Registerer, s), newFileMetrics(opt.Registerer)
	s.order = newSendOrder(2*opt.Timeout, opt.Registerer)
	s.sounds = newSounds(opt.Sounds, opt.Now, s.metrics)
	books := directory.NewMetrics(opt.Registerer)
	s.users = directory.NewUsers(opt.Store, opt.Now, books)
	s.departs = directory.NewDeparts(opt.Store, opt.Now, books)
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

// SetMessages sets Options.Messages. Call it before the first session.
func (s *Server) SetMessages(m Messages) { s.opt.Messages = m }

// Open registers a link. It fails when the server is draining.
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

// Close unregisters a link. Its requests still run.
func (s *Server) Close(ses *session.Session, err error) {
	s.mu.Lock()
	delete(s.sessions, ses)
	s.mu.Unlock()
	s.order.gone(ses)
	s.log.Info("server gone", "role", "dbproxy", "conn", ses.ID(), "peer", ses.Remote(), "err", err)
}

// Drain asks all message servers to send nothing more, rejects requests that arrive
// nevertheless, and returns when all accepted requests are answered, or with ctx's error.
// The answers may then still be in buffers: close the engine afterwards, which writes
// them. Drain may be called again.
func (s *Server) Drain(ctx context.Context) error {
	if !s.draining.Swap(true) {
		close(s.stopped)
		s.mu.Lock()
		for ses := range s.sessions {
			if err := ses.Push(0,
				pb.IMStopReceivePacket_builder{Result: proto.Uint32(0)}.Build()); err != nil {
				s.log.Debug("stop request not sent", "role", "dbproxy", "conn", ses.ID(), "err",
					err)
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

// begin accepts a request unless the server is draining. It increments open first: either
// Drain sees the request and waits for it, or begin rejects it and decrements open again.
func (s *Server) begin() error {
	s.open.Add(1)
	if s.draining.Load() {
		s.end()
		return im.Errorf(im.Closed, "db_proxy is shutting down")
	}
	return nil
}

// end records that a request is answered.
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

// handleHeartBeat does nothing: the arrival of a frame is enough to restart the idle
// limit.
func (s *Server) handleHeartBeat(*session.Session, uint16, *pb.IMHeartBeat) error { return nil }
