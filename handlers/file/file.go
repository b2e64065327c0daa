// Package file implements the file server: it relays files between two clients that are
// connected at the same time, and stores files for receivers that are offline, which
// download them later.
//
// Every byte moves because its receiver asked for it. A client that downloads pulls
// segment by segment. From a client that sends, this server, or the receiver behind it,
// pulls in the same way. The requested segments that have not arrived are bounded, so a
// slow receiver slows its sender down, and the memory is bounded by the number of
// connections.
//
// Offline files are in a spool (core/spool). Only workers use it, never a loop, and the
// reads and writes of one task never overlap.
//
// # Permissions
//
// Message servers create tasks. The id of a task is random, and clients can name a task
// only by it. It is looked up among the existing ids, and never becomes part of a path. A
// client logs in to one task, in one of the roles that are open to its user: the sender
// sends, the receiver receives. Each side has an id of its own, so that the sides cannot be
// exchanged: see ids.go. With Options.Online it must also be logged in to the
// system at that moment. A second login in the same role replaces the first, so that a
// client whose connection broke need not wait.
//
// # Interruptions
//
// An interrupted upload is resumed: at the next login the server asks for the part that
// is missing. An interrupted download is resumed when the client asks for the missing
// part. A transfer between two clients ends when one of them disconnects, and the other
// is told as if it had been cancelled. When one side ends it before the other has logged
// in, the server records that for a minute and tells the other side at its login.
//
// The list by which receivers find their files is kept by db_proxy. RunListing adds the
// files that were finished, and RunCompare repairs the list and the spool when a message
// about a file was lost between the servers: see listing.go and filelist.go.
package file

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/obs"
	"teamtalk/core/opt"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// Segment is the length of the pieces in which files are moved, in bytes.
const Segment = 32 << 10

// MaxFrame is the longest frame that the clients' port must accept, in bytes: a segment
// with its message and header.
const MaxFrame = Segment + 1024

// maxPulls is the number of segments that a client may have requested and not received.
const maxPulls = 16

// maxWindow is the largest number of segments requested from an uploading client at the
// same time.
const maxWindow = 64

// Tasks runs a task on a worker, after all earlier tasks with the same key. Do does not
// block. An error of kind im.Busy or im.Closed means that the task will not run. ctx ends
// when the program stops.
type Tasks interface {
	Do(key uint64, task func(ctx context.Context)) error
}

