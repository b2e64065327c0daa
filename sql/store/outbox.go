package store

import (
	"cmp"
	"context"
	"encoding/binary"
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

// slot is the right to store one batch at a time, and an owner of counts.
type slot struct {
	owner uuid.UUID
	seq   uint64 // of the owner's last transaction tried
	buf   []byte // for statements
}

// newSlot makes a slot with a new owner.
func newSlot() *slot { return &slot{owner: uuid.New()} }

// retire leaves the owner's row to housekeeping and makes a new owner.
func (s *Store) retire(sl *slot) {
	s.retired.add(sl.owner)
	sl.owner, sl.seq = uuid.New(), 0
}

// count is what is owed: n more unread messages of peer to user.
type count struct{ user, peer, n uint32 }

// countsOf sums up what a list of messages owes.
func countsOf(items []*item) []count {
	sums := make(map[uint64]uint32, len(items))
	for _, it := range items {
		sums[uint64(it.m.To)<<32|uint64(it.m.From)]++
	}
	list := make([]count, 0, len(sums))
	for k, n := range sums {
		list = append(list, count{uint32(k >> 32), uint32(k), n})
	}
	slices.SortFunc(list, func(a, b count) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.peer, b.peer)) })
	return list
}

// appendCounts encodes counts as the outbox holds them: three uvarints each.
func appendCounts(b []byte, list []count) []byte {
	for _, c := range list {
		b = binary.AppendUvarint(b, uint64(c.user))
		b = binary.AppendUvarint(b, uint64(c.peer))
		b = binary.AppendUvarint(b, uint64(c.n))
	}
	return b
}

// parseCounts decodes them.
func parseCounts(b []byte) ([]count, error) {
	var list []count
	for len(b) > 0 {
		var v [3]uint32
		for i := range v {
			x, n := binary.Uvarint(b)
			if n <= 0 || x > 1<<32-1 {
				return nil, im.Errorf(im.Malformed, "outbox row does not decode")
			}
			v[i], b = uint32(x), b[n:]
		}
		list = append(list, count{v[0], v[1], v[2]})
	}
	return list, nil
}

// markTTL is how long a mark is kept: longer than any row may lie in the outbox unseen.
const markTTL = 24 * time.Hour

// applyScript adds counts unless the mark KEYS[1] says that it was done. ARGV[1] is the batch's number, ARGV[2] the mark's time to live in
// seconds; then come peer and number for each of the other keys. A key that holds something else than counts is passed over: it must not keep the others
// from being counted.
const applyScript = `local m = redis.call('GET', KEYS[1])
if m and tonumber(m) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for i = 2, #KEYS do redis.pcall('HINCRBY', KEYS[i], ARGV[2*i-1], ARGV[2*i]) end
return 1`

var applies = redis.NewScript(applyScript)

// unreadKey is the hash of a user's unread counts, by peer.
func unreadKey(user uint32) string { return "unread_" + strconv.FormatUint(uint64(user), 10) }

// markKey names the mark of an owner. In a cluster the keys of one script must share a slot, so there each user's counts have a mark of their own that
// hashes like them.
func (s *Store) markKey(owner uuid.UUID, user uint32) string {
	if s.redis.cluster {
		return "unread_mark_{" + unreadKey(user) + "}_" + owner.String()
	}
	return "unread_mark_" + owner.String()
}

// apply adds counts to Redis, once however often it is called.
func (s *Store) apply(ctx context.Context, owner uuid.UUID, seq uint64, list []count) error {
	type call struct {
		keys []string
		args []any
	}
	var calls []*call
	last := uint32(0)
	for _, c := range list {
		if len(calls) == 0 || s.redis.cluster && c.user != last {
			calls = append(calls, &call{[]string{s.markKey(owner, c.user)}, []any{seq, int64(markTTL / time.Second)}})
		}
		last = c.user
		on := calls[len(calls)-1]
		on.keys = append(on.keys, unreadKey(c.user))
		on.args = append(on.args, c.peer, c.n)
	}
	for _, byHash := range []bool{true, false} {
		_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, c := range calls {
				if byHash {
					applies.EvalSha(ctx, p, c.keys, c.args...)
				} else {
					applies.Eval(ctx, p, c.keys, c.args...)
				}
			}
			return nil
		})
		if byHash && redis.HasErrorPrefix(err, "NOSCRIPT") {
			continue // some may have been applied; the mark knows
		}
		return s.redisError("apply unread counts", err)
	}
	return nil
}

