// Package group knows the members of groups and delivers messages to them.
//
// deliver.go puts the messages of a group into the order of their ids and sends them to
// the sessions of the members here. members.go learns the members from db_proxy and
// follows their changes. change.go takes the changes that clients ask for.
package group

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/obs"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// Store is the db_proxy that knows the groups.
type Store interface {
	// Call sends req and calls done with the answer or an error. With l nil, done runs
	// where the answer arrives, in the order of the answers of one key, and must not
	// wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Fanout sends one frame to many sessions. Any goroutine.
type Fanout interface {
	// Frame returns m as clients get it, nil when it does not encode.
	Frame(m *pb.MsgData) []byte
	// PostLists sends a frame to the sessions of lists except but, and except those with
	// an id from since on, if since is not 0.
	PostLists(lists []session.OnLoop, but *session.Client, since uint64, frame []byte,
		tag session.Tag)
}

// Pushes sends notifications to phones that are not connected.
type Pushes interface {
	// Stored takes a message that was stored here.
	Stored(m *pb.MsgData, members []uint32)
}

// Others is the other message servers.
type Others interface {
	// Forward gives m to the route server that passes it on. It reports whether it was
	// taken.
	Forward(m pb.Message) bool
}

// Finder asks db_proxy for messages that did not arrive.
type Finder interface {
	// Search calls done with the messages of c with ids, in descending order, that exist,
	// or with an error. done must not wait. Search reports whether it asked.
	Search(c missing.Conversation, ids []uint32, done func(found []*pb.MsgData, err error)) bool
}

// Queries bounds the queries of a connection that wait for their answers.
type Queries interface {
	// EnterChange calls send, which sends m, when it is its turn. done, which send is given,
	// ends the query on the loop. The error says that too many wait. Loop only.
	EnterChange(s *session.Client, m proto.Message, send func(done func())) error
}

// Options sets up Groups. All fields but Registerer must be set.
type Options struct {
	// Tag is the flags of a delivery to a group.
	Tag     uint8
	Online  *session.Registry
	Fanout  Fanout
	Pushes  Pushes
	Others  Others
	Queries Queries
	Missing Finder
	// Since returns a session id. Sessions with that id or a higher one connected less
	// than age ago, others before that.
	Since func(age time.Duration) uint64
	// Writes reports whether a session has sent a message that may be stored, and that
	// db_proxy has not answered. Any goroutine.
	Writes func(*session.Client) bool
	// QueriesFailed counts queries without an answer, by kind.
	QueriesFailed *prometheus.CounterVec

	Now func() time.Time
	// AfterFunc calls f in d, see mono.AfterFunc.
	AfterFunc  func(d time.Duration, f func()) (stop func() bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Groups is what this server knows of groups: their members, and the messages that wait
// to be delivered to them. Any goroutine.
//
// db_proxy is asked for the members of a group once. From then on their changes are
// followed: a notify of a change has all members and, from servers of this
// implementation, the group's version. Every stored message contains the version against
// which db_proxy checked it. A message whose version is not the known one waits until the
// members were asked again. So a change counts at once for every message stored after it,
// on whatever server it was made and whether or not its notify arrived. Without versions,
// from a C++ db_proxy or for a message from a C++ message server, the members are asked
// for again after memberAge. When a link to a route server is lost, notifies may have
// been missed: the members known before do not count any more.
//
// Messages of a group arrive from db_proxy, in order, and from other message servers,
// each in order. They are delivered in the order of their ids: one that arrives before
// its predecessor waits for it, see gap.go.
type Groups struct {
	opt     Options
	store   Store
	metrics metrics
	pace    pace

	// era goes up when the known members must not be trusted any more.
	era atomic.Uint64
	// waiting and waitingBytes are the messages not delivered yet, of all groups.
	waiting, waitingBytes atomic.Int64

	mu      sync.Mutex // may be taken while a group's mutex is held, never the other way round
	table   *simplelru.LRU[uint32, *group]
	members int // of all groups in the table

	often struct{ members, change, pace obs.Often }
}

const (
	// maxGroups and maxCachedMembers bound the groups known, and their members in sum: 4
	// bytes each, and as much again for each that is online here. The group that was not
	// used for the longest time is dropped first.
	maxGroups        = 10_000
	maxCachedMembers = 2_000_000

	// memberAge is how long members are trusted that no version confirms.
	memberAge = 30 * time.Second

	// settleWait is how long the first message of a group waits for others, as long as it
	// is not known which precede it.
	settleWait = 100 * time.Millisecond

	// maxWaiting bounds the messages of one group that wait, maxWaitingBytes those of all
	// groups. Beyond, messages are not delivered. Their receivers find them in the
	// history.
	maxWaiting      = 1024
	maxWaitingBytes = 64 << 20
	waitingCost     = 256 // bytes counted for a message besides its content

	// Members that cannot be fetched are asked for again after loadPause, then after twice
	// that and so on, up to maxLoadPause. A db_proxy that failed is back within loadFor, or
	// another one answers. After that the messages that wait for the members are dropped.
	// A request that is not answered for loadWait is repeated as well.
	loadWait     = 2 * time.Second
	loadPause    = 200 * time.Millisecond
	maxLoadPause = time.Second
	loadFor      = 15 * time.Second
)

// New returns Groups that know of no group. Connect must be called before the first
// message.
func New(opt Options) *Groups {
	gs := &Groups{opt: opt, pace: pace{now: opt.Now, after: opt.AfterFunc}}
	gs.table, _ = simplelru.NewLRU(maxGroups, func(_ uint32, g *group) { // the size is positive
		gs.members -= g.counted
	})
	gs.metrics = newMetrics(opt.Registerer, gs)
	return gs
}

// Connect sets the db_proxy.
func (gs *Groups) Connect(store Store) { gs.store = store }

// Forget makes the known members count as out of date.
func (gs *Groups) Forget() { gs.era.Add(1) }

// Begin makes what is known of groups count as out of date: this server has not got all of their
// messages and changes until now. Which message was the last one is not known either, so the next
// one waits for none before it.
func (gs *Groups) Begin(groups []uint32) {
	for _, id := range groups {
		gs.mu.Lock()
		g, ok := gs.table.Peek(id)
		gs.mu.Unlock()
		if ok {
			g.begin()
		}
	}
}

// Waiting returns the number of messages that are not delivered yet.
func (gs *Groups) Waiting() int64 { return gs.waiting.Load() }

// of returns the group, perhaps one whose members are not known. A group that leaves the
// table while messages wait delivers them all the same.
func (gs *Groups) of(id uint32) *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g, ok := gs.table.Get(id); ok {
		return g
	}
	g := &group{all: gs, id: id}
	gs.table.Add(id, g)
	return g
}

// count sets the number of members of g that counts for the bound.
func (gs *Groups) count(g *group, n int) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if in, ok := gs.table.Peek(g.id); !ok || in != g {
		return
	}
	gs.members += n - g.counted
	g.counted = n
	for gs.members > maxCachedMembers && gs.table.Len() > 1 {
		gs.table.RemoveOldest()
	}
}

// metrics counts the group messages on their way to the members.
type metrics struct {
	loads       prometheus.Counter
	loadsFailed prometheus.Counter
	dropped     *prometheus.CounterVec
	gaps        prometheus.Counter
	late        prometheus.Counter
	repeated    prometheus.Counter
	paced       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, gs *Groups) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(
			prometheus.CounterOpts{Name: "teamtalk_msg_group_" + name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "teamtalk_msg_group_" + name, Help: help}, f)
	}
	locked := func(f func() int) func() float64 {
		return func() float64 {
			gs.mu.Lock()
			defer gs.mu.Unlock()
			return float64(f())
		}
	}
	m := metrics{
		loads:       counter("loads_total", "Groups whose members were asked of db_proxy."),
		loadsFailed: counter("loads_failed_total", "Of those, the ones without an answer."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_group_dropped_total",
			Help: "Group messages not delivered to anybody here, by what is missing: room in the " +
				"queue, or the members. They are in the history."}, []string{"reason"}),
		gaps: counter("gaps_total",
			"Group messages delivered although one before them did not arrive, and db_proxy did "+
				"not have it."),
		late: counter("late_total", "Group messages that arrived after one with a higher id was "+
			"delivered, and were not delivered. They are in the history."),
		repeated: counter("repeated_total", "Group messages that arrived after db_proxy was "+
			"asked for them, or a second time, and were not delivered again."),
		paced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_group_changes_paced_total",
			Help: "Changes of members that waited because very many members were told of the " +
				"changes of their user, or were refused because they would wait for over 10 s, " +
				"by result: waited, refused."}, []string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(m.loads, m.loadsFailed, m.dropped, m.gaps, m.late, m.repeated, m.paced,
			gauge("cached", "Groups whose members may be known.",
				locked(func() int { return gs.table.Len() })),
			gauge("members_cached", "Members of those groups.",
				locked(func() int { return gs.members })),
			gauge("waiting", "Group messages that wait for their turn or for the members.",
				func() float64 { return float64(gs.waiting.Load()) }))
	}
	return m
}
