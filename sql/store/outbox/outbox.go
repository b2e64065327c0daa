// Package outbox applies to Redis what committed transactions owe to it, once, whatever process
// crashes and whatever Redis loses. It also finds out whether a commit whose answer was lost has
// taken effect.
package outbox

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/database"
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

// Outbox is the part that applies to Redis what committed transactions owe to it.
type Outbox struct {
	db        *database.DB
	retired   owners
	reapplies chan struct{} // held by the one that applies kept counts
	outcomes  *prometheus.CounterVec

	mu      sync.Mutex // guards the following
	watched watched
	again   map[Pair]bool // sides whose counts were applied again

	// ReachTimeout is reachTimeout. Tests set it before the first batch.
	ReachTimeout time.Duration

	// ApplyChange updates Redis after a change of a group's members.
	ApplyChange func(context.Context, MemberChange) error
	// ChangeAgain does so for a change that Redis may have lost.
	ChangeAgain func(context.Context, MemberChange) error
	// ReadAgain repeats reads, among them those of the sides whose counts were applied again.
	ReadAgain func(context.Context, []Pair) error
	// NoteRead remembers that a user has read or sent a number of a group's messages.
	NoteRead func(user, group uint32, count int64)
}

// New makes the part. The caller sets the functions that it calls.
func New(db *database.DB) *Outbox {
	return &Outbox{db: db, ReachTimeout: reachTimeout, retired: owners{set: map[uuid.UUID]bool{}},
		reapplies: make(chan struct{}, 1), watched: watched{set: map[watchedBy]markSet{}},
		again: map[Pair]bool{},
		outcomes: db.Metrics.CounterVec("outbox", "Outbox rows by outcome: applied after the "+
			"commit, deferred because Redis was unavailable, recovered later, or dropped as "+
			"damaged. Reapplied counts the batches that Redis may have lost.", "what")}
}

// Pair is a user and a peer whose messages the user reads.
type Pair struct{ User, Peer uint32 }

// Slot is the right to store one batch at a time. It is also an owner of counts.
type Slot struct {
	owner uuid.UUID
	seq   uint64 // number of the owner's last transaction
	Buf   []byte // buffer for a statement

	applied Earlier // the last batches that are applied
	batches int     // that were applied

	Script []byte // buffer for the script of a transaction
}

// Proof returns the proof of the slot's last transaction.
func (sl *Slot) Proof() database.Proof { return database.Proof{Owner: sl.owner, Seq: sl.seq} }

// NewSlot makes a slot with a new owner.
func NewSlot() *Slot { return &Slot{owner: uuid.New(), applied: Earlier{}} }

// Write writes what a transaction owes to Redis: to the outbox, where it stays until it
// is applied, and to the counts that are kept in case Redis loses them.
func Write(ctx context.Context, tx database.Execer, sl *Slot, owed Dues) error {
	if err := writeOwed(ctx, tx, sl, owed); err != nil {
		return err
	}
	return writeKept(ctx, tx, sl, owed)
}

// writeOwed writes to the outbox what the transaction owes to Redis. The statement fails when the
// row has its number already, or a later one: then the transaction comes too late, see barred.
func writeOwed(ctx context.Context, tx database.Execer, sl *Slot, owed Dues) error {
	b := append(sl.Buf[:0], "INSERT INTO IMUnreadOutbox (owner, seq, payload, created) VALUES ("...)
	b = database.AppendHex(b, sl.owner[:])
	b = append(b, ',')
	b = strconv.AppendUint(b, sl.seq, 10)
	b = append(b, ',')
	b = database.AppendHex(b, AppendDues(nil, owed))
	b = append(b, ",UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE "+
		"seq=IF(seq<VALUES(seq), VALUES(seq), NULL), payload=VALUES(payload), "+
		"created=VALUES(created)"...)
	sl.Buf = database.Emptied(b)
	return tx.Add(ctx, b)
}

// Retire leaves the owner's row to housekeeping, and gives the slot a new owner.
func (s *Outbox) Retire(sl *Slot) {
	s.retired.add(sl.owner)
	sl.renew()
}

// renew gives the slot a new owner. The row of the old one is left to its age.
func (sl *Slot) renew() { sl.owner, sl.seq, sl.applied = uuid.New(), 0, Earlier{} }

// Leave leaves the last row of a slot, which is not used again, to housekeeping.
func (s *Outbox) Leave(sl *Slot) { s.retired.add(sl.owner) }

