package store

import (
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

	lru "github.com/hashicorp/golang-lru/v2"
)

// conversations is the part that finds and creates the conversations of users and groups.
type conversations struct {
	db    *databases
	cache *lru.Cache[uint64, *conversation]
}

// newConversations makes the part with a cache of conversations.
func newConversations(db *databases, size int) (*conversations, error) {
	cache, err := lru.New[uint64, *conversation](size)
	return &conversations{db: db, cache: cache}, err
}

// conversation is an entry of the cache: the state of a conversation between two users,
// or in a group. An entry may be evicted at any time. The next use reads the databases
// again.
type conversation struct {
	key     uint64 // im.ConversationKey or im.GroupKey
	thread  thread
	expires int64 // mono.Of; 0 for never
	// session rows of the smaller and the bigger user; sessions.senders has those of
	// groups
	sides [2]*side

	// The batch that stores to the conversation uses the fields below. One batch at a
	// time does; the lock is for callers that break this rule.
	mu       sync.Mutex
	floor    uint32 // highest message id known to be given
	settled  uint32 // no message with this id, or a lower one, is being stored; see unsettled.go
	mark     any    // see markKey
	verified uint64 // epoch in which floor was compared with the table; 0: none
	chatted  uint32 // this process set a group's lastChated to this unix second or later
}

// users returns the two users, the smaller id first.
func (c *conversation) users() (small, big uint32) { return sides(c.key) }

// chattedBefore reports whether this process has not set the group's lastChated to second or
// later.
func (c *conversation) chattedBefore(second uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chatted < second
}

// setChatted records that this process has set the group's lastChated to second.
func (c *conversation) setChatted(second uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chatted = max(c.chatted, second)
}

// lastSettled returns the id up to which no message is being stored.
func (c *conversation) lastSettled() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settled
}

// settle records that no message with this id, or a lower one, is being stored.
func (c *conversation) settle(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = max(c.settled, id)
}

// settleNext records that the message with this id is stored, if it follows the last one
// that is settled.
func (c *conversation) settleNext(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.settled+1 {
		c.settled++
	}
}

// distrust makes the next draw compare the counter of message ids with the table.
func (c *conversation) distrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = 0
}

// side is the cached state of one user's session row.
type side struct {
	mu      sync.Mutex
	row     uint32 // IMRecentSession.id; 0: unknown
	second  uint32 // this process listed the row with this updated second or a later one
	removed uint32 // how often this process has removed the row
}

// before returns the row's id and the number of its removals, and reports whether this process
// has not listed the row with second or a later one.
func (sd *side) before(second uint32) (row, removed uint32, older bool) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	return sd.row, sd.removed, second > sd.second
}

// setRow records the row's id.
func (sd *side) setRow(row uint32) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	sd.row = row
}

// wrote records that the row is listed with second, unless it was removed since before returned
// this number of removals.
func (sd *side) wrote(second, removed uint32) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if sd.removed == removed {
		sd.second = max(sd.second, second)
	}
}

// forget makes the next message write the row, whatever its second.
func (sd *side) forget() {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	sd.second = 0
	sd.removed++
}

