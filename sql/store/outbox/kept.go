package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"teamtalk/sql/store/database"
)

// Redis acknowledges counts that it may lose: a server that restarts lacks what it had not
// written to its file, up to two seconds with appendfsync everysec, and a replica that takes
// over lacks what had not reached it. So the transaction of a batch also writes its counts to
// the table IMUnreadKept, where they stay for KeptFor. When Redis has lost some, they are
// applied again (reapply.go).

// KeptFor is the time for which counts are kept, from the commit on. It must last until a
// replica has taken over. In a Redis Cluster this takes cluster-node-timeout, 15 s by default,
// and some seconds more. While Redis does not answer, counts are kept for longer.
const KeptFor = time.Minute

// keptLongest is the longest time for which counts are kept. It is shorter than the life of a
// mark in a full hash of a cluster, see applyOneScript: a count without its mark would be
// applied twice.
const keptLongest = 9 * time.Minute

// maxKept bounds the rows of IMUnreadKept. With more the oldest ones are removed. A row has
// about 20 bytes and 6 for each conversation of a batch.
const maxKept = 200_000

// markID identifies a mark: that of an owner, in a cluster that of an owner in a key.
type markID struct {
	owner uuid.UUID
	key   string // "" on one server
}

// marksOf returns the marks that are set when the counts of r are applied.
func (s *Outbox) marksOf(r owedRow) []markID {
	if len(r.owed.Counts)+len(r.owed.Groups) == 0 {
		return nil
	}
	if !s.db.Redis.Cluster {
		return []markID{{owner: r.owner}}
	}
	keys := keysOf(r.owed)
	ids := make([]markID, len(keys))
	for i, key := range keys {
		ids[i] = markID{r.owner, key}
	}
	return ids
}

// Earlier has for each mark the number of the last batch that an owner has applied, or of
// the last one before a given batch. Without an entry it is not known.
//
// A mark says that all batches up to its number are applied. This holds because an owner
// applies its batches in order, and because Redis loses the last changes of a server, never
// one in between. So a batch after a loss must not be applied before the lost ones: its mark
// would hide them. The scripts compare the mark with the number of the batch before, and
// refuse the batch if the mark is lower.
type Earlier map[markID]uint64

// add records that r is the last batch of its owner.
func (e Earlier) add(r owedRow, ids []markID) {
	for _, id := range ids {
		e[id] = max(e[id], r.seq)
	}
}

// forget removes the entries of batches that are not kept any more when batch seq is stored.
func (e Earlier) forget(seq uint64) {
	for id, last := range e {
		if last+uint64(KeptFor.Microseconds()) < seq {
			delete(e, id)
		}
	}
}

// Begin gives a slot the number of its next transaction. Numbers are times by the database's
// clock, in microseconds. So the batches of several owners have an order, too.
func (s *Outbox) Begin(sl *Slot) {
	sl.seq = max(sl.seq+1, uint64(s.db.Time().UnixMicro()))
}

// writeKept writes to IMUnreadKept what the transaction of a batch owes to Redis. A batch of
// 64 messages costs MariaDB 1.51 ms of a processor with it, and 1.30 without (median of three
// runs of BenchmarkAppend/64).
func writeKept(ctx context.Context, tx database.Execer, sl *Slot, owed Dues) error {
	b := fmt.Appendf(sl.Buf[:0], "INSERT INTO IMUnreadKept (created, owner, seq, payload) "+
		"VALUES (UNIX_TIMESTAMP(), x'%x', %d, ", sl.owner[:], sl.seq)
	b = append(database.AppendHex(b, AppendDues(nil, owed)), ')')
	sl.Buf = database.Emptied(b)
	return tx.Add(ctx, b)
}

// keptRows reads the kept counts, in the order of their numbers.
func (s *Outbox) keptRows(ctx context.Context) ([]owedRow, error) {
	return s.keptWhere(ctx, "created>"+ago(keptLongest))
}

// keptWhere reads the kept counts that a condition selects, in the order of their numbers.
func (s *Outbox) keptWhere(ctx context.Context, where string) ([]owedRow, error) {
	rows, err := s.rowsOf(ctx, fmt.Sprintf("SELECT owner, seq, payload FROM IMUnreadKept "+
		"WHERE %s ORDER BY created DESC LIMIT %d", where, maxKept))
	if err != nil {
		return nil, s.db.SQLError("read the kept counts", err)
	}
	slices.SortFunc(rows, func(a, b owedRow) int { return cmp.Compare(a.seq, b.seq) })
	return rows, nil
}

// before returns for the marks of rows the last kept batch before each row.
func (s *Outbox) before(ctx context.Context, rows []owedRow) (Earlier, error) {
	last := map[uuid.UUID]uint64{}
	for _, r := range rows {
		last[r.owner] = r.seq
	}
	kept, err := s.keptWhere(ctx, fmt.Sprintf("created>%s AND owner IN (%s)", ago(keptLongest),
		hexList(slices.Collect(maps.Keys(last)))))
	if err != nil {
		return nil, err
	}
	e := Earlier{}
	for _, r := range kept {
		if r.seq < last[r.owner] {
			e.add(r, s.marksOf(r))
		}
	}
	return e, nil
}

// keptPage is the number of rows that ForgetKept removes at once.
const keptPage = 5000

// ForgetKept removes the counts beyond maxKept, and those that are older than KeptFor if none
// is lost, otherwise than keptLongest. The rows are in the order of their time, so this reads
// no others.
func (s *Outbox) ForgetKept(ctx context.Context) error {
	age := keptLongest
	if err := s.Watch(ctx); err == nil {
		age = KeptFor
	}
	err := s.TrimKept(ctx, ago(age), maxKept)
	if database.Transient(err) {
		return nil // another node of a Galera cluster has removed them
	}
	return s.db.SQLError("remove kept counts", err)
}

// ago returns the time of a duration ago, in SQL.
func ago(age time.Duration) string {
	return fmt.Sprintf("UNIX_TIMESTAMP()-%d", int64(age/time.Second))
}

// TrimKept removes the rows from before age, a time of SQL, and those of the seconds that end
// before the newest rows, as many as most.
func (s *Outbox) TrimKept(ctx context.Context, age string, most int) error {
	var oldest uint32
	err := s.db.Master.QueryRowContext(ctx, fmt.Sprintf("SELECT created FROM IMUnreadKept "+
		"ORDER BY created DESC LIMIT 1 OFFSET %d", most)).Scan(&oldest)
	if err == nil {
		age = fmt.Sprintf("GREATEST(%s, %d)", age, oldest+1)
	}
	for n := int64(keptPage); (err == nil || err == sql.ErrNoRows) && n == keptPage; {
		var res sql.Result
		if res, err = s.db.Master.ExecContext(ctx, fmt.Sprintf("DELETE FROM IMUnreadKept "+
			"WHERE created<%s ORDER BY created, owner, seq LIMIT %d", age, keptPage)); err == nil {
			n, err = res.RowsAffected()
		}
	}
	if err == sql.ErrNoRows {
		return nil
	}
	return err
}
