package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/rediscluster"
	"teamtalk/sql/schema"
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

// messageIDs is the part that gives message ids.
type messageIDs struct{ db *databases }

// newMessageIDs makes the part.
func newMessageIDs(db *databases) *messageIDs { return &messageIDs{db: db} }

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

// lostGap is the number of ids skipped when a lost counter is restored before finalize:
// other processes may have drawn ids that are not in the table yet, and no unique key
// would reject them.
const lostGap = 1024

// drawTries bounds the tries to draw the ids of a batch.
const drawTries = 5

// draw is the request for the ids of one conversation in a batch.
type draw struct {
	c     *conversation
	n     int
	first uint32 // the answer; 0 until it arrives
	err   error  // why first is 0
	base  uint32 // first, as it was answered

	// Its messages that may be repeats, see unsettled.go: whether a client numbered any, the
	// bits of those senders, and for how long they may repeat. marked is the answer.
	numbered          bool
	repeaters, marked uint64
	within            uint32
}

// again reports whether another try may be answered.
func (d *draw) again() bool {
	return d.first == 0 && im.KindOf(d.err) == im.Unavailable &&
		!errors.Is(d.err, rediscluster.ErrDown)
}

// errCounters is the error of counters that vanish again and again.
var errCounters = im.Errorf(im.Unavailable, "Redis loses message id counters faster than "+
	"they are restored")

// drawIDs sets first or err of each draw. A draw that fails is tried again, since the
// connection may have failed while Redis is well, or Redis is starting. Both end in a
// moment. In a cluster another draw does not wait for it: unless all fail, drawIDs returns
// after the first try. A node that is down is not tried again.
func (s *messageIDs) drawIDs(ctx context.Context, list []*draw) {
	slices.SortFunc(list, func(a, b *draw) int { return compareThreads(a.c.thread, b.c.thread) })
	open := list
	for try := range drawTries {
		if try > 0 && pause(ctx, try) != nil {
			return // each draw has the error of its last try
		}
		s.drawOnce(ctx, open)
		open = slices.DeleteFunc(slices.Clone(open), func(d *draw) bool {
			return !d.again()
		})
		if len(open) < len(list) {
			return
		}
	}
}

// drawOnce draws the ids of list in one pipeline.
func (s *messageIDs) drawOnce(ctx context.Context, list []*draw) {
	epoch := s.db.epoch.now()
	fresh, err := s.verify(ctx, list, epoch)
	if err != nil {
		for _, d := range list {
			d.err = err
		}
		return
	}
	answered, answers := s.runDraws(ctx, list, fresh)
	if s.db.epoch.now() != epoch {
		// The answers came over a new connection, perhaps from a server with old
		// counters.
		s.compareAnswers(ctx, answered, answers, s.db.epoch.now())
		return
	}
	for i, d := range answered {
		d.take(s, answers[i])
	}
}

// take records an answer of the script.
func (d *draw) take(s *messageIDs, answer int64) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	if answer == 0 { // the counter is lost
		d.c.verified, d.err = 0, errCounters
		return
	}
	if answer < 0 {
		answer = -answer
		if d.c.floor > 0 {
			s.db.m.restores.Inc()
			s.db.log.Warn("restored a message id counter that Redis had lost", "counter",
				d.c.thread,
				"msg", d.c.floor)
		}
	}
	d.first, d.err = uint32(answer-int64(d.n)+1), nil
	d.c.floor = max(d.c.floor, uint32(answer))
}

// verify compares with the table the counters that were not compared in this epoch. It
// reports for each draw whether that was necessary.
func (s *messageIDs) verify(ctx context.Context, list []*draw, epoch uint64) ([]bool, error) {
	fresh := make([]bool, len(list))
	var unknown []thread
	for i, d := range list {
		d.c.mu.Lock()
		fresh[i] = d.c.verified != epoch
		d.c.mu.Unlock()
		if fresh[i] {
			unknown = append(unknown, d.c.thread)
		}
	}
	highest, err := s.highestIDs(ctx, s.db.master, unknown)
	if err != nil {
		return nil, err
	}
	for i, d := range list {
		if fresh[i] {
			d.c.mu.Lock()
			d.c.floor = max(d.c.floor, highest[d.c.thread])
			d.c.verified = epoch
			d.c.mu.Unlock()
		}
	}
	return fresh, nil
}

// compare compares the counter of a conversation with the table, unless it was compared in
// this epoch.
func (s *messageIDs) compare(ctx context.Context, c *conversation) error {
	_, err := s.verify(ctx, []*draw{{c: c}}, s.db.epoch.now())
	return err
}

