package outbox

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/redisconn"
)

// A rebuild counts the messages in the tables beside processes that store messages. A batch
// is committed before its counts are in Redis. A rebuild that counts its messages between
// the two would raise the count, and the batch would then add them again. So after it has
// counted, a rebuild looks for batches that owe counts to the same keys, and counts anew
// until there is none. Batches that were applied meanwhile have changed the count in Redis,
// which the rebuild notices.

// Owing finds the keys to which committed batches owe counts, for one rebuild. A batch that is
// not applied is in the outbox. One that was applied may be owed again after Redis has lost it,
// so the kept counts are searched, too. They are read as a whole once, and again when
// rereadAfter has passed. In between only those that were added are read.
type Owing struct {
	outbox *Outbox
	kept   map[string]map[uuid.UUID]uint64 // by key and owner: the last kept batch
	oldest uint32                          // created of the first kept row, at the full read
	newest uint32                          // created of the last kept row that was read; 0: none
}

// Owing returns an Owing that has read nothing.
func (s *Outbox) Owing() *Owing {
	return &Owing{outbox: s, kept: map[string]map[uuid.UUID]uint64{}}
}

// Of returns the keys among keys to which a committed batch owes counts.
func (o *Owing) Of(ctx context.Context, keys map[string]bool) (map[string]bool, error) {
	rows, err := o.outbox.readOwed(ctx, "TRUE", claimLimit)
	if err != nil {
		return nil, o.outbox.db.SQLError("read the outbox", err)
	}
	if err := o.readKept(ctx); err != nil {
		return nil, o.outbox.db.SQLError("read the kept counts", err)
	}
	last := Earlier{}
	of := map[markID]map[string]bool{} // the keys that the mark is about
	note := func(key string, owner uuid.UUID, seq uint64) {
		id := markID{owner, key}
		if !o.outbox.db.Redis.Cluster {
			id.key = ""
		}
		last[id] = max(last[id], seq)
		if of[id] == nil {
			of[id] = map[string]bool{}
		}
		of[id][key] = true
	}
	for _, r := range rows {
		for _, key := range keysOf(r.owed) {
			if keys[key] {
				note(key, r.owner, r.seq)
			}
		}
	}
	for key := range keys {
		for owner, seq := range o.kept[key] {
			note(key, owner, seq)
		}
	}
	marks, err := o.outbox.readMarks(ctx, slices.Collect(maps.Keys(last)))
	owed := map[string]bool{}
	for id, seq := range last {
		if marks[id] < seq {
			maps.Copy(owed, of[id])
		}
	}
	return owed, err
}

// lateRows is the longest time, in seconds, between the time in a kept row and its commit. A batch
// that takes longer is seen in the outbox until its worker stores another one.
const lateRows = 2

// rereadAfter is the time, in seconds, after which all kept rows are read anew, to forget those
// that are removed.
const rereadAfter = 60

// readKept reads the kept rows that were added since it ran last.
func (o *Owing) readKept(ctx context.Context) error {
	var first, last uint32
	if err := o.outbox.db.Master.QueryRowContext(ctx, "SELECT COALESCE(MIN(created), 0), "+
		"COALESCE(MAX(created), 0) FROM IMUnreadKept").Scan(&first, &last); err != nil {
		return err
	}
	if first > o.oldest+rereadAfter {
		o.kept, o.oldest, o.newest = map[string]map[uuid.UUID]uint64{}, first, 0
	}
	var rows []owedRow
	var err error
	if o.newest == 0 {
		rows, err = o.outbox.keptRows(ctx)
	} else {
		rows, err = o.outbox.keptWhere(ctx, fmt.Sprintf("created>=%d",
			max(o.newest, lateRows)-lateRows))
	}
	if err != nil {
		return err
	}
	o.newest = max(o.newest, last)
	for _, r := range rows {
		for _, key := range keysOf(r.owed) {
			if o.kept[key] == nil {
				o.kept[key] = map[uuid.UUID]uint64{}
			}
			o.kept[key][r.owner] = max(o.kept[key][r.owner], r.seq)
		}
	}
	return nil
}

// markOf returns the number of the last batch whose counts are applied, by the answer with
// its mark. A key that holds no counts takes none, so nothing is owed to it.
func markOf(mark *redis.StringCmd) (uint64, error) {
	v, err := mark.Result()
	switch {
	case err == redis.Nil:
		return 0, nil
	case redisconn.WrongType(err):
		return math.MaxUint64, nil
	case err != nil:
		return 0, err
	}
	return markNumber(v)
}
