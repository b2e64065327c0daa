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
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	option "teamtalk/core/opt"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/sound"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/handlers/dbproxy/passwords"
	"teamtalk/handlers/dbproxy/sounds"
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
	// HistoryLimit is the largest number of messages that one request returns.
	// Required.
	HistoryLimit int
	// MaxFrame is the longest frame between servers, in bytes. An answer with messages
	// takes half of it at most. Required.
	MaxFrame int
	// MaxAnswer is the longest answer, in bytes, that is sent in parts because it exceeds
	// MaxFrame. Required.
	MaxAnswer int
	// Timeout bounds the duration of a request, including its time in queues. A message
	// has half of it for its time in queues, and half for storing it. It must be shorter
	// than the callers' timeouts. Otherwise a message may be stored after its message
	// server gave up: it is then neither acked nor delivered, and stored once more when
	// its sender repeats it. Required.
	Timeout time.Duration
	// Lock says how many wrong passwords lock a name or a network.
	Lock lockout.Limits
	// Passwords says how passwords are checked and stored.
	Passwords passwords.Settings
	// Groups bounds how fast users make groups and put others into them.
	Groups grouprules.Limits
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed; 0: for ever. LinkHeartbeat is the interval of this side's heartbeats; 0:
	// none.
	LinkTimeout, LinkHeartbeat time.Duration
	// Now returns the time of this process, for durations and for messages without a time.
	// Times of change are those of Store. Default mono.Now.
	Now func() time.Time
	// Log records failures and locked names. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the db_proxy role: the session.LinkHandler of the message servers' links. Each of
// its parts answers the requests of one subject.
type Server struct {
	*router.Router[*session.Link]
	opt      Options
	log      *slog.Logger
	requests *runner

	messages *messages
	users    *users
	groups   *groups
	files    *files
	sync     *sessionSync

	mu       sync.Mutex
	sessions map[*session.Link]struct{}
	failing  bool          // the store fails, see Watch
	draining bool          // see SetDraining
	gone     chan struct{} // holds a token when a link has ended
}

