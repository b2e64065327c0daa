package conversation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/rediscluster"
	"teamtalk/sql/schema"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/redisconn"
)

// Message ids are drawn from counters in Redis, msg_id_<relateId> and
// group_msg_id_<group>. Redis may lose a counter (FLUSHALL, a server that restarts empty)
// or set it back (an old snapshot, a replica that lagged). No id may be given twice
// because of that, so a counter is trusted only
//
//   - if this process has compared it with the table in this epoch, in which no new Redis
//     server appeared and no connection failed, and
//   - if it exists and is not below the highest id that this process knows to be given.
//
// Otherwise the counter is compared with the highest id in the table, on the master, and
// raised to it. The script does all of this in one step. No other process can draw
// between the comparison and the raise. Ids are drawn by range, for all conversations of
// a batch in one pipeline.

// IDs is the part that gives message ids.
type IDs struct {
	db       *database.DB
	restores prometheus.Counter
}

// NewIDs makes the part.
func NewIDs(db *database.DB) *IDs {
	return &IDs{db: db, restores: db.Metrics.Counter("ids_restored", "Counters of message ids "+
		"that Redis had lost, raised to the last id in the table.")}
}

// drawScript draws ARGV[1] ids from KEYS[1] and returns the last of them. ARGV[2] is the
// highest id known to be given. If ARGV[3] is 1, that id was just read from the table: a
// lower counter is raised to it plus ARGV[4], and the answer is negative. Otherwise
// nothing is drawn from a missing or lower counter, and the answer is 0.
const drawScript = `local v = redis.call('GET', KEYS[1])
if not v or tonumber(v) < tonumber(ARGV[2]) then
  if ARGV[3] ~= '1' then return 0 end
  redis.call('SET', KEYS[1], string.format('%d', ARGV[2] + ARGV[4]))
  return -redis.call('INCRBY', KEYS[1], ARGV[1])
end
return redis.call('INCRBY', KEYS[1], ARGV[1])`

var draws = redis.NewScript(drawScript)

// LostGap is the number of ids skipped when a lost counter is restored before finalize:
// other processes may have drawn ids that are not in the table yet, and no unique key
// would reject them.
const LostGap = 1024

// drawTries bounds the tries to draw the ids of a batch.
const drawTries = 5

// Draw is the request for the ids of one conversation in a batch.
type Draw struct {
	Conversation *Conversation
	N            int
	First        uint32 // the answer; 0 until it arrives
	Err          error  // why First is 0
	Base         uint32 // First, as it was answered
	// Unsure says that this process does not know whether the message before Base is stored,
	// Foreign that another one has drawn its id. Neither is set when the counter was lost.
	Unsure, Foreign bool

	// Its messages that may be repeats, see unsettled.go: whether a client numbered any, the
	// bits of those senders, and for how long they may repeat. marked is the answer.
	numbered          bool
	repeaters, marked uint64
	within            uint32
}

// Again reports whether another try may be answered.
func (d *Draw) Again() bool {
	return d.First == 0 && im.KindOf(d.Err) == im.Unavailable &&
		!errors.Is(d.Err, rediscluster.ErrDown)
}

// errCounters is the error of counters that vanish again and again.
var errCounters = im.Errorf(im.Unavailable, "Redis loses message id counters faster than "+
	"they are restored")

// Draw sets First or Err of each draw. A draw that fails is tried again, since the
// connection may have failed while Redis is well, or Redis is starting. Both end in a
// moment. In a cluster another draw does not wait for it: unless all fail, Draw returns
// after the first try. A node that is down is not tried again.
func (s *IDs) Draw(ctx context.Context, list []*Draw) {
	slices.SortFunc(list, func(a, b *Draw) int {
		return CompareThreads(a.Conversation.Thread, b.Conversation.Thread)
	})
	open := list
	for try := range drawTries {
		if try > 0 && database.Pause(ctx, try) != nil {
			return // each draw has the error of its last try
		}
		s.drawOnce(ctx, open)
		open = slices.DeleteFunc(slices.Clone(open), func(d *Draw) bool {
			return !d.Again()
		})
		if len(open) < len(list) {
			return
		}
	}
}

