// Package conversation finds and creates the conversations of users and groups, caches their
// state, and gives the ids of their messages.
package conversation

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Cache is the part that finds and creates the conversations of users and groups.
type Cache struct {
	db    *database.DB
	cache *lru.Cache[uint64, *Conversation]
	sent  sentTotal
}

// NewCache makes the part with a cache of conversations.
func NewCache(db *database.DB, size int) (*Cache, error) {
	cache, err := lru.NewWithEvict(size, func(_ uint64, c *Conversation) { c.evicted() })
	return &Cache{db: db, cache: cache}, err
}

// Conversation is an entry of the cache: the state of a conversation between two users,
// or in a group. An entry may be evicted at any time. The next use reads the databases
// again.
type Conversation struct {
	key     uint64 // im.ConversationKey or im.GroupKey
	Thread  Thread
	expires int64 // mono.Of; 0 for never
	// session rows of the smaller and the bigger user; sessions.Sessions has those of
	// groups
	Sides [2]*Side

	// The batch that stores to the conversation uses the fields below. One batch at a
	// time does; the lock is for callers that break this rule.
	mu       sync.Mutex
	floor    uint32 // highest message id known to be given
	drawn    uint32 // highest message id that this process has drawn
	stored   uint32 // highest message id that this process knows to have stored
	settled  uint32 // no message with this id, or a lower one, is being stored; see unsettled.go
	sent     sentMemory
	total    *sentTotal // of the cache
	mark     any        // see markKey
	marked   marked
	verified uint64 // epoch in which floor was compared with the table; 0: none
	chatted  uint32 // this process set a group's lastChated to this unix second or later
}

// Users returns the two users, the smaller id first.
func (c *Conversation) Users() (small, big uint32) { return sides(c.key) }

// ChattedBefore reports whether this process has not set the group's lastChated to second or
// later.
func (c *Conversation) ChattedBefore(second uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chatted < second
}

// SetChatted records that this process has set the group's lastChated to second.
func (c *Conversation) SetChatted(second uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chatted = max(c.chatted, second)
}

// LastSettled returns the id up to which no message is being stored.
func (c *Conversation) LastSettled() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settled
}

// Settle records that no message with this id, or a lower one, is being stored.
func (c *Conversation) Settle(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id > c.settled {
		c.settled = id
		c.forgetSent() // other processes may have stored messages in between
	}
}

// SettleNext records that m is stored with this id, if it follows the last one that is settled.
func (c *Conversation) SettleNext(id uint32, m *im.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.settled+1 {
		c.settled++
		c.addSent(m)
	}
}

// Stored records that this process has stored the message with this id.
func (c *Conversation) Stored(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored = max(c.stored, id)
}

// Distrust makes the next draw compare the counter of message ids with the table.
func (c *Conversation) Distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = 0
}

// SideOf returns the cached state of a user's session row for a peer, nil when the cache does
// not have the conversation.
func (s *Cache) SideOf(user, peer uint32) *Side {
	c, ok := s.cache.Peek(im.ConversationKey(user, peer))
	switch {
	case !ok:
		return nil
	case user > peer:
		return c.Sides[1]
	default:
		return c.Sides[0]
	}
}

// sides returns the two users of a conversation, the smaller id first. For a group it
// returns 0 and the group.
func sides(key uint64) (small, big uint32) { return uint32(key >> 32), uint32(key) }

// groupOf returns the group of a conversation's key, or 0 when the conversation is
// between two users. No user has id 0.
func groupOf(key uint64) uint32 {
	if small, big := sides(key); small == 0 {
		return big
	}
	return 0
}

// relationTTL is the time for which the cache keeps a relation before finalize. Until
// finalize a C++ server may create a second row for a pair and use that one from then on.
// This process follows after relationTTL.
const relationTTL = 60 * time.Second

// ChatMargin is the longest time, in seconds, between a group's lastChated and its commit.
// C++ db_proxies write the time of a message, so for them it includes the lag of message
// servers' clocks.
const ChatMargin = 60

// Cached returns the conversation of a pair from the cache, nil when it is missing or
// expired.
func (s *Cache) Cached(key uint64) *Conversation {
	c, ok := s.cache.Get(key)
	if !ok || c.expires != 0 && mono.Of(s.db.ProcessTime()) > c.expires {
		return nil
	}
	return c
}

// remember adds a conversation to the cache. The ids and sessions of an expired entry for
// the same thread are kept.
func (s *Cache) remember(key uint64, t Thread) *Conversation {
	c := &Conversation{key: key, Thread: t, total: &s.sent}
	if !t.Group {
		c.Sides = [2]*Side{{}, {}}
		if !s.db.Finalized {
			c.expires = mono.Of(s.db.ProcessTime().Add(relationTTL))
		}
	}
	if old, ok := s.cache.Peek(key); ok && old.Thread == t {
		old.mu.Lock()
		c.floor, c.verified, c.chatted = old.floor, old.verified, old.chatted
		c.settled, c.drawn, c.stored = old.settled, old.drawn, old.stored
		old.forgetSent() // it would count twice
		old.sent.gone = true
		old.mu.Unlock()
		c.Sides = old.Sides
	}
	s.cache.Add(key, c)
	return c
}

