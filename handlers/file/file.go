// Package file decides for the file server: it passes files between two clients that are both there, and takes files for receivers who are not, and
// hands them out later.
//
// Every byte moves because its receiver asked for it: a client that fetches pulls segment by segment, and from a client that sends this server, or the
// receiver behind it, pulls in the same way. What is asked for and did not come yet is bounded, so a slow receiver slows its sender, and memory is bounded
// by the number of connections.
//
// Files that wait lie in a spool (core/spool). It is touched by workers only, never by a loop, and one task's reads and writes come one after the other.
//
// # Who may do what
//
// Message servers make tasks. A task's id is random, and the only name anybody can say: it is looked up among the ids that are there, and never
// becomes part of a path. A client logs in to one task in one of the roles that are open to its user: the sender sends, the receiver receives. With
// Options.Online it must, besides, be logged in to the system just then. A second login in the same role replaces the first, so a client whose connection
// broke needs not wait.
//
// # What breaks
//
// An upload that breaks off is resumed: at the next login the server asks from where it stands. A download is resumed by asking from there. A transfer between
// two clients ends when one of them goes, and the other is told as if it had been cancelled. When one side ends it before the
// other has come, that is kept for a minute, and told to the other as it logs in.
//
// The list by which receivers find their files is kept by db_proxy. Where news of a file did not get there, or from there to here, RunCompare puts it right: see filelist.go.
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
	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// Segment is the length of the pieces that files are moved in, in bytes.
const Segment = 32 << 10

// MaxFrame is the longest frame that the clients' port has to take, in bytes: a segment and what is around it.
const MaxFrame = Segment + 1024

// maxPulls is how many segments a client may have asked for without having them.
const maxPulls = 16

// maxWindow is the most that may be asked of an uploading client at once, in segments.
const maxWindow = 64

// Tasks runs a task on a worker, after all earlier ones of the same key, and returns at once. An error, of kind im.Busy or im.Closed, means that it
// will not run. The context ends when the program does.
type Tasks interface {
	Do(key uint64, task func(ctx context.Context)) error
}

// Peer answers who is online, or what is listed: a route server or a db_proxy, or several.
type Peer interface {
	// Call sends req and runs done on l with the answer or an error, exactly once, never before Call returns.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Address is where clients reach this server.
type Address struct {
	IP   string // or a host's name
	Port uint32
}

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// Spool keeps files that wait. Required.
	Spool *spool.Spool
	// Tasks runs what touches the spool. Required.
	Tasks Tasks
	// Online answers who is logged in. nil: nobody is asked, and a task's id and its users are enough.
	Online Peer
	// List is a db_proxy, or several, with which RunCompare compares the list of files that wait. nil: nobody is asked.
	List Peer
	// Grace is how long a file that became whole, and a row that was noted, is left alone by RunCompare; negative: not at all. Default 10 min.
	Grace time.Duration
	// MaxTasks bounds the transfers between two clients that are open, MaxUserTasks those of one sender. The spool has bounds of its own. Defaults
	// 50,000 and 200.
	MaxTasks, MaxUserTasks int
	// UploadWindow is how many segments are asked of an uploading client at once, after the first 16, which are asked for one by one as the first
	// implementation did. At most 64. Default 8.
	UploadWindow int
	// OnlineWait is how long a login waits for Online to be reachable, before it is refused. Default 5 s; below LoginDeadline.
	OnlineWait time.Duration
	// LoginDeadline is how long a connection may stay without a login. Default 15 s.
	LoginDeadline time.Duration
	// IdleTimeout is how long a client may say nothing, and how long it may owe a segment. Default 120 s.
	IdleTimeout time.Duration
	// Linger is how long a connection may stay after its transfer has ended. Default 10 s.
	Linger time.Duration
	// TaskTimeout is how long a transfer between two clients may have nobody logged in to it. Default 1 h.
	TaskTimeout time.Duration
	// LinkTimeout is how long a message server may be silent before its link is closed, LinkHeartbeat how long this side may be. Defaults 30 s and 5 s.
	LinkTimeout, LinkHeartbeat time.Duration
	// NewID makes a task's id. Default: a random UUID, with the mark and the seal of this server's address (im.SealTask).
	NewID func() (string, error)
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets failures. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o *Options) defaults() {
	count := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	span := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	count(&o.MaxTasks, 50_000)
	count(&o.MaxUserTasks, 200)
	count(&o.UploadWindow, 8)
	o.UploadWindow = min(o.UploadWindow, maxWindow)
	span(&o.OnlineWait, 5*time.Second)
	if o.Grace < 0 {
		o.Grace = 0
	} else {
		span(&o.Grace, 10*time.Minute)
	}
	span(&o.LoginDeadline, 15*time.Second)
	span(&o.IdleTimeout, 120*time.Second)
	span(&o.Linger, 10*time.Second)
	span(&o.TaskTimeout, time.Hour)
	span(&o.LinkTimeout, 30*time.Second)
	span(&o.LinkHeartbeat, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Server is the file role. Its two sides share one table of tasks and may be used from anywhere.
type Server struct {
	opt     Options
	log     *slog.Logger
	spool   *spool.Spool
	metrics *metrics
	often   obs.Often
	seed    maphash.Seed
	clients *clients
	servers *servers

	mu        sync.Mutex
	addresses []Address
	tasks     map[string]*task // that somebody is logged in to, and all between two clients
	open      map[uint32]int   // tasks between two clients, by sender
	relays    int              // all of these
}

// New makes a file server. SetAddresses says where clients reach it.
func New(opt Options) *Server {
	opt.defaults()
	s := &Server{opt: opt, log: opt.Log.With("role", "file"), spool: opt.Spool, seed: maphash.MakeSeed(), tasks: map[string]*task{}, open: map[uint32]int{}}
	if s.opt.NewID == nil {
		s.opt.NewID = s.newID
	}
	s.metrics = newMetrics(opt.Registerer, s)
	s.clients = newClients(s)
	s.servers = newServers(s)
	return s
}

// SetAddresses says where clients reach this server, in the order in which they should try. Before the first message server connects.
func (s *Server) SetAddresses(list ...Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = list
}

// newID makes an id that leads message servers to this server, where there are several, and by which this server knows that it made it.
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

// Clients is the handler of the port for clients. Its frames are MaxFrame long at most.
func (s *Server) Clients() session.Handler { return s.clients }

// Servers is the handler of the port for message servers.
func (s *Server) Servers() session.Handler { return s.servers }

// key makes the reads and writes of one task come one after the other.
func (s *Server) key(id string) uint64 { return maphash.String(s.seed, id) }