// drawOnce draws the ids of list in one pipeline.
func (s *IDs) drawOnce(ctx context.Context, list []*Draw) {
	epoch := s.db.Epoch.Now()
	fresh, err := s.verify(ctx, list, epoch)
	if err != nil {
		for _, d := range list {
			d.Err = err
		}
		return
	}
	answered, answers := s.runDraws(ctx, list, fresh)
	if s.db.Epoch.Now() != epoch {
		// The answers came over a new connection, perhaps from a server with old
		// counters.
		s.compareAnswers(ctx, answered, answers, s.db.Epoch.Now())
		return
	}
	for i, d := range answered {
		d.take(s, answers[i])
	}
}

// take records an answer of the script.
func (d *Draw) take(s *IDs, answer int64) {
	d.Conversation.mu.Lock()
	defer d.Conversation.mu.Unlock()
	if answer == 0 { // the counter is lost
		d.Conversation.verified, d.Err = 0, errCounters
		return
	}
	restored := answer < 0
	if restored {
		answer = -answer
		if d.Conversation.floor > 0 {
			s.restores.Inc()
			s.db.Log.Warn("restored a message id counter that Redis had lost", "counter",
				d.Conversation.Thread,
				"msg", d.Conversation.floor)
		}
	}
	d.First, d.Err = uint32(answer-int64(d.N)+1), nil
	d.Unsure = !restored && d.First > 1 && d.First != d.Conversation.stored+1
	d.Foreign = d.Unsure && d.First != d.Conversation.drawn+1
	d.Conversation.floor = max(d.Conversation.floor, uint32(answer))
	d.Conversation.drawn = max(d.Conversation.drawn, uint32(answer))
}

// verify compares with the table the counters that were not compared in this epoch. It
// reports for each draw whether that was necessary.
func (s *IDs) verify(ctx context.Context, list []*Draw, epoch uint64) ([]bool, error) {
	fresh := make([]bool, len(list))
	var unknown []Thread
	for i, d := range list {
		d.Conversation.mu.Lock()
		fresh[i] = d.Conversation.verified != epoch
		d.Conversation.mu.Unlock()
		if fresh[i] {
			unknown = append(unknown, d.Conversation.Thread)
		}
	}
	highest, err := s.Highest(ctx, s.db.Master, unknown)
	if err != nil {
		return nil, err
	}
	for i, d := range list {
		if fresh[i] {
			d.Conversation.mu.Lock()
			d.Conversation.floor = max(d.Conversation.floor, highest[d.Conversation.Thread])
			d.Conversation.verified = epoch
			d.Conversation.mu.Unlock()
		}
	}
	return fresh, nil
}

// Compare compares the counter of a conversation with the table, unless it was compared in
// this epoch.
func (s *IDs) Compare(ctx context.Context, c *Conversation) error {
	_, err := s.verify(ctx, []*Draw{{Conversation: c}}, s.db.Epoch.Now())
	return err
}

// compareAnswers accepts, in a new epoch, the answers above the highest id in the table.
func (s *IDs) compareAnswers(ctx context.Context, list []*Draw, answers []int64,
	epoch uint64) {
	threads := make([]Thread, len(list))
	for i, d := range list {
		threads[i] = d.Conversation.Thread
	}
	if len(threads) == 0 {
		return
	}
	highest, err := s.Highest(ctx, s.db.Master, threads)
	for i, d := range list {
		if err != nil {
			d.Err = err
			continue
		}
		d.Conversation.mu.Lock()
		d.Conversation.floor = max(d.Conversation.floor, highest[d.Conversation.Thread])
		ok := max(answers[i], -answers[i])-int64(d.N) >= int64(d.Conversation.floor)
		if d.Conversation.verified = 0; ok {
			d.Conversation.verified = epoch
		}
		d.Conversation.mu.Unlock()
		if ok {
			d.take(s, answers[i])
		} else {
			d.Err = errCounters
		}
	}
}

