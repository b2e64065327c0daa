package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/database"
)

// Clients keep the directory, users and departments, and ask for the changes since the
// newest one they have. So a change must not become visible with an earlier time than a
// change that was visible before, nor with a time that a client was told is complete:
// that client would never ask for it. All changes of the directory run one at a time
// under a lock of the database. Each gets a time that is not before any other, whatever
// the clocks of the processes say. C++ servers and other programs do not take the lock;
// their changes are as safe as before.

// changeDirectory runs do in a transaction under the directory's lock. now is the new
// value of updated for the rows of table. With once, a change is not tried again when the
// connection was lost during its commit, because it may be committed.
func (s *Directory) changeDirectory(ctx context.Context, table string, once bool,
	do func(tx *sql.Tx, now int64) error) error {
	var stamp int64
	err := s.db.Retry(ctx, func() error {
		conn, err := s.db.Master.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		err = s.db.Exclusively(ctx, conn, "users", func(tx *sql.Tx) (err error) {
			if stamp, err = s.stamp(ctx, tx, table); err == nil {
				err = do(tx, stamp)
			}
			return err
		})
		if once && errors.Is(err, database.ErrCommit) {
			return fmt.Errorf("%w: %v", database.ErrOutcome, err)
		}
		return err
	})
	if err == nil {
		s.markDirectory(ctx, stamp)
	}
	return err
}

// stamp returns the time of a change: now, or a later one that is not before the newest
// change.
func (s *Directory) stamp(ctx context.Context, tx *sql.Tx, table string) (int64, error) {
	var newest int64
	err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(updated), 0) FROM "+table).Scan(&newest)
	if err != nil {
		return 0, err
	}
	stamps := &s.userStamps
	if table == "IMDepart" {
		stamps = &s.departStamps
	}
	return stamps.Next(newest, s.db.Time().Unix()), nil
}

// directoryMark is the key of the time of the last change of the directory. C++ servers
// read changes from the database only when it is later than the time that the client has.
// Servers of this package do not use it.
const directoryMark = "total_user_update"

// marks sets a time unless a later one is set.
var marks = redis.NewScript(`local v = tonumber(redis.call('GET', KEYS[1]))
if not v or v < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 0`)

// markTimeout bounds the time for which a committed change waits to set its mark.
const markTimeout = 2 * time.Second

// markDirectory sets the mark. The change is committed, so it does not return an error.
// While Redis is unavailable the mark is owed. PayMark or the next change sets it.
func (s *Directory) markDirectory(ctx context.Context, stamp int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	if err := marks.Run(ctx, s.db.Redis.Sync, []string{directoryMark}, stamp).Err(); err != nil {
		s.db.Log.Warn("mark of the directory waits for Redis",
			"err", s.db.RedisError("set the mark of the directory", err))
		s.lateMark.owe(stamp)
	}
}

// PayMark sets the mark if it is owed.
func (s *Directory) PayMark(ctx context.Context) error {
	stamp := s.lateMark.take()
	if stamp == 0 {
		return nil
	}
	if err := marks.Run(ctx, s.db.Redis.Sync, []string{directoryMark}, stamp).Err(); err != nil {
		s.lateMark.owe(stamp)
		return s.db.RedisError("set the mark of the directory", err)
	}
	return nil
}

// lateMark is the latest time that the mark is owed; 0: none.
type lateMark struct{ stamp atomic.Int64 }

func (o *lateMark) take() int64 { return o.stamp.Swap(0) }

func (o *lateMark) owe(stamp int64) {
	for {
		old := o.stamp.Load()
		if old >= stamp || o.stamp.CompareAndSwap(old, stamp) {
			return
		}
	}
}