// applied asks the mark whether a batch's counts are in Redis.
func (s *Store) applied(ctx context.Context, owner uuid.UUID, seq uint64, list []count) (bool, error) {
	mark, err := s.redis.unread.Get(ctx, s.markKey(owner, list[0].user)).Uint64()
	if err == redis.Nil {
		return false, nil
	}
	if err != nil {
		return false, s.redisError("read the mark of unread counts", err)
	}
	return mark >= seq, nil
}

// settle applies the counts of a batch just committed. It cannot fail: what Redis does not take now it gets from the outbox later.
func (s *Store) settle(ctx context.Context, sl *slot, list []count) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.o.hooks.run(s.o.hooks.afterCommit)
	if err == nil {
		err = s.apply(ctx, sl.owner, sl.seq, list)
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

// owed is a row of the outbox.
type owed struct {
	owner  uuid.UUID
	seq    uint64
	counts []count
}

// recover applies what has waited in the outbox for at least age, and what this process owes, and returns how many rows it removed. Applied
// twice is applied once, so a live owner's row does no harm; its age only spares the work.
func (s *Store) recover(ctx context.Context, age time.Duration) (int, error) {
	for total := 0; ; {
		rows, err := s.owedRows(ctx, age)
		if err != nil {
			return total, s.dbError("read the outbox", err)
		}
		for _, r := range rows {
			if err := s.recoverRow(ctx, r); err != nil {
				return total, err
			}
			total++
		}
		if len(rows) < owedPage {
			return total, nil
		}
	}
}

// recoverRow applies and removes one row.
func (s *Store) recoverRow(ctx context.Context, r owed) error {
	if len(r.counts) > 0 {
		if err := s.apply(ctx, r.owner, r.seq, r.counts); err != nil {
			return err
		}
	}
	_, err := s.master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMUnreadOutbox WHERE owner=x'%x' AND seq=%d", r.owner[:], r.seq))
	if err != nil {
		return s.dbError("clear the outbox", err)
	}
	s.retired.remove(r.owner)
	s.m.outbox.WithLabelValues("recovered").Inc()
	return nil
}

// owedPage is how many rows are recovered at a time.
const owedPage = 100

// owedRows reads rows to recover. Ages are taken by the database's clock, which all processes share.
func (s *Store) owedRows(ctx context.Context, age time.Duration) ([]owed, error) {
	var q strings.Builder
	fmt.Fprintf(&q, "SELECT owner, seq, payload FROM IMUnreadOutbox WHERE created<=UNIX_TIMESTAMP()-%d", int64(age/time.Second))
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
	fmt.Fprintf(&q, " LIMIT %d", owedPage)
	rows, err := s.master.QueryContext(ctx, q.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []owed
	for rows.Next() {
		var r owed
		var owner, payload []byte
		if err := rows.Scan(&owner, &r.seq, &payload); err != nil {
			return nil, err
		}
		copy(r.owner[:], owner)
		if r.counts, err = parseCounts(payload); err != nil {
			// Nothing can be made of it, and it must not keep the others waiting.
			s.log.Error("dropped a damaged outbox row", "err", err)
			s.m.outbox.WithLabelValues("dropped").Inc()
			r.counts = nil
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// housekeep looks through the outbox and forgets old client_msg_ids, until ctx ends.
func (s *Store) housekeep(ctx context.Context) {
	tick := time.NewTicker(s.o.Housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.recover(ctx, s.o.OutboxAge); err != nil && ctx.Err() == nil {
			s.log.Warn("outbox not looked through", "err", err)
		}
		if err := s.forgetClientIDs(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("old client message ids not removed", "err", err)
		}
	}
}

// forgetClientIDs removes client_msg_ids that are older than they are remembered, a bounded number at a time.
func (s *Store) forgetClientIDs(ctx context.Context) error {
	for {
		res, err := s.master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMClientMsgId WHERE created<=%d LIMIT 1000", s.clientIDLimit()))
		if err != nil {
			return s.dbError("remove old client message ids", err)
		}
		if n, err := res.RowsAffected(); err != nil || n < 1000 {
			return err
		}
	}
}

// clearOutbox removes the rows of slots whose counts are applied, when the store closes.
func (s *Store) clearOutbox(ctx context.Context, slots []*slot) error {
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