// runDraws runs the script for every draw. It returns the draws that were answered, with
// their answers. The others have an error.
func (s *IDs) runDraws(ctx context.Context, list []*Draw,
	fresh []bool) (answered []*Draw, answers []int64) {
	runs := make([]*redisconn.Run, len(list))
	for i, d := range list {
		runs[i] = &redisconn.Run{Script: draws, Keys: []string{d.Conversation.Thread.Counter()},
			Args: s.drawArgs(d, fresh[i])}
	}
	marks := s.senderMarksOf(list)
	redisconn.RunWithin(ctx, s.db.Redis.Unread, runs, marks.set, marks.get)
	marks.read()
	for i, d := range list {
		v, err := runs[i].Answer.Int64()
		switch {
		case err != nil:
			d.Err = s.db.RedisError("draw message ids", err)
		case v > math.MaxUint32 || v < -math.MaxUint32:
			d.Err = im.Errorf(im.Internal, "message ids of %s are used up",
				d.Conversation.Thread.Counter())
		default:
			answered, answers = append(answered, d), append(answers, v)
		}
	}
	return answered, answers
}

// drawArgs returns the arguments of the script.
func (s *IDs) drawArgs(d *Draw, fresh bool) []any {
	d.Conversation.mu.Lock()
	floor := d.Conversation.floor
	d.Conversation.mu.Unlock()
	authority, gap := 0, 0
	if fresh {
		authority = 1
		if !s.db.Finalized && floor > 0 {
			gap = LostGap
		}
	}
	return []any{d.N, floor, authority, gap}
}

// Highest returns the highest message id in the table, for each thread that has
// messages. db is the master or a connection to it.
func (s *IDs) Highest(ctx context.Context, db database.Querier,
	threads []Thread) (map[Thread]uint32, error) {
	highest := make(map[Thread]uint32, len(threads))
	form := func(t Thread, ids string) string {
		// The grouping follows the index in use, so that the database answers with one
		// step per group: (relateId, msgId), or (relateId, status, msgId) before
		// finalize. The index of groups always begins with (groupId, msgId).
		grouping := t.Column()
		if !s.db.Finalized && !t.Group {
			grouping = "relateId, status"
		}
		return fmt.Sprintf("SELECT %d, %s, MAX(msgId) FROM %s WHERE %[2]s IN (%[4]s) "+
			"GROUP BY %[5]s", t.kind(), t.Column(), t.Table(), ids, grouping)
	}
	err := database.InChunks(threads, database.Chunk, func(part []Thread) error {
		rows, err := db.QueryContext(ctx, UnionByTable(part, form))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t Thread
			var id uint32
			if err := rows.Scan(&t.Group, &t.ID, &id); err != nil {
				return err
			}
			highest[t] = max(highest[t], id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, s.db.SQLError("read the highest message ids", err)
	}
	return highest, nil
}

// UnionByTable returns one query over all tables that hold messages of these threads.
// form returns the part for one table, given a thread in it and the list of ids.
func UnionByTable(threads []Thread, form func(t Thread, ids string) string) string {
	var lists [2 * schema.Tables][]uint32
	var some [2 * schema.Tables]Thread
	for _, t := range threads {
		n := t.Slot()
		lists[n] = append(lists[n], t.ID)
		some[n] = t
	}
	var parts []string
	for n, ids := range lists {
		if len(ids) > 0 {
			parts = append(parts, form(some[n], database.Join(ids)))
		}
	}
	return "(" + strings.Join(parts, ") UNION ALL (") + ")"
}

// CounterRaiser connects to Redis and returns the function for Options.RaiseCounter of
// schema.Finalize. It sets the counter of a conversation's message ids to at least max.
// close closes the connections.
func CounterRaiser(ctx context.Context, r redisconn.Config) (
	raise func(ctx context.Context, c schema.Conversation, max uint32) error,
	close func() error, err error) {
	in, err := redisconn.Open(r, 1, redisconn.NewEpoch(func() {}), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	if err := in.Ping(ctx); err != nil {
		in.Close()
		return nil, nil, err
	}
	raise = func(ctx context.Context, c schema.Conversation, max uint32) error {
		key := "msg_id_"
		if c.Group {
			key = "group_msg_id_"
		}
		err := raises.Run(ctx, in.Unread, []string{key + strconv.FormatUint(uint64(c.ID), 10)},
			max).Err()
		return im.WithKind(im.Unavailable, "raise a counter of message ids", err)
	}
	return raise, in.Close, nil
}

// raises raises a counter to ARGV[1]. A text that is no number counts as missing.
var raises = redis.NewScript(`local v = tonumber(redis.call('GET', KEYS[1]) or '')
if not v or v < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)