// Find returns the existing conversations of these pairs of users, from the cache and
// otherwise from db. It skips keys of groups. A pair with user 0 has the form of a
// group's key; no user has id 0, so it has no conversation.
func (s *Cache) Find(ctx context.Context, db database.Querier,
	keys []uint64) (map[uint64]*Conversation, error) {
	found := make(map[uint64]*Conversation, len(keys))
	var missing []uint64
	for _, k := range keys {
		if groupOf(k) != 0 {
			continue
		}
		if c := s.Cached(k); c != nil {
			found[k] = c
		} else {
			missing = append(missing, k)
		}
	}
	relations, err := RelationsOf(ctx, db, missing)
	if err != nil {
		return nil, s.db.SQLError("look up relations", err)
	}
	for k, r := range relations {
		found[k] = s.remember(k, Thread{ID: r.ID})
	}
	return found, nil
}

// FindOrCreate returns the conversations of these keys. It creates the missing relations
// of pairs. Groups must exist.
func (s *Cache) FindOrCreate(ctx context.Context,
	keys []uint64) (map[uint64]*Conversation, error) {
	found, err := s.Find(ctx, s.db.Master, keys)
	if err != nil {
		return nil, err
	}
	var missing []uint64
	for _, k := range keys {
		if g := groupOf(k); g != 0 {
			if found[k] = s.Cached(k); found[k] == nil {
				found[k] = s.remember(k, Thread{Group: true, ID: g})
			}
		} else if found[k] == nil {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	slices.Sort(missing) // the same order everywhere prevents deadlocks between processes
	err = s.db.Retry(ctx, func() error {
		made, err := s.createRelations(ctx, missing)
		for k, r := range made {
			found[k] = s.remember(k, Thread{ID: r.ID})
		}
		return err
	})
	if err != nil {
		return nil, s.db.SQLError("create relations", err)
	}
	return found, nil
}

// Relation is a row of IMRelationShip.
type Relation struct {
	ID      uint32
	status  uint32
	updated uint32
}

// RelationsOf returns the relation of each pair that has one. Before finalize a pair may
// have several relations. Then the result is the one that C++ servers use: not removed,
// updated last, with the highest id.
func RelationsOf(ctx context.Context, db database.Querier, keys []uint64) (map[uint64]Relation,
	error) {
	found := make(map[uint64]Relation, len(keys))
	err := database.InChunks(keys, database.Chunk, func(part []uint64) error {
		var q strings.Builder
		q.WriteString("SELECT id, smallId, bigId, COALESCE(status, 0), updated " +
			"FROM IMRelationShip WHERE ")
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
			var r Relation
			var small, big uint32
			if err := rows.Scan(&r.ID, &small, &big, &r.status, &r.updated); err != nil {
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

// better reports whether a is to be used instead of b.
func better(a, b Relation) bool {
	if a.status != b.status {
		return a.status < b.status
	}
	if a.updated != b.updated {
		return a.updated > b.updated
	}
	return a.ID > b.ID
}

// createRelations creates the relations of pairs that had none at the last look. Another
// process may do the same at this time. The unique key prevents a second row; before
// finalize a lock and a second look do.
func (s *Cache) createRelations(ctx context.Context,
	keys []uint64) (map[uint64]Relation, error) {
	if s.db.Finalized {
		if err := insertRelations(ctx, s.db.Master, keys, uint32(s.db.Time().Unix())); err != nil {
			return nil, err
		}
		return RelationsOf(ctx, s.db.Master, keys)
	}
	conn, err := s.db.Master.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var made map[uint64]Relation
	err = s.db.Exclusively(ctx, conn, "create", func(tx *sql.Tx) error {
		there, err := RelationsOf(ctx, tx, keys)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(keys), func(k uint64) bool {
			_, ok := there[k]
			return ok
		})
		if err := insertRelations(ctx, tx, missing, uint32(s.db.Time().Unix())); err != nil {
			return err
		}
		made, err = RelationsOf(ctx, tx, keys)
		return err
	})
	return made, err
}

// insertRelations inserts rows. It skips rows that a unique key rejects.
func insertRelations(ctx context.Context, db database.Querier, keys []uint64, now uint32) error {
	return database.InChunks(keys, database.Chunk, func(part []uint64) error {
		var q strings.Builder
		q.WriteString("INSERT IGNORE INTO IMRelationShip " +
			"(smallId, bigId, status, created, updated) VALUES ")
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

// Of returns the conversation of two users, nil when they have none.
func (s *Cache) Of(ctx context.Context, db database.Querier,
	user, peer uint32) (*Conversation, error) {
	key := im.ConversationKey(user, peer)
	found, err := s.Find(ctx, db, []uint64{key})
	if err != nil {
		return nil, err
	}
	return found[key], nil
}

// LastGiven returns the highest message id that was given in a conversation: that of the
// counter in Redis, or a higher one that this process knows.
func (c *Conversation) LastGiven(counter string) uint32 {
	n, err := strconv.ParseUint(counter, 10, 32)
	if err != nil {
		n = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(uint32(n), c.floor)
}

// Peer identifies a conversation in a user's list.
type Peer struct {
	ID   uint32
	Kind pb.SessionType
}

// Compare orders conversations: users come before groups.
func (p Peer) Compare(o Peer) int {
	return cmp.Or(cmp.Compare(p.Kind, o.Kind), cmp.Compare(p.ID, o.ID))
}
