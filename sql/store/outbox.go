package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
)

// Unread counts are in Redis and messages in MySQL, and a process may crash between the
// two. So the transaction of a batch also writes the counts that it owes to the table
// IMUnreadOutbox. After the commit the counts are applied to Redis together with a mark.
// One script changes the counts and the mark, and does nothing when the mark exists. So
// any process may apply the counts any number of times, and they count once.
//
// An owner is one life of a worker. Its batches are numbered and applied one after the
// other. So its outbox row holds only the last batch, and its mark the number of the last
// batch applied. A worker whose counts could not be applied becomes a new owner, and
// leaves the row to housekeeping, in this or another process.

// outbox is the part that applies to Redis what committed transactions owe to it.
type outbox struct {
	*databases
	retired owners

	// applyChange updates Redis after a change of a group's members.
	applyChange func(context.Context, memberChange) error
}

// slot is the right to store one batch at a time. It is also an owner of counts.
type slot struct {
	owner uuid.UUID
	seq   uint64 // number of the owner's last transaction
	buf   []byte // buffer for a statement

	script []byte // buffer for the script of a transaction
}

// proof returns the proof of the slot's last transaction.
func (sl *slot) proof() proof { return proof{sl.owner, sl.seq} }

// newSlot makes a slot with a new owner.
func newSlot() *slot { return &slot{owner: uuid.New()} }

// retire leaves the owner's row to housekeeping, and gives the slot a new owner.
func (s *outbox) retire(sl *slot) {
	s.retired.add(sl.owner)
	sl.owner, sl.seq = uuid.New(), 0
}

// markTTL is the lifetime of a mark. It exceeds the time for which a row may stay in the
// outbox.
const markTTL = 24 * time.Hour

// applyScript adds counts unless the mark KEYS[1] says that they were added. ARGV[1] is
// the number of the batch, ARGV[2] the time to live of the mark in seconds. Two arguments
// follow for each further key:
//
//   - peer and n, for a hash of unread counts
//   - "g" and n, for the number of messages in a group
//   - "s" and n, for the messages that a sender has read of the group before it, where n
//     messages of the batch follow the sender's last one
//
// A key that holds no counts is skipped, so that the other keys are counted. The answer
// is the count of the last group. The mark holds the number of the batch and the answer.
// A second run for the same batch returns that answer; a run for an earlier batch returns
// -1.
const applyScript = `local m = redis.call('GET', KEYS[1])
if m then
  local seq, count = string.match(m, '^(%d+) ?(%d*)$')
  if tonumber(seq) == tonumber(ARGV[1]) then return tonumber(count) or 0 end
  if tonumber(seq) > tonumber(ARGV[1]) then return -1 end
end
local c = 0
for i = 2, #KEYS do
  local what, n = ARGV[2*i-1], ARGV[2*i]
  if what == 'g' then
    c = redis.pcall('HINCRBY', KEYS[i], 'count', n)
    if type(c) ~= 'number' then c = 0 end
  elseif what == 's' then
    local have = redis.pcall('HGET', KEYS[i], 'count')
    if not have or type(have) == 'string' and (tonumber(have) or 0) < c - n then
      redis.call('HSET', KEYS[i], 'count', string.format('%d', c - n))
    end
  else
    redis.pcall('HINCRBY', KEYS[i], what, n)
  end
end
redis.call('SET', KEYS[1], string.format('%d %d', ARGV[1], c), 'EX', ARGV[2])
return c`

var applies = redis.NewScript(applyScript)

// unreadKey returns the key of a user's unread counts, a hash by peer.
func unreadKey(user uint32) string { return "unread_" + strconv.FormatUint(uint64(user), 10) }

// groupKey returns the key of a group's count: field "count" is the number of messages
// sent.
func groupKey(group uint32) string {
	return strconv.FormatUint(uint64(group), 10) + "_im_group_msg"
}