// compareAnswers accepts, in a new epoch, the answers above the highest id in the table.
func (s *messageIDs) compareAnswers(ctx context.Context, list []*draw, answers []int64,
	epoch uint64) {
	threads := make([]thread, len(list))
	for i, d := range list {
		threads[i] = d.c.thread
	}
	if len(threads) == 0 {
		return
	}
	highest, err := s.highestIDs(ctx, s.db.master, threads)
	for i, d := range list {
		if err != nil {
			d.err = err
			continue
		}
		d.c.mu.Lock()
		d.c.floor = max(d.c.floor, highest[d.c.thread])
		ok := max(answers[i], -answers[i])-int64(d.n) >= int64(d.c.floor)
		if d.c.verified = 0; ok {
			d.c.verified = epoch
		}
		d.c.mu.Unlock()
		if ok {
			d.take(s, answers[i])
		} else {
			d.err = errCounters
		}
	}
}

// runDraws runs the script for every draw. It returns the draws that were answered, with
// their answers. The others have an error.
func (s *messageIDs) runDraws(ctx context.Context, list []*draw,
	fresh []bool) (answered []*draw, answers []int64) {
	runs := make([]*scriptRun, len(list))
	for i, d := range list {
		runs[i] = &scriptRun{script: draws, keys: []string{d.c.thread.counter()},
			args: s.drawArgs(d, fresh[i])}
	}
	marks := s.senderMarksOf(list)
	runScriptsWithin(ctx, s.db.redis.unread, runs, marks.set, marks.get)
	marks.read()
	for i, d := range list {
		v, err := runs[i].answer.Int64()
		switch {
		case err != nil:
			d.err = s.db.redisError("draw message ids", err)
		case v > math.MaxUint32 || v < -math.MaxUint32:
			d.err = im.Errorf(im.Internal, "message ids of %s are used up",
				d.c.thread.counter())
		default:
			answered, answers = append(answered, d), append(answers, v)
		}
	}
	return answered, answers
}

// drawArgs returns the arguments of the script.
func (s *messageIDs) drawArgs(d *draw, fresh bool) []any {
	d.c.mu.Lock()
	floor := d.c.floor
	d.c.mu.Unlock()
	authority, gap := 0, 0
	if fresh {
		authority = 1
		if !s.db.finalized && floor > 0 {
			gap = lostGap
		}
	}
	return []any{d.n, floor, authority, gap}
}

// highestIDs returns the highest message id in the table, for each thread that has
// messages. db is the master or a connection to it.
func (s *messageIDs) highestIDs(ctx context.Context, db querier,
	threads []thread) (map[thread]uint32, error) {
	highest := make(map[thread]uint32, len(threads))
	form := func(t thread, ids string) string {
		// The grouping follows the index in use, so that the database answers with one
		// step per group: (relateId, msgId), or (relateId, status, msgId) before
		// finalize. The index of groups always begins with (groupId, msgId).
		grouping := t.column()
		if !s.db.finalized && !t.group {
			grouping = "relateId, status"
		}
		return fmt.Sprintf("SELECT %d, %s, MAX(msgId) FROM %s WHERE %[2]s IN (%[4]s) "+
			"GROUP BY %[5]s", t.kind(), t.column(), t.table(), ids, grouping)
	}
	err := inChunks(threads, chunk, func(part []thread) error {
		rows, err := db.QueryContext(ctx, unionByTable(part, form))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t thread
			var id uint32
			if err := rows.Scan(&t.group, &t.id, &id); err != nil {
				return err
			}
			highest[t] = max(highest[t], id)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, s.db.dbError("read the highest message ids", err)
	}
	return highest, nil
}

// unionByTable returns one query over all tables that hold messages of these threads.
// form returns the part for one table, given a thread in it and the list of ids.
func unionByTable(threads []thread, form func(t thread, ids string) string) string {
	var lists [2 * schema.Tables][]uint32
	var some [2 * schema.Tables]thread
	for _, t := range threads {
		n := t.slot()
		lists[n] = append(lists[n], t.id)
		some[n] = t
	}
	var parts []string
	for n, ids := range lists {
		if len(ids) > 0 {
			parts = append(parts, form(some[n], join(ids)))
		}
	}
	return "(" + strings.Join(parts, ") UNION ALL (") + ")"
}

// CounterRaiser connects to Redis and returns the function for Options.RaiseCounter of
// schema.Finalize. It sets the counter of a conversation's message ids to at least max.
// close closes the connections.
func CounterRaiser(ctx context.Context, r Redis) (
	raise func(ctx context.Context, c schema.Conversation, max uint32) error,
	close func() error, err error) {
	in, err := openRedis(r, 1, newEpoch(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	if err := in.ping(ctx); err != nil {
		in.close()
		return nil, nil, err
	}
	raise = func(ctx context.Context, c schema.Conversation, max uint32) error {
		key := "msg_id_"
		if c.Group {
			key = "group_msg_id_"
		}
		err := raises.Run(ctx, in.unread, []string{key + strconv.FormatUint(uint64(c.ID), 10)},
			max).Err()
		return im.WithKind(im.Unavailable, "raise a counter of message ids", err)
	}
	return raise, in.close, nil
}

var raises = redis.NewScript(`local v = redis.call('GET', KEYS[1])
if not v or tonumber(v) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1`)
