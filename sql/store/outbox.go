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

// Unread counts live in Redis, messages in MySQL, and a process may die between the two. So the counts that a batch owes are written into the
// table IMUnreadOutbox in the batch's own transaction, and applied to Redis after it, together with a mark that says so. The mark and the counts change
// in one script, which does nothing when the mark is there already: so counts can be applied again and again, by anybody, and count once.
//
// An owner is one worker's life: its batches are numbered and applied one after the other, so its row holds only its last batch, and its mark
// the number of the last one applied. A worker whose counts could not be applied takes a new owner's name and leaves the row to housekeeping, here or in
// another process.

// outbox is the part that applies to Redis what committed transactions owe to it.
type outbox struct {
	*databases
	retired owners

	// applyChange brings Redis up to date after a change of a group's members.
	applyChange func(context.Context, memberChange) error
}

// slot is the right to store one batch at a time, and an owner of counts.
type slot struct {
	owner uuid.UUID
	seq   uint64 // of the owner's last transaction tried
	buf   []byte // for a statement

	script []byte // for all of a transaction
}

// newSlot makes a slot with a new owner.
func newSlot() *slot { return &slot{owner: uuid.New()} }

// retire leaves the owner's row to housekeeping and makes a new owner.
func (s *outbox) retire(sl *slot) {
	s.retired.add(sl.owner)
	sl.owner, sl.seq = uuid.New(), 0
}

// markTTL is how long a mark is kept: longer than any row may lie in the outbox unseen.
const markTTL = 24 * time.Hour

// applyScript adds counts unless the mark KEYS[1] says that it was done. ARGV[1] is the batch's number, ARGV[2] the mark's time to live in
// seconds; then come two arguments for each of the other keys: peer and number for one with unread counts; "g" and number for that of a group's messages;
// "s" and how many of these came after the sender's last, for one of what a sender has read of the group before it. A key that holds something else than
// counts is passed over: it must not keep the others from being counted. The answer is the count of the last group.
//
// The mark holds the number, and that answer: it is given again when the batch is applied again, -1 when a later one was.
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
    if not have or type(have) == 'string' and (tonumber(have) or 0) < c - n then redis.call('HSET', KEYS[i], 'count', string.format('%d', c - n)) end
  else
    redis.pcall('HINCRBY', KEYS[i], what, n)
  end
