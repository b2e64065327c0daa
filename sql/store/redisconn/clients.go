// Package redisconn connects the store to its Redis instances: servers, masters with Sentinels, or
// Redis Clusters. It runs scripts in pipelines, whose every run has an answer of its own, and
// counts the epochs at which Redis may have lost data.
package redisconn

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/sql/rediscluster"
	"teamtalk/sql/redisdial"
	"teamtalk/sql/redissentinel"
)

// Config names the five logical instances of a deployment. Unread must be given. An
// instance without addresses is the same as Unread.
type Config struct {
	Unread      Instance // unread counts and message ids
	GroupSet    Instance // groups muted for pushes
	Token       Instance // push tokens
	Sync        Instance // sync marks
	GroupMember Instance // members of groups
}

// Instance is a Redis server, a master with Sentinels, or a Redis Cluster.
type Instance struct {
	// Addrs are host:port. Several addresses without MasterName, or Cluster, mean a Redis
	// Cluster.
	Addrs    []string
	Cluster  bool
	Username string
	Password string
	DB       int          // logical database; a cluster has only 0
	TLS      *cert.Client // nil: plain TCP; Sentinels have the same
	// MasterName is the name of the master if Addrs are Sentinels; otherwise it is empty.
	// User and password of the Sentinels follow.
	MasterName       string
	SentinelUsername string
	SentinelPassword string
}

// same reports whether two instances are the same server, so that they share connections.
func (i Instance) same(j Instance) bool {
	return slices.Equal(i.Addrs, j.Addrs) && i.Cluster == j.Cluster && i.Username == j.Username &&
		i.Password == j.Password && i.DB == j.DB && i.TLS == j.TLS &&
		i.MasterName == j.MasterName && i.SentinelUsername == j.SentinelUsername &&
		i.SentinelPassword == j.SentinelPassword
}

// Clients are the clients of the five instances.
type Clients struct {
	Unread, GroupSet, Token, Sync, GroupMember redis.UniversalClient

	All []redis.UniversalClient // each client once
	at  []string                // the addresses of each, for errors
	// Unread is a cluster: the keys of a script must hash to one slot
	Cluster bool
}

// quiet stops go-redis from writing to standard error. Its logger is global and
// unguarded, so it is set once, before the first client. Errors are returned and logged
// by this package.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

// Printf drops the message.
func (silence) Printf(context.Context, string, ...any) {}

// Open makes the clients. A client connects at its first use.
func Open(r Config, workers int, e *Epoch, log *slog.Logger) (Clients, error) {
	quiet()
	var in Clients
	if len(r.Unread.Addrs) == 0 {
		return in, im.Errorf(im.Invalid, "Redis: no address of the unread instance")
	}
	in.Cluster = r.Unread.cluster()
	var made []Instance
	for _, want := range []struct {
		client *redis.UniversalClient
		i      Instance
	}{{&in.Unread, r.Unread}, {&in.GroupSet, r.GroupSet}, {&in.Token, r.Token}, {&in.Sync,
		r.Sync}, {&in.GroupMember, r.GroupMember}} {
		if len(want.i.Addrs) == 0 {
			want.i = r.Unread
		}
		at := slices.IndexFunc(made, want.i.same)
		if at < 0 {
			at = len(made)
			made = append(made, want.i)
			in.at = append(in.at, strings.Join(want.i.Addrs, ","))
			in.All = append(in.All, explained(want.i, newClient(want.i, workers, e.connected, log)))
		}
		*want.client = in.All[at]
	}
	return in, nil
}

// Connect makes a client with the settings of this package, for the registry of servers, and
// for measurements of Redis under the conditions of the store. It logs nothing, the errors of
// its commands say what happened. The client connects at its first use.
func Connect(i Instance, connections int) redis.UniversalClient {
	quiet()
	return explained(i, newClient(i, connections, nil, slog.New(slog.DiscardHandler)))
}

// newClient makes a client. The client never repeats a command that may have run: a count
// whose answer was lost must not be counted twice. A client of a cluster follows
// redirections, which say that the command did not run.
func newClient(i Instance, workers int, onConnect func(context.Context, *redis.Conn) error,
	log *slog.Logger) redis.UniversalClient {
	o := &redis.UniversalOptions{
		Addrs:     slices.Clone(i.Addrs), // the client of a cluster appends to it
		Username:  i.Username,
		Password:  i.Password,
		DB:        i.DB,
		TLSConfig: i.TLS.Config(),

		PoolSize:                 workers,
		MaxRetries:               -1,
		DialTimeout:              2 * time.Second,
		DialerRetries:            1,
		DisableIdentity:          true,
		Protocol:                 2,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		OnConnect:                onConnect,
	}
	if i.MasterName != "" {
		c := redissentinel.New(redissentinel.Options{Master: i.MasterName, Sentinels: o.Addrs,
			Username: i.SentinelUsername, Password: i.SentinelPassword}, o.Simple())
		c.AddHook(wholeFailure{})
		return c
	}
	if i.cluster() {
		return rediscluster.New(o.Cluster(), func(node string, up bool) {
			if up {
				log.Info("a node of the Redis Cluster answers again", "node", node)
			} else {
				log.Warn("a node of the Redis Cluster does not answer: conversations in its "+
					"slots wait", "node", node)
			}
		})
	}
	c := redis.NewClient(o.Simple())
	c.AddHook(redisdial.Always{})
	c.AddHook(wholeFailure{})
	return c
}

// cluster reports whether the instance is a Redis Cluster.
func (i Instance) cluster() bool {
	return i.MasterName == "" && (i.Cluster || len(i.Addrs) > 1)
}

// Close closes the clients.
func (in *Clients) Close() error {
	var first error
	for _, c := range in.All {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Epoch counts the times at which Redis may have lost its counters or set them back: a
// new server answered, or a connection failed. Knowledge about a counter from an earlier
// epoch is not used.
type Epoch struct {
	n       atomic.Uint64
	changed func() // called after each begin
	mu      sync.Mutex
	seen    map[string]bool // run ids of servers
}

// NewEpoch makes a counter that has seen no server. changed is called when an epoch begins. It
// must not wait.
func NewEpoch(changed func()) *Epoch {
	return &Epoch{seen: map[string]bool{}, changed: changed}
}

// Now returns the epoch.
func (e *Epoch) Now() uint64 { return e.n.Load() }

// Next begins a new epoch.
func (e *Epoch) Next() {
	e.n.Add(1)
	e.changed()
}

var runID = regexp.MustCompile(`(?m)^run_id:(\w+)`)

// connected runs on every new connection before its first command. So an id from a
// restarted server is never taken for an id of the server before.
func (e *Epoch) connected(ctx context.Context, c *redis.Conn) error {
	info, err := c.Info(ctx, "server").Result()
	if err != nil && !strings.HasPrefix(err.Error(), "NOPERM") {
		return err
	}
	id := ""
	if m := runID.FindStringSubmatch(info); m != nil {
		id = m[1]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// Without an id (INFO is not permitted) every connection may lead to another server.
	if id == "" || !e.seen[id] {
		// servers are replaced over years; after clearing, ids cost one comparison with
		// the table
		if len(e.seen) > 1000 {
			clear(e.seen)
		}
		e.seen[id] = id != ""
		e.Next()
	}
	return nil
}

// CountOf parses a count in Redis. An invalid or negative count gives 0.
func CountOf(v string) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// WrongType reports whether a key holds something other than counts. Such keys are
// skipped.
func WrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
