package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/schema"
)

// conversation is what is known of two users' conversation, or a group's, without asking: one entry of the cache. An entry may be dropped at any time; the
// next use asks the databases again.
type conversation struct {
	key     uint64 // im.ConversationKey or im.GroupKey
	thread  thread
	expires int64    // unix nanoseconds; 0 for never
	sides   [2]*side // session rows of the smaller and the bigger user; those of a group's members are in Store.senders

	// The rest is used by the batch that stores to the conversation; callers run one at a time, the lock is for those who do not.
	mu       sync.Mutex
	floor    uint32 // highest message id known to be given
	verified uint64 // epoch in which floor was compared with the table; 0 for never
	chatted  uint32 // a group's lastChated is at or after this unix second, by us
}

// thread is where a conversation's messages are, and what they are numbered under: a relation or a group.
type thread struct {
	group bool
	id    uint32 // IMRelationShip.id, or IMGroup.id
}

// table is where a thread's messages are.
func (t thread) table() string {
	if t.group {
		return fmt.Sprintf("IMGroupMessage_%d", t.id%schema.Tables)
	}
	return fmt.Sprintf("IMMessage_%d", t.id%schema.Tables)
}

// slot numbers the tables of messages: those of relations, then those of groups.
func (t thread) slot() uint32 { return t.id%schema.Tables + t.kind()*schema.Tables }

// kind is how queries tell the two: 1 for a group.
func (t thread) kind() uint32 {
	if t.group {
		return 1
	}
	return 0
}

// column is what a table of messages has the thread's id in.
func (t thread) column() string {
	if t.group {
		return "groupId"
	}
	return "relateId"
}

// columns are those of a message, in the order that scanMessages reads.
func (t thread) columns() string {
	if t.group {
		return "1, groupId, msgId, userId, groupId, type, created, content"
	}
	return "0, relateId, msgId, fromId, toId, type, created, content"
}

// counter is the key of its message ids in Redis.
func (t thread) counter() string {
	if t.group {
		return "group_msg_id_" + strconv.FormatUint(uint64(t.id), 10)
	}
	return "msg_id_" + strconv.FormatUint(uint64(t.id), 10)
}

// LogValue names it in logs.
func (t thread) LogValue() slog.Value { return slog.StringValue(t.counter()) }

// compareThreads is the order in which threads are gone through, the same everywhere, so that two transactions cannot wait for each other.
func compareThreads(a, b thread) int {
	if a.group != b.group {
		if b.group {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.id, b.id)
}

// sides are the two users of a conversation, the smaller id first; of a group 0 and the group.
func sides(key uint64) (small, big uint32) { return uint32(key >> 32), uint32(key) }

// groupOf returns the group that a conversation's key is of, 0 for that of two users, of whom none is 0.
func groupOf(key uint64) uint32 {
	if small, big := sides(key); small == 0 {
		return big
	}
	return 0
}

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
func (s *Store) remember(key uint64, t thread) *conversation {
	c := &conversation{key: key, thread: t}
	if !t.group {
		c.sides = [2]*side{{}, {}}
		if !s.finalized {
			c.expires = s.now().Add(relationTTL).UnixNano()
		}
	}
	if old, ok := s.conversations.Peek(key); ok && old.thread == t {
		old.mu.Lock()
		c.floor, c.verified, c.chatted = old.floor, old.verified, old.chatted
		old.mu.Unlock()
		c.sides = old.sides
	}
	s.conversations.Add(key, c)
	return c
}

// find returns the conversations of these pairs of users that exist, from the cache and for the rest from db. A pair with user 0, of which there is none, looks
// like a group's key, and has no conversation.
func (s *Store) find(ctx context.Context, db querier, keys []uint64) (map[uint64]*conversation, error) {
	found := make(map[uint64]*conversation, len(keys))
	var missing []uint64
	for _, k := range keys {
		if groupOf(k) != 0 {
			continue
		}
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
		found[k] = s.remember(k, thread{id: r.id})
	}
	return found, nil
}

// findOrCreate returns the conversations of these keys; the relations of pairs are made where they are not there, groups are known to be.
func (s *Store) findOrCreate(ctx context.Context, keys []uint64) (map[uint64]*conversation, error) {
	found, err := s.find(ctx, s.master, keys)
	if err != nil {
		return nil, err
	}
	var missing []uint64
	for _, k := range keys {
		if g := groupOf(k); g != 0 {
			if found[k] = s.cached(k); found[k] == nil {
				found[k] = s.remember(k, thread{group: true, id: g})
			}
		} else if found[k] == nil {
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
			found[k] = s.remember(k, thread{id: r.id})
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
		discard(conn)
	}
}