// Peer is a route server or a db_proxy, or several of one kind.
type Peer interface {
	// Call sends req. It runs done on l with the answer or an error, exactly once, and
	// never before Call returns.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Address is an address at which clients reach this server.
type Address struct {
	IP   string // or a host name
	Port uint32
}

// Options configures a Server. Fields with a setting are required, the others have defaults.
type Options struct {
	// Spool stores offline files. Required.
	Spool *spool.Spool
	// Tasks runs the work on the spool. Required.
	Tasks Tasks
	// Online answers which users are logged in. nil: logins are not checked with it, and
	// a task's id and user suffice.
	Online Peer
	// Unchecked reports that there is no server to ask, so that logins are not checked with
	// Online for now. nil: they always are.
	Unchecked func() bool
	// Routes is the handler of the links to the route servers, over which RunNotices sends.
	// nil: RunNotices does nothing.
	Routes *Routes
	// List is a db_proxy, or several, with whose list RunCompare compares the spool. nil:
	// RunCompare does nothing.
	List Peer
	// Grace is the age below which RunCompare ignores completed files and rows of the
	// list. 0: none are ignored.
	Grace time.Duration
	// MaxTasks bounds the open transfers between two clients, MaxUserTasks those of one
	// sender. The spool has bounds of its own. Required.
	MaxTasks, MaxUserTasks int
	// UploadWindow is the number of segments requested from an uploading client at the
	// same time, after the first 16, which are requested one by one as in the first
	// implementation. At most 64. Required.
	UploadWindow int
	// OnlineWait is the longest time that a login waits for Online to be reachable before
	// it is refused. It must be below LoginDeadline. Default 5 s.
	OnlineWait time.Duration
	// LoginDeadline is the longest time that a connection may stay without a login.
	// 0: for ever.
	LoginDeadline time.Duration
	// IdleTimeout is the longest time that a client may send nothing, and the longest
	// time that it may leave a requested segment unsent. Required.
	IdleTimeout time.Duration
	// Linger is the longest time that a connection may stay after its transfer has ended.
	// Default 10 s.
	Linger time.Duration
	// TaskTimeout is the longest time that a transfer between two clients may be without
	// a client logged in to it. Default 1 h.
	TaskTimeout time.Duration
	// LinkTimeout is the longest time that a message server may be silent before its link
	// is closed; 0: for ever. LinkHeartbeat is the interval of this side's heartbeats; 0:
	// none.
	LinkTimeout, LinkHeartbeat time.Duration
	// NewID returns the id of a new task. Default: a random UUID with the mark and the
	// seal of this server's address (im.SealTask).
	NewID func() (string, error)
	// Now returns the current time. Default mono.Now.
	Now func() time.Time
	// Log records failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o *Options) defaults() {
	opt.Require("file.MaxTasks", o.MaxTasks)
	opt.Require("file.MaxUserTasks", o.MaxUserTasks)
	opt.Require("file.UploadWindow", o.UploadWindow)
	o.UploadWindow = min(o.UploadWindow, maxWindow)
	opt.Require("file.IdleTimeout", o.IdleTimeout)
	opt.Default(&o.OnlineWait, 5*time.Second)
	opt.Default(&o.Linger, 10*time.Second)
	opt.Default(&o.TaskTimeout, time.Hour)
	if o.Now == nil {
		o.Now = mono.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Server is the file role. Its two handlers share one table of tasks. Any goroutine.
type Server struct {
	compared comparing // of RunCompare
	opt      Options
	log      *slog.Logger
	spool    *spool.Spool
	metrics  *metrics
	often    obs.Often
	seed     maphash.Seed
	clients  *clients
	servers  *servers

	mu        sync.Mutex
	addresses []Address
	tasks     map[string]*task // tasks with a client logged in, and all tasks between two clients
	open      map[uint32]int   // number of tasks between two clients, by sender
	relays    int              // sum of open
	// senders are the keys of tasks between two clients, by the sender's id.
	senders map[string]string
	// fresh are the tasks between two clients whose receiver may not know of them. There are
	// at most as many as were made in noticeEnd.
	fresh []*task
	// wake wakes RunNotices.
	wake    chan struct{}
	listing listing
}

// New returns a file server. SetAddresses must be called before the first message server
// connects.
func New(opt Options) *Server {
	opt.defaults()
	s := &Server{opt: opt, log: opt.Log.With("role", "file"), spool: opt.Spool,
		seed: maphash.MakeSeed(), tasks: map[string]*task{}, open: map[uint32]int{},
		senders: map[string]string{}, wake: make(chan struct{}, 1),
		listing: listing{pulse: mono.NewPulse()}}
	if s.opt.NewID == nil {
		s.opt.NewID = s.newID
	}
	s.metrics = newMetrics(opt.Registerer, s)
	s.clients = newClients(s)
	s.servers = newServers(s)
	return s
}

// SetAddresses sets the addresses at which clients reach this server, in the order in
// which they should try them. Call it before the first message server connects.
func (s *Server) SetAddresses(list ...Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = list
}

// newID returns an id by which message servers find this server among several, and by
// which this server recognizes its own tasks.
func (s *Server) newID() (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.addresses) == 0 {
		return id.String(), nil
	}
	return im.SealTask(id.String(), s.addresses[0].IP, s.addresses[0].Port), nil
}

// Clients returns the handler of the port for clients. Its frames have at most MaxFrame
// bytes.
func (s *Server) Clients() session.ClientHandler { return s.clients }

// Servers returns the handler of the port for message servers.
func (s *Server) Servers() session.LinkHandler { return s.servers }

// key returns the key of a task's reads and writes, which run in order.
func (s *Server) key(id string) uint64 { return maphash.String(s.seed, id) }