// New returns a db_proxy.
func New(opt Options) *Server {
	option.Require("dbproxy.HistoryLimit", opt.HistoryLimit)
	option.Require("dbproxy.MaxFrame", opt.MaxFrame)
	option.Require("dbproxy.MaxAnswer", opt.MaxAnswer)
	option.Require("dbproxy.Timeout", opt.Timeout)
	if opt.Now == nil {
		opt.Now = mono.Now
	}
	if opt.Text == nil {
		opt.Text, _ = im.NewTextCipher("") // the default key has the right length
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	r := newRunner(&opt)
	// A batch of messages, or an answer with messages, waits for its sounds for at most a
	// quarter of the time of a request.
	sound := sounds.New(sounds.Options{Files: opt.Sounds, Timeout: opt.Timeout / 4, Now: opt.Now,
		Log: opt.Log, Registerer: opt.Registerer})
	s := &Server{Router: r.router, opt: opt, log: opt.Log, requests: r,
		messages: newMessages(r, opt.Store, opt.Messages, sound, opt.Registerer),
		users:    newUsers(r, opt.Store, opt.Registerer),
		groups:   newGroups(r, opt.Store, &opt),
		files:    newFiles(r, opt.Store, opt.Registerer),
		sync:     &sessionSync{runner: r, store: opt.Store},
		sessions: map[*session.Link]struct{}{}, gone: make(chan struct{}, 1)}
	s.messages.register()
	newLogins(r, opt.Store, &opt).register()
	newCredentials(r, opt.Store).register()
	s.users.register()
	newConversations(r, opt.Store, sound, &opt).register()
	s.groups.register()
	(&pushes{runner: r, store: opt.Store}).register()
	s.files.register()
	router.Handle(s.Router, router.Public, s.handleHeartBeat)
	router.Handle(s.Router, router.Public, s.handleFeatures)
	return s
}

// SetMessages sets Options.Messages. Call it before the first session.
func (s *Server) SetMessages(m Messages) { s.messages.queue = m }

// Open registers a link. It fails when the server is draining.
func (s *Server) Open(ses *session.Link) error {
	if s.requests.draining.Load() {
		return im.Errorf(im.Closed, "db_proxy is shutting down")
	}
	ses.Data = &linkState{}
	ses.SetTimeouts(s.opt.LinkTimeout, s.opt.LinkHeartbeat)
	s.mu.Lock()
	s.sessions[ses] = struct{}{}
	s.mu.Unlock()
	ses.Log(s.log, "server connected", "role", "dbproxy")
	return nil
}

// Close unregisters a link. Its requests still run.
func (s *Server) Close(ses *session.Link, err error) {
	s.mu.Lock()
	delete(s.sessions, ses)
	s.mu.Unlock()
	select {
	case s.gone <- struct{}{}:
	default: // it holds a token
	}
	s.messages.order.gone(ses)
	ses.Log(s.log, "server gone", "role", "dbproxy", "err", err)
}

// Drain asks all message servers to send nothing more, rejects requests that arrive
// nevertheless, and returns when all accepted requests are answered, or with ctx's error.
// Message servers that understand refusals give the rejected requests to other db_proxies
// and close their links, for which Drain waits: then none of their requests is on its way.
// The answers may still be in buffers: close the engine afterwards, which writes them.
// Drain may be called again.
func (s *Server) Drain(ctx context.Context) error {
	if !s.requests.draining.Swap(true) {
		close(s.requests.stopped)
		s.mu.Lock()
		for ses := range s.sessions {
			s.tell(ses, pb.IMStopReceivePacket_builder{Result: proto.Uint32(0)}.Build())
		}
		s.mu.Unlock()
	}
	s.requests.checkIdle()
	select {
	case <-s.requests.idle:
	case <-ctx.Done():
		return im.WithKind(im.Closed, "db_proxy did not finish its requests", ctx.Err())
	}
	leave := time.NewTimer(leaveTimeout)
	defer leave.Stop()
	for s.waitsForLinks() {
		select {
		case <-s.gone:
		case <-leave.C:
			return nil // a server that hangs holds nothing up
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// leaveTimeout is how long Drain waits for the message servers to close their links.
const leaveTimeout = 2 * time.Second

// waitsForLinks reports whether a server that closes its link itself has not yet done so.
func (s *Server) waitsForLinks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.sessions {
		if l.TakesFrames() && takesRefusals(l) { // links within the process stay
			return true
		}
	}
	return false
}

// handleHeartBeat does nothing: the arrival of a frame is enough to restart the idle
// limit.
func (s *Server) handleHeartBeat(*session.Link, uint16, *pb.IMHeartBeat) error { return nil }

// AppendBatch stores a batch and answers each of its messages, in the order of the batch.
// The batcher calls it.
func (s *Server) AppendBatch(ctx context.Context, batch []*Pending) {
	s.messages.appendBatch(ctx, batch)
}

// FailBatch answers the messages that the batcher gave up, as not stored. Messages that
// are answered already are skipped.
func (s *Server) FailBatch(batch []*Pending, err error) { s.messages.failBatch(batch, err) }

// UsersChanged records that another role of the process created or changed users in the
// store, so that the next answer with the list of users contains the change.
func (s *Server) UsersChanged() { s.users.list.Touch() }

// CreateGroup stores a group with g's Name, Avatar, Creator, Type and Members, and
// returns the stored group. Its members are unique, in ascending order, and users that do
// not exist are left out. The creator is a member only when Members contains it. Creator
// 0 is another system. The error is Invalid when g has no name or no member, and as
// documented at im.GroupStore. The message server decides which types of groups clients
// may create.
func (s *Server) CreateGroup(ctx context.Context, g im.Group) (im.Group, error) {
	return s.groups.rules.Create(ctx, g)
}

// SetGroupLimits replaces Options.Groups.
func (s *Server) SetGroupLimits(l grouprules.Limits) { s.groups.rules.SetLimits(l) }

// ChangeMembers adds users to a group or removes them, on behalf of user by. User 0 is
// another system, which may make every change. The error is Denied when by may not make
// the change (see package grouprules), Invalid when users is empty or no member was changed, and
// as documented at im.GroupStore.
func (s *Server) ChangeMembers(ctx context.Context, by, group uint32, t pb.GroupModifyType,
	users []uint32) (im.MemberChange, error) {
	return s.groups.rules.Change(ctx, by, group, t, users)
}

// RunSync updates the conversation lists of groups' members (SyncSessions of
// im.MessageStore) at the given interval, until ctx ends or Drain is called. It returns
// after the last run. A run is a task of Options.Tasks and ends after Options.Timeout, as
// any request.
func (s *Server) RunSync(ctx context.Context, every time.Duration) { s.sync.run(ctx, every) }

// RunFileExpiry deletes offline files (ExpireOfflineFiles of im.FileStore) that are older
// than keep: at once, and then every day, until ctx ends or Drain is called. It returns
// after the last run. A run is a task of Options.Tasks and ends after Options.Timeout, as
// any request. keep must be at least a second.
func (s *Server) RunFileExpiry(ctx context.Context, keep time.Duration) {
	s.files.expire(ctx, keep)
}
