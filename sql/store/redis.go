package store

import (
	"context"
	"crypto/tls"
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

	"teamtalk/core/im"
	"teamtalk/sql/rediscluster"
)

// Redis names the five logical instances of a deployment. Unread must be given. An
// instance without addresses is the same as Unread.
type Redis struct {
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
	DB       int         // logical database; a cluster has only 0
	TLS      *tls.Config // nil: plain TCP
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

// instances are the clients of the five instances.
type instances struct {
	unread, groupSet, token, sync, groupMember redis.UniversalClient

	all []redis.UniversalClient // each client once
	// unread is a cluster: the keys of a script must hash to one slot
	cluster bool
}

// quiet stops go-redis from writing to standard error. Its logger is global and
// unguarded, so it is set once, before the first client. Errors are returned and logged
// by this package.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

// Printf drops the message.
func (silence) Printf(context.Context, string, ...any) {}

// openRedis makes the clients. A client connects at its first use.
func openRedis(r Redis, workers int, e *epoch, log *slog.Logger) (instances, error) {
	quiet()
	var in instances
	if len(r.Unread.Addrs) == 0 {
		return in, im.Errorf(im.Invalid, "Redis: no address of the unread instance")
	}
	in.cluster = r.Unread.cluster()
	var made []Instance
	for _, want := range []struct {
		client *redis.UniversalClient
		i      Instance
	}{{&in.unread, r.Unread}, {&in.groupSet, r.GroupSet}, {&in.token, r.Token}, {&in.sync,
		r.Sync}, {&in.groupMember, r.GroupMember}} {
		if len(want.i.Addrs) == 0 {
			want.i = r.Unread
		}
		at := slices.IndexFunc(made, want.i.same)
		if at < 0 {
			at = len(made)
			made = append(made, want.i)
			in.all = append(in.all, newClient(want.i, workers, e.connected, log))
		}
		*want.client = in.all[at]
	}
	return in, nil
}

// Connect makes a client with the settings of this package, for measurements of Redis
// under the conditions of the store. The client connects at its first use.
func Connect(i Instance, connections int) redis.UniversalClient {
	quiet()
	return newClient(i, connections, nil, slog.New(slog.DiscardHandler))
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
		TLSConfig: i.TLS,

		PoolSize:                 workers,
		MaxRetries:               -1,
		DialTimeout:              2 * time.Second,
		DialerRetries:            1,
		DisableIdentity:          true,
		Protocol:                 2,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		OnConnect:                onConnect,

		MasterName:       i.MasterName,
		SentinelUsername: i.SentinelUsername,
		SentinelPassword: i.SentinelPassword,
	}
	if i.MasterName != "" {
		return redis.NewFailoverClient(o.Failover())
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
	c.AddHook(wholeFailure{})
	return c
}

// cluster reports whether the instance is a Redis Cluster.
func (i Instance) cluster() bool {
	return i.MasterName == "" && (i.Cluster || len(i.Addrs) > 1)
}

// close closes the clients.
func (in *instances) close() error {
	var first error
	for _, c := range in.all {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// epoch counts the times at which Redis may have lost its counters or set them back: a
// new server answered, or a connection failed. Knowledge about a counter from an earlier
// epoch is not used.
type epoch struct {
	n    atomic.Uint64
	mu   sync.Mutex
	seen map[string]bool // run ids of servers
}

func newEpoch() *epoch { return &epoch{seen: map[string]bool{}} }

// now returns the epoch.
func (e *epoch) now() uint64 { return e.n.Load() }

// next begins a new epoch.
func (e *epoch) next() { e.n.Add(1) }

var runID = regexp.MustCompile(`(?m)^run_id:(\w+)`)

// connected runs on every new connection before its first command. So an id from a
// restarted server is never taken for an id of the server before.
func (e *epoch) connected(ctx context.Context, c *redis.Conn) error {
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
		e.next()
	}
	return nil
}

// countOf parses a count in Redis. An invalid or negative count gives 0.
func countOf(v string) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// wrongType reports whether a key holds something other than counts. Such keys are
// skipped.
func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