// Drop removes the last row of a slot, whose changes are applied.
func (s *Outbox) Drop(ctx context.Context, sl *Slot) error {
	return s.dropOwed(ctx, sl.owner, sl.seq)
}

// Settle applies the counts of a batch that was just committed. It does not fail: the
// outbox keeps counts that Redis does not take, and housekeeping applies them later. The
// commands that also adds are sent in the same pipeline, behind the counts; nil: there are none.
// They may not be sent, when the counts are not.
func (s *Outbox) Settle(ctx context.Context, sl *Slot, owed Dues, also func(redis.Pipeliner)) {
	if also == nil {
		also = none
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.db.Hooks.Run(s.db.Hooks.AfterCommit)
	if err == nil {
		_, err = s.applyWith(ctx, sl.owner, sl.seq, owed, sl.applied, also)
	}
	if isLoss(err) {
		err = s.afterLoss(ctx, sl, owed)
	}
	if err == nil {
		s.noteApplied(ctx, sl, owed)
	}
	if err == nil {
		err = s.db.Hooks.Run(s.db.Hooks.AfterCount)
	}
	if err == nil {
		s.outcomes.WithLabelValues("applied").Inc()
		return
	}
	s.outcomes.WithLabelValues("deferred").Inc()
	s.db.Log.Warn("unread counts wait for Redis in the outbox", "seq", sl.seq, "err", err)
	s.Retire(sl)
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

// list returns up to n of the owners that are not among but.
func (o *owners) list(n int, but map[uuid.UUID]bool) []uuid.UUID {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []uuid.UUID
	for id := range o.set {
		if len(ids) == n {
			break
		}
		if !but[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// owedRow is a row of the outbox.
type owedRow struct {
	owner uuid.UUID
	seq   uint64
	owed  Dues
}

// stuckRows bounds the rows that one run of recover leaves in the outbox. The next run
// begins with other rows, because a row that is left becomes the youngest.
const stuckRows = 200

// Recover applies and removes the outbox rows that are at least age old, and those of
// retired owners. It returns the number of rows removed, and the first error of a row that
// is left. Counts are applied once however often they are tried, so a row of a live owner
// does no harm; age only saves work. Counts are applied before changes of members, because
// a new member must not have unread messages from before.
//
// A row that cannot be applied does not stop the rows behind it: its keys may be in a slot
// of a cluster that is not available, or the hash of members in another Redis. A server that
// takes no counts at all does.
func (s *Outbox) Recover(ctx context.Context, age time.Duration) (int, error) {
	total := 0
	var first error
	stuck := map[uuid.UUID]bool{}
	for {
		rows, err := s.owedRows(ctx, age, stuck)
		if err != nil {
			return total, s.db.SQLError("read the outbox", err)
		}
		var before Earlier
		if len(rows) > 0 {
			if before, err = s.before(ctx, rows); err != nil {
				return total, err
			}
		}
		slices.SortStableFunc(rows, func(a, b owedRow) int {
			return cmp.Compare(len(a.owed.Changes), len(b.owed.Changes))
		})
		for _, r := range rows {
			left, err := s.recoverRow(ctx, r, before)
			if err == nil {
				total++
				continue
			}
			if len(r.owed.Changes) == 0 && !s.db.Redis.Cluster && !isLoss(err) {
				return total, err
			}
			first = cmp.Or(first, err)
			if err := s.postpone(ctx, r, left); err != nil {
				return total, err
			}
			stuck[r.owner] = true
		}
		if len(rows) < owedPage || len(stuck) >= stuckRows || ctx.Err() != nil {
			return total, first
		}
	}
}

// recoverRow applies and removes one row. With an error, left is what the row still owes.
func (s *Outbox) recoverRow(ctx context.Context, r owedRow,
	before Earlier) (left Dues, err error) {
	left, err = s.applyOwed(ctx, r, before)
	left.Changes = r.owed.Changes
	if err != nil {
		return left, err
	}
	for _, c := range r.owed.Changes {
		if err := s.ApplyChange(ctx, c); err != nil {
			return left, err
		}
	}
	if err := s.dropOwed(ctx, r.owner, r.seq); err != nil {
		return r.owed, err
	}
	s.outcomes.WithLabelValues("recovered").Inc()
	return Dues{}, nil
}

// postpone writes what a row still owes, and moves it behind the others. A row of a retired
// owner is tried again by the next run of recover, other rows after another age.
func (s *Outbox) postpone(ctx context.Context, r owedRow, left Dues) error {
	_, err := s.db.Master.ExecContext(ctx, fmt.Sprintf("UPDATE IMUnreadOutbox "+
		"SET created=UNIX_TIMESTAMP(), payload=x'%x' WHERE owner=x'%x' AND seq=%d",
		AppendDues(nil, left), r.owner[:], r.seq))
	return s.db.SQLError("postpone a row of the outbox", err)
}

// dropOwed removes a row whose counts are applied.
func (s *Outbox) dropOwed(ctx context.Context, owner uuid.UUID, seq uint64) error {
	_, err := s.db.Master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMUnreadOutbox "+
		"WHERE owner=x'%x' AND seq=%d", owner[:], seq))
	if err != nil {
		return s.db.SQLError("clear the outbox", err)
	}
	s.retired.remove(owner)
	return nil
}

// owedPage is the number of rows that recover reads at once.
const owedPage = 100

// owedRows reads the rows to recover that are not stuck. Ages use the clock of the
// database, which all processes share.
func (s *Outbox) owedRows(ctx context.Context, age time.Duration,
	stuck map[uuid.UUID]bool) ([]owedRow, error) {
	where := fmt.Sprintf("created<=UNIX_TIMESTAMP()-%d", int64(age/time.Second))
	if ids := s.retired.list(owedPage, stuck); len(ids) > 0 {
		where = fmt.Sprintf("(%s OR owner IN (%s))", where, hexList(ids))
	}
	if len(stuck) > 0 {
		where += " AND owner NOT IN (" + hexList(slices.Collect(maps.Keys(stuck))) + ")"
	}
	return s.readOwed(ctx, where, owedPage)
}

// hexList returns owners as a list of SQL.
func hexList(ids []uuid.UUID) string {
	var q strings.Builder
	for i, id := range ids {
		if i > 0 {
			q.WriteByte(',')
		}
		q.WriteString("x'" + hex.EncodeToString(id[:]) + "'")
	}
	return q.String()
}

// readOwed reads the rows that a condition selects, oldest first.
func (s *Outbox) readOwed(ctx context.Context, where string, limit int) ([]owedRow, error) {
	return s.rowsOf(ctx, fmt.Sprintf("SELECT owner, seq, payload "+
		"FROM IMUnreadOutbox WHERE %s ORDER BY created LIMIT %d", where, limit))
}

// rowsOf reads the rows of a query for owner, seq and payload.
func (s *Outbox) rowsOf(ctx context.Context, query string) ([]owedRow, error) {
	rows, err := s.db.Master.QueryContext(ctx, query)
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
			s.db.Log.Error("dropped a damaged outbox row", "err", err)
			s.outcomes.WithLabelValues("dropped").Inc()
			r.owed = Dues{}
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// Clear removes the rows of slots whose counts are applied. Close calls it.
func (s *Outbox) Clear(ctx context.Context, slots []*Slot) error {
	var ids []uuid.UUID
	for _, sl := range slots {
		if sl.seq > 0 {
			ids = append(ids, sl.owner)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := s.db.Master.ExecContext(ctx, "DELETE FROM IMUnreadOutbox WHERE owner IN ("+
		hexList(ids)+")")
	return err
}

// owedLimit bounds the outbox rows that are read for the counts of a group. The outbox
// has one row per worker, and more only after Redis was unavailable.
const owedLimit = 1000

// CountGroup applies the counts of a group that are in the outbox. The rows remain,
// because their workers may be about to apply them too.
func (s *Outbox) CountGroup(ctx context.Context, group uint32) error {
	rows, err := s.readOwed(ctx, "TRUE", owedLimit)
	if err != nil {
		return s.db.SQLError("read the outbox", err)
	}
	for _, r := range rows {
		if !slices.ContainsFunc(r.owed.Groups, func(g GroupCount) bool {
			return g.Group == group
		}) {
			continue
		}
		if s.db.Redis.Cluster { // each key has its mark, and others may be unavailable
			r.owed = r.owed.only(map[string]bool{GroupKey(group): true})
		}
		if done, err := s.applied(ctx, r.owner, r.seq, r.owed); done || err != nil {
			if err != nil {
				return err
			}
			continue // nearly always
		}
		before, err := s.before(ctx, []owedRow{r})
		if err != nil {
			return err
		}
		if _, err := s.applyOwed(ctx, r, before); err != nil {
			return err
		}
	}
	return nil
}