// readKey returns the key of a member's count: field "count" is the number of messages
// read, and "joined" the version of the group at which that count began.
func readKey(user, group uint32) string {
	return strconv.FormatUint(uint64(user), 10) + "_" + strconv.FormatUint(uint64(group), 10) +
		"_im_user_group"
}

// markKey returns the key of an owner's mark. In a cluster all keys of a script must hash
// to the same slot, so each key has its own mark there, which hashes like the key.
func (s *outbox) markKey(owner uuid.UUID, key string) string {
	if s.redis.cluster {
		return "unread_mark_{" + key + "}_" + owner.String()
	}
	return "unread_mark_" + owner.String()
}

// applying collects the arguments of one run of the script.
type applying struct {
	keys  []string
	args  []any
	group *groupCount // in a cluster: the group whose count the script answers
}

// add adds a key with its two arguments.
func (a *applying) add(key string, what any, n uint32) {
	a.keys = append(a.keys, key)
	a.args = append(a.args, what, n)
}

// apply adds counts to Redis. Counts that were applied are not added again.
func (s *outbox) apply(ctx context.Context, owner uuid.UUID, seq uint64, owed dues) error {
	var runs []*applying
	// on returns the run to which counts of key are added. In a cluster a fresh key
	// begins a run.
	on := func(key string, fresh bool) *applying {
		if len(runs) == 0 || s.redis.cluster && fresh {
			runs = append(runs, &applying{keys: []string{s.markKey(owner, key)}, args: []any{seq,
				int64(markTTL / time.Second)}})
		}
		return runs[len(runs)-1]
	}
	last := uint32(0)
	for _, c := range owed.counts {
		on(unreadKey(c.user), c.user != last).add(unreadKey(c.user), c.peer, c.n)
		last = c.user
	}
	for i := range owed.groups {
		g := &owed.groups[i]
		run := on(groupKey(g.group), true)
		run.add(groupKey(g.group), "g", g.n)
		run.group = g
		if s.redis.cluster {
			continue
		}
		for _, by := range g.senders {
			run.add(readKey(by.user, g.group), "s", by.after)
		}
	}
	answers, err := s.runApplies(ctx, runs)
	if err != nil || !s.redis.cluster {
		return err
	}
	return s.applySenders(ctx, runs, answers)
}

// runApplies runs the script for all runs in one pipeline.
func (s *outbox) runApplies(ctx context.Context, runs []*applying) ([]int64, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	answers := make([]int64, len(runs))
	err := scripted(func(byHash bool) error {
		cmds := make([]*redis.Cmd, len(runs))
		_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, r := range runs {
				cmds[i] = runScript(ctx, p, applies, byHash, r.keys, r.args...)
			}
			return nil
		})
		for i, cmd := range cmds {
			answers[i], _ = cmd.Int64() // its error is also err
		}
		return err
	})
	return answers, s.redisError("apply unread counts", err)
}

// scripted runs do with hashes of scripts. When a server does not know a hash, it runs do
// again with their texts. The scripts must tolerate that some of them run twice.
func scripted(do func(byHash bool) error) error {
	err := do(true)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = do(false)
	}
	return err
}

// runScript adds a run of a script to a pipeline.
func runScript(ctx context.Context, p redis.Pipeliner, script *redis.Script, byHash bool,
	keys []string, args ...any) *redis.Cmd {
	if byHash {
		return script.EvalSha(ctx, p, keys, args...)
	}
	return script.Eval(ctx, p, keys, args...)
}

// raiseCount raises a count to ARGV[1], unless it is that high.
var raiseCount = redis.NewScript(`local have = redis.pcall('HGET', KEYS[1], 'count')
if not have or type(have) == 'string' and (tonumber(have) or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'count', ARGV[1])
end
return 1`)

