package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

// conversation is what is known of two users' conversation without asking: one entry of the cache. An entry may be dropped at any time; the next use asks
// the databases again.
type conversation struct {
	key     uint64 // im.ConversationKey
	relate  uint32 // IMRelationShip.id
	expires int64  // unix nanoseconds; 0 for never

	// The rest is used by the batch that stores to the conversation; callers run one at a time, the lock is for those who do not.
	mu       sync.Mutex
	floor    uint32    // highest message id known to be given
	verified uint64    // epoch in which floor was compared with the table; 0 for never
	rows     [2]uint32 // IMRecentSession.id of the smaller and the bigger user's side; 0 where not known
	second   uint32    // both session rows are listed and updated at or after this unix second, by us
}

// sides are the two users of a conversation, the smaller id first.
func sides(key uint64) (small, big uint32) { return uint32(key >> 32), uint32(key) }

// relationTTL is how long a relation is believed before finalize. Until then C++ servers may make a second row for a pair, which they
// then use; we follow after this time.
const relationTTL = 60 * time.Second

// inChunks calls do with consecutive parts of list of at most n elements.
func inChunks[T any](list []T, n int, do func([]T) error) error {
	for part := range slices.Chunk(list, n) {
		if err := do(part); err != nil {
			return err
		}
	}
	return nil
}

// chunk is how many keys one query asks for at most: optimizers give up on conditions that are much longer.
const chunk = 256

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// cached returns the conversation of a pair if it is known.
func (s *Store) cached(key uint64) *conversation {
	c, ok := s.conversations.Get(key)
	if !ok || c.expires != 0 && s.now().UnixNano() > c.expires {
		return nil
	}
	return c
}

// remember puts a conversation into the cache. What is known of its ids and sessions stays when only its time was over.
func (s *Store) remember(key uint64, relate uint32) *conversation {
	c := &conversation{key: key, relate: relate}
	if !s.finalized {
		c.expires = s.now().Add(relationTTL).UnixNano()
	}
	if old, ok := s.conversations.Peek(key); ok && old.relate == relate {
		old.mu.Lock()
		c.floor, c.verified, c.rows, c.second = old.floor, old.verified, old.rows, old.second
		old.mu.Unlock()
	}
	s.conversations.Add(key, c)
	return c
}

// find returns the conversations of these pairs that exist, from the cache and for the rest from db.
func (s *Store) find(ctx context.Context, db querier, keys []uint64) (map[uint64]*conversation, error) {
	found := make(map[uint64]*conversation, len(keys))
	var missing []uint64
	for _, k := range keys {
		if c := s.cached(k); c != nil {
			found[k] = c
		} else {
			missing = append(missing, k)
		}
	}
	relations, err := relationsOf(ctx, db, missing)
	if err != nil {
		return nil, s.dbError("look up relations", err)
	}
	for k, r := range relations {
		found[k] = s.remember(k, r.id)
	}
	return found, nil
}

// findOrCreate returns the conversations of these pairs, made where they are not there.
func (s *Store) findOrCreate(ctx context.Context, keys []uint64) (map[uint64]*conversation, error) {
	found, err := s.find(ctx, s.master, keys)
	if err != nil {
		return nil, err
	}
	var missing []uint64
	for _, k := range keys {
		if found[k] == nil {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	slices.Sort(missing) // one order everywhere, so that two processes cannot deadlock
	err = s.retry(ctx, func() error {
		made, err := s.createRelations(ctx, missing)
		for k, r := range made {
			found[k] = s.remember(k, r.id)
		}
		return err
	})
	if err != nil {
		return nil, s.dbError("create relations", err)
	}
	return found, nil
}

// relation is a row of IMRelationShip.
type relation struct {
	id      uint32
	status  uint32
	updated uint32
}

// relationsOf returns the relation of each pair that has one. Before finalize a pair may have several; then it is the one that C++ servers use: not
// removed, updated last, with the highest id.
func relationsOf(ctx context.Context, db querier, keys []uint64) (map[uint64]relation, error) {
	found := make(map[uint64]relation, len(keys))
	err := inChunks(keys, chunk, func(part []uint64) error {
		var q strings.Builder
		q.WriteString("SELECT id, smallId, bigId, COALESCE(status, 0), updated FROM IMRelationShip WHERE ")
		for i, k := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			small, big := sides(k)
			fmt.Fprintf(&q, "(smallId=%d AND bigId=%d)", small, big)
		}
		rows, err := db.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r relation
			var small, big uint32
			if err := rows.Scan(&r.id, &small, &big, &r.status, &r.updated); err != nil {
				return err
			}
			key := im.ConversationKey(small, big)
			if old, ok := found[key]; !ok || better(r, old) {
				found[key] = r
			}
		}
		return rows.Err()
	})
	return found, err
}

// better reports whether a is the relation to use rather than b.
func better(a, b relation) bool {
	if a.status != b.status {
		return a.status < b.status
	}
	if a.updated != b.updated {
		return a.updated > b.updated
	}
	return a.id > b.id
}

// createRelations makes the relations of pairs that had none a moment ago. Against others who do the same there is the unique key, before
// finalize a named lock and a second look.
func (s *Store) createRelations(ctx context.Context, keys []uint64) (map[uint64]relation, error) {
	if s.finalized {
		if err := insertRelations(ctx, s.master, keys, uint32(s.now().Unix())); err != nil {
			return nil, err
		}
		return relationsOf(ctx, s.master, keys)
	}
	var made map[uint64]relation
	err := s.locked(ctx, "create", func(conn *sql.Conn) error {
		there, err := relationsOf(ctx, conn, keys)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(keys), func(k uint64) bool { _, ok := there[k]; return ok })
		if err := insertRelations(ctx, conn, missing, uint32(s.now().Unix())); err != nil {
			return err
		}
		made, err = relationsOf(ctx, conn, keys)
		return err
	})
	return made, err
}

// insertRelations adds rows, passing over those that a unique key keeps out.
func insertRelations(ctx context.Context, db querier, keys []uint64, now uint32) error {
	return inChunks(keys, chunk, func(part []uint64) error {
		var q strings.Builder
		q.WriteString("INSERT IGNORE INTO IMRelationShip (smallId, bigId, status, created, updated) VALUES ")
		for i, k := range part {
			if i > 0 {
				q.WriteByte(',')
			}
			small, big := sides(k)
			fmt.Fprintf(&q, "(%d,%d,0,%d,%d)", small, big, now, now)
		}
		_, err := db.ExecContext(ctx, q.String())
		return err
	})
}

// lockWait is how long a named lock is waited for, in seconds.
const lockWait = 10

// locked runs do on one connection that holds a named lock of this database.
func (s *Store) locked(ctx context.Context, name string, do func(*sql.Conn) error) error {
	conn, err := s.master.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.lock(ctx, conn, name); err != nil {
		return err
	}
	defer s.unlock(conn, name)
	return do(conn)
}

// lock takes a named lock for a connection.
func (s *Store) lock(ctx context.Context, conn *sql.Conn, name string) error {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", s.locks+name, lockWait).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return im.Errorf(im.Busy, "lock %q is taken for longer than %d s", name, lockWait)
	}
	return nil
}

// unlock gives it back. If that fails so has the connection, and the lock with it.
func (s *Store) unlock(conn *sql.Conn, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", s.locks+name); err != nil {
		// A connection that is not known to have let go must not be used again.
		conn.Raw(func(any) error { return errDiscard })
	}
}

// table is where a relation's messages are.
func table(relate uint32) int { return int(relate % schema.Tables) }