end
redis.call('SET', KEYS[1], string.format('%d %d', ARGV[1], c), 'EX', ARGV[2])
return c`

var applies = redis.NewScript(applyScript)

// unreadKey is the hash of a user's unread counts, by peer.
func unreadKey(user uint32) string { return "unread_" + strconv.FormatUint(uint64(user), 10) }

// groupKey is the hash whose field "count" is how many messages were sent in a group.
func groupKey(group uint32) string { return strconv.FormatUint(uint64(group), 10) + "_im_group_msg" }

// readKey is the hash whose field "count" is how many of them a user has read; "joined" is the group's version with which that began.
func readKey(user, group uint32) string {
	return strconv.FormatUint(uint64(user), 10) + "_" + strconv.FormatUint(uint64(group), 10) + "_im_user_group"
}

// markKey names the mark of an owner. In a cluster the keys of one script must share a slot, so there the counts of each key have a mark of their own that
// hashes like it.
func (s *outbox) markKey(owner uuid.UUID, key string) string {
	if s.redis.cluster {
		return "unread_mark_{" + key + "}_" + owner.String()
	}
	return "unread_mark_" + owner.String()
}

// applying collects what one run of the script does.
type applying struct {
	keys  []string
	args  []any
	group *groupCount // in a cluster, that whose count it answers
}

// add adds a key to it.
func (a *applying) add(key string, what any, n uint32) {
	a.keys = append(a.keys, key)
	a.args = append(a.args, what, n)
}

// apply adds counts to Redis, once however often it is called.
func (s *outbox) apply(ctx context.Context, owner uuid.UUID, seq uint64, owed dues) error {
	var runs []*applying
	// on returns where to add a key that begins or continues the counts of key.
	on := func(key string, fresh bool) *applying {
		if len(runs) == 0 || s.redis.cluster && fresh {
			runs = append(runs, &applying{keys: []string{s.markKey(owner, key)}, args: []any{seq, int64(markTTL / time.Second)}})
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

// runApplies runs the script, all in one pipeline.
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
			answers[i], _ = cmd.Int64() // an error is err
		}
		return err
	})
	return answers, s.redisError("apply unread counts", err)
}

// scripted runs do, and once more when a server does not know a script by its hash: then it is to send the text. What was done the first time is done
// twice, so the scripts must bear that.
func scripted(do func(byHash bool) error) error {
	err := do(true)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = do(false)
	}
	return err
}

// runScript adds a script to a pipeline.
func runScript(ctx context.Context, p redis.Pipeliner, script *redis.Script, byHash bool, keys []string, args ...any) *redis.Cmd {
	if byHash {
		return script.EvalSha(ctx, p, keys, args...)
	}
	return script.Eval(ctx, p, keys, args...)
}

// raises a count to ARGV[1], unless it is there already.
var raiseCount = redis.NewScript(`local have = redis.pcall('HGET', KEYS[1], 'count')
if not have or type(have) == 'string' and (tonumber(have) or 0) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'count', ARGV[1]) end
return 1`)

// applySenders says, in a cluster, what the senders of the groups' messages have read.
func (s *outbox) applySenders(ctx context.Context, runs []*applying, counts []int64) error {
	err := scripted(func(byHash bool) error {
		_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, r := range runs {
				if r.group == nil || counts[i] < 0 {
					continue
				}
				for _, by := range r.group.senders {
					runScript(ctx, p, raiseCount, byHash, []string{readKey(by.user, r.group.group)}, counts[i]-int64(by.after))
				}
			}
			return nil
		})
		return err
	})
	return s.redisError("apply what senders have read", err)
}

// applied asks the mark whether a batch's counts are in Redis.
func (s *outbox) applied(ctx context.Context, owner uuid.UUID, seq uint64, owed dues) (bool, error) {
	key := ""
	switch {
	case len(owed.counts) > 0:
		key = unreadKey(owed.counts[0].user)
	case len(owed.groups) > 0:
		key = groupKey(owed.groups[0].group)
	default:
		return false, nil // a change of members leaves no mark, and its row lies longer than anybody asks
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

// settle applies the counts of a batch just committed. It cannot fail: what Redis does not take now it gets from the outbox later.
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

// run calls a hook if there is one.
func (hooks) run(h func() error) error {
	if h == nil {
		return nil
	}
	return h()
}

// owners is a set of owners whose rows are to be recovered without waiting for their age. One is added when Redis fails between giving ids and
// counting, so it stays small; beyond the bound the row's age finds it.
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

// list returns up to n of them.
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

// recover applies what has waited in the outbox for at least age, and what this process owes, and returns how many rows it removed. Applied
// twice is applied once, so a live owner's row does no harm; its age only spares the work. Counts go before changes of members: who joined has not to read
// what was sent before.
func (s *outbox) recover(ctx context.Context, age time.Duration) (int, error) {
	for total := 0; ; {
		rows, err := s.owedRows(ctx, age)
		if err != nil {
			return total, s.dbError("read the outbox", err)
		}
		slices.SortStableFunc(rows, func(a, b owedRow) int { return cmp.Compare(len(a.owed.changes), len(b.owed.changes)) })
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
			// Members are in a Redis of their own, maybe. While that is away the counts must not wait behind them.
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

// postpone puts a row behind the others: it has its age to wait again.
func (s *outbox) postpone(ctx context.Context, r owedRow) error {
	_, err := s.master.ExecContext(ctx, fmt.Sprintf("UPDATE IMUnreadOutbox SET created=UNIX_TIMESTAMP() WHERE owner=x'%x'", r.owner[:]))
	s.retired.remove(r.owner)
	return s.dbError("postpone a change of members", err)
}

// dropOwed removes a row that is applied.
func (s *outbox) dropOwed(ctx context.Context, owner uuid.UUID, seq uint64) error {
	_, err := s.master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMUnreadOutbox WHERE owner=x'%x' AND seq=%d", owner[:], seq))
	if err != nil {
		return s.dbError("clear the outbox", err)
	}
	s.retired.remove(owner)
	return nil
}

// owedPage is how many rows are recovered at a time.
const owedPage = 100

// owedRows reads rows to recover. Ages are taken by the database's clock, which all processes share.
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

// readOwed reads the rows that a condition selects, the oldest first.
func (s *outbox) readOwed(ctx context.Context, where string, limit int) ([]owedRow, error) {
	rows, err := s.master.QueryContext(ctx, fmt.Sprintf("SELECT owner, seq, payload FROM IMUnreadOutbox WHERE %s ORDER BY created LIMIT %d", where, limit))
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
			// Nothing can be made of it, and it must not keep the others waiting.
			s.log.Error("dropped a damaged outbox row", "err", err)
			s.m.outbox.WithLabelValues("dropped").Inc()
			r.owed = dues{}
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// clearOutbox removes the rows of slots whose counts are applied, when the store closes.
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
	_, err := s.master.ExecContext(ctx, "DELETE FROM IMUnreadOutbox WHERE owner IN ("+strings.Join(ids, ",")+")")
	return err
}