// applySenders sets, in a cluster, the read counts of the senders to groups.
func (s *outbox) applySenders(ctx context.Context, runs []*applying, counts []int64) error {
	err := scripted(func(byHash bool) error {
		_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, r := range runs {
				if r.group == nil || counts[i] < 0 {
					continue
				}
				for _, by := range r.group.senders {
					runScript(ctx, p, raiseCount, byHash, []string{readKey(by.user, r.group.group)},
						counts[i]-int64(by.after))
				}
			}
			return nil
		})
		return err
	})
	return s.redisError("apply what senders have read", err)
}

// applied reports whether the counts of a batch are in Redis, by its mark.
func (s *outbox) applied(ctx context.Context, owner uuid.UUID, seq uint64,
	owed dues) (bool, error) {
	key := ""
	switch {
	case len(owed.counts) > 0:
		key = unreadKey(owed.counts[0].user)
	case len(owed.groups) > 0:
		key = groupKey(owed.groups[0].group)
	default:
		// a change of members has no mark, and its row remains longer than this question
		// is asked
		return false, nil
	}
	mark, err := s.redis.unread.Get(ctx, s.markKey(owner, key)).Result()
	if err == redis.Nil {
		return false, nil
	}
	if err != nil {
		return false, s.redisError("read the mark of unread counts", err)
	}
	mark, _, _ = strings.Cut(mark, " ")
	n, err := strconv.ParseUint(mark, 10, 64)
	if err != nil {
		return false, im.WithKind(im.Malformed, "read the mark of unread counts", err)
	}
	return n >= seq, nil
}

// settle applies the counts of a batch that was just committed. It does not fail: the
// outbox keeps counts that Redis does not take, and housekeeping applies them later.
func (s *outbox) settle(ctx context.Context, sl *slot, owed dues) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.o.hooks.run(s.o.hooks.afterCommit)
	if err == nil {
		err = s.apply(ctx, sl.owner, sl.seq, owed)
	}
	if err == nil {
		err = s.o.hooks.run(s.o.hooks.afterCount)
	}
	if err == nil {
		s.m.outbox.WithLabelValues("applied").Inc()
		return
	}
	s.m.outbox.WithLabelValues("deferred").Inc()
	s.log.Warn("unread counts wait for Redis in the outbox", "seq", sl.seq, "err", err)
	s.retire(sl)
}

// run calls a hook if the test has set it.
func (hooks) run(h func() error) error {
	if h == nil {
		return nil
	}
	return h()
}

// owners is a set of owners whose rows are recovered without waiting for OutboxAge. It
// grows by one when Redis fails between giving ids and counting. Beyond its bound a row
// is recovered by its age.
type owners struct {
	mu  sync.Mutex
	set map[uuid.UUID]bool
}

func (o *owners) add(id uuid.UUID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.set) < 10_000 {
		o.set[id] = true
	}
}

func (o *owners) remove(id uuid.UUID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.set, id)
}