// sideOf returns the cached state of a user's session row for a peer, nil when the cache does
// not have the conversation.
func (s *conversations) sideOf(user, peer uint32) *side {
	c, ok := s.cache.Peek(im.ConversationKey(user, peer))
	switch {
	case !ok:
		return nil
	case user > peer:
		return c.sides[1]
	default:
		return c.sides[0]
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

// chatMargin is the longest time, in seconds, between a group's lastChated and its commit.
// C++ db_proxies write the time of a message, so for them it includes the lag of message
// servers' clocks.
const chatMargin = 60

// cached returns the conversation of a pair from the cache, nil when it is missing or
// expired.
func (s *conversations) cached(key uint64) *conversation {
	c, ok := s.cache.Get(key)
	if !ok || c.expires != 0 && mono.Of(s.db.now()) > c.expires {
		return nil
	}
	return c
}

// remember adds a conversation to the cache. The ids and sessions of an expired entry for
// the same thread are kept.
func (s *conversations) remember(key uint64, t thread) *conversation {
	c := &conversation{key: key, thread: t}
	if !t.group {
		c.sides = [2]*side{{}, {}}
		if !s.db.finalized {
			c.expires = mono.Of(s.db.now().Add(relationTTL))
		}
	}
	if old, ok := s.cache.Peek(key); ok && old.thread == t {
		old.mu.Lock()
		c.floor, c.verified, c.chatted = old.floor, old.verified, old.chatted
		c.settled = old.settled
		old.mu.Unlock()
		c.sides = old.sides
	}
	s.cache.Add(key, c)
	return c
}

// find returns the existing conversations of these pairs of users, from the cache and
// otherwise from db. It skips keys of groups. A pair with user 0 has the form of a
// group's key; no user has id 0, so it has no conversation.
func (s *conversations) find(ctx context.Context, db querier,
	keys []uint64) (map[uint64]*conversation, error) {
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
		return nil, s.db.dbError("look up relations", err)
	}
	for k, r := range relations {
		found[k] = s.remember(k, thread{id: r.id})
	}
	return found, nil
}

// findOrCreate returns the conversations of these keys. It creates the missing relations
// of pairs. Groups must exist.
func (s *conversations) findOrCreate(ctx context.Context,
	keys []uint64) (map[uint64]*conversation, error) {
	found, err := s.find(ctx, s.db.master, keys)
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
	slices.Sort(missing) // the same order everywhere prevents deadlocks between processes
	err = s.db.retry(ctx, func() error {
		made, err := s.createRelations(ctx, missing)
		for k, r := range made {
			found[k] = s.remember(k, thread{id: r.id})
		}
		return err
	})
	if err != nil {
		return nil, s.db.dbError("create relations", err)
	}
	return found, nil
}

// relation is a row of IMRelationShip.
type relation struct {
	id      uint32
	status  uint32
	updated uint32
}

// relationsOf returns the relation of each pair that has one. Before finalize a pair may
// have several relations. Then the result is the one that C++ servers use: not removed,
// updated last, with the highest id.
func relationsOf(ctx context.Context, db querier, keys []uint64) (map[uint64]relation, error) {
	found := make(map[uint64]relation, len(keys))
	err := inChunks(keys, chunk, func(part []uint64) error {
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

// better reports whether a is to be used instead of b.
func better(a, b relation) bool {
	if a.status != b.status {
		return a.status < b.status
	}
	if a.updated != b.updated {
		return a.updated > b.updated
	}
	return a.id > b.id
}

// createRelations creates the relations of pairs that had none at the last look. Another
// process may do the same at this time. The unique key prevents a second row; before
// finalize a lock and a second look do.
func (s *conversations) createRelations(ctx context.Context,
	keys []uint64) (map[uint64]relation, error) {
	if s.db.finalized {
		if err := insertRelations(ctx, s.db.master, keys, uint32(s.db.time().Unix())); err != nil {
			return nil, err
		}
		return relationsOf(ctx, s.db.master, keys)
	}
	conn, err := s.db.master.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var made map[uint64]relation
	err = s.db.exclusively(ctx, conn, "create", func(tx *sql.Tx) error {
		there, err := relationsOf(ctx, tx, keys)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(keys), func(k uint64) bool {
			_, ok := there[k]
			return ok
		})
		if err := insertRelations(ctx, tx, missing, uint32(s.db.time().Unix())); err != nil {
			return err
		}
		made, err = relationsOf(ctx, tx, keys)
		return err
	})
	return made, err
}

// insertRelations inserts rows. It skips rows that a unique key rejects.
func insertRelations(ctx context.Context, db querier, keys []uint64, now uint32) error {
	return inChunks(keys, chunk, func(part []uint64) error {
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

// conversationOf returns the conversation of two users, nil when they have none.
func (s *conversations) conversationOf(ctx context.Context, db querier,
	user, peer uint32) (*conversation, error) {
	key := im.ConversationKey(user, peer)
	found, err := s.find(ctx, db, []uint64{key})
	if err != nil {
		return nil, err
	}
	return found[key], nil
}

// lastGiven returns the highest message id that was given in a conversation: that of the
// counter in Redis, or a higher one that this process knows.
func (c *conversation) lastGiven(counter string) uint32 {
	n, err := strconv.ParseUint(counter, 10, 32)
	if err != nil {
		n = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(uint32(n), c.floor)
}

// peerKey identifies a conversation in a user's list.
type peerKey struct {
	peer uint32
	kind pb.SessionType
}