// list returns up to n of the owners.
func (o *owners) list(n int) []uuid.UUID {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []uuid.UUID
	for id := range o.set {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// owedRow is a row of the outbox.
type owedRow struct {
	owner uuid.UUID
	seq   uint64
	owed  dues
}

// recover applies and removes the outbox rows that are at least age old, and those of
// retired owners. It returns the number of rows removed. Counts are applied once however
// often they are tried, so a row of a live owner does no harm; age only saves work.
// Counts are applied before changes of members, because a new member must not have unread
// messages from before.
func (s *outbox) recover(ctx context.Context, age time.Duration) (int, error) {
	for total := 0; ; {
		rows, err := s.owedRows(ctx, age)
		if err != nil {
			return total, s.dbError("read the outbox", err)
		}
		slices.SortStableFunc(rows, func(a, b owedRow) int {
			return cmp.Compare(len(a.owed.changes), len(b.owed.changes))
		})
		var failed error
		for _, r := range rows {
			err := s.recoverRow(ctx, r)
			if err == nil {
				total++
				continue
			}
			if len(r.owed.changes) == 0 {
				return total, err
			}
			// The hash of members may be in another Redis. While that is unavailable,
			// counts must not wait.
			failed = cmp.Or(failed, err)
			if err := s.postpone(ctx, r); err != nil {
				return total, err
			}
		}
		if failed != nil || len(rows) < owedPage {
			return total, failed
		}
	}
}

// recoverRow applies and removes one row.
func (s *outbox) recoverRow(ctx context.Context, r owedRow) error {
	if err := s.apply(ctx, r.owner, r.seq, r.owed); err != nil {
		return err
	}
	for _, c := range r.owed.changes {
		if err := s.applyChange(ctx, c); err != nil {
			return err
		}
	}
	if err := s.dropOwed(ctx, r.owner, r.seq); err != nil {
		return err
	}
	s.m.outbox.WithLabelValues("recovered").Inc()
	return nil
}

// postpone moves a row behind the others, for another age.
func (s *outbox) postpone(ctx context.Context, r owedRow) error {
	_, err := s.master.ExecContext(ctx, fmt.Sprintf("UPDATE IMUnreadOutbox "+
		"SET created=UNIX_TIMESTAMP() WHERE owner=x'%x'", r.owner[:]))
	s.retired.remove(r.owner)
	return s.dbError("postpone a change of members", err)
}

// dropOwed removes a row whose counts are applied.
func (s *outbox) dropOwed(ctx context.Context, owner uuid.UUID, seq uint64) error {
	_, err := s.master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMUnreadOutbox "+
		"WHERE owner=x'%x' AND seq=%d", owner[:], seq))
	if err != nil {
		return s.dbError("clear the outbox", err)
	}
	s.retired.remove(owner)
	return nil
}

// owedPage is the number of rows that recover reads at once.
const owedPage = 100

// owedRows reads the rows to recover. Ages use the clock of the database, which all
// processes share.
func (s *outbox) owedRows(ctx context.Context, age time.Duration) ([]owedRow, error) {
	var q strings.Builder
	fmt.Fprintf(&q, "created<=UNIX_TIMESTAMP()-%d", int64(age/time.Second))
	for i, id := range s.retired.list(owedPage) {
		if i == 0 {
			q.WriteString(" OR owner IN (")
		} else {
			q.WriteByte(',')
		}
		q.WriteString("x'" + hex.EncodeToString(id[:]) + "'")
	}
	if strings.Contains(q.String(), " IN (") {
		q.WriteByte(')')
	}
	return s.readOwed(ctx, q.String(), owedPage)
}

// readOwed reads the rows that a condition selects, oldest first.
func (s *outbox) readOwed(ctx context.Context, where string, limit int) ([]owedRow, error) {
	rows, err := s.master.QueryContext(ctx, fmt.Sprintf("SELECT owner, seq, payload "+
		"FROM IMUnreadOutbox WHERE %s ORDER BY created LIMIT %d", where, limit))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []owedRow
	for rows.Next() {
		var r owedRow
		var owner, payload []byte
		if err := rows.Scan(&owner, &r.seq, &payload); err != nil {
			return nil, err
		}
		copy(r.owner[:], owner)
		if r.owed, err = parseDues(payload); err != nil {
			// The row cannot be decoded. It is removed, because it would block the
			// others.
			s.log.Error("dropped a damaged outbox row", "err", err)
			s.m.outbox.WithLabelValues("dropped").Inc()
			r.owed = dues{}
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// clearOutbox removes the rows of slots whose counts are applied. Close calls it.
func (s *outbox) clearOutbox(ctx context.Context, slots []*slot) error {
	var ids []string
	for _, sl := range slots {
		if sl.seq > 0 {
			ids = append(ids, "x'"+hex.EncodeToString(sl.owner[:])+"'")
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := s.master.ExecContext(ctx, "DELETE FROM IMUnreadOutbox WHERE owner IN ("+
		strings.Join(ids, ",")+")")
	return err
}
