package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// messageColumns are read in this order by scanMessage.
const messageColumns = "relateId, msgId, fromId, toId, type, created, content"

// scanMessages reads rows of messageColumns. do gets each message and its relation.
func scanMessages(rows *sql.Rows, do func(relate uint32, m im.Message)) error {
	defer rows.Close()
	for rows.Next() {
		var relate uint32
		var m im.Message
		if err := rows.Scan(&relate, &m.ID, &m.From, &m.To, &m.Type, &m.Created, &m.Data); err != nil {
			return err
		}
		do(relate, m)
	}
	return rows.Err()
}

// conversationOf returns the conversation of two users, nil when they have none.
func (s *Store) conversationOf(ctx context.Context, db *sql.DB, user, peer uint32) (*conversation, error) {
	key := im.ConversationKey(user, peer)
	found, err := s.find(ctx, db, []uint64{key})
	if err != nil {
		return nil, err
	}
	return found[key], nil
}

// History returns messages between two users, newest first; see im.MessageStore. Read from the slave, unless this process stored to one of them lately.
func (s *Store) History(ctx context.Context, user, peer, begin uint32, count int) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || count <= 0 {
		return nil, s.dbError("read history", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return nil, err
	}
	below := ""
	if begin > 0 {
		below = fmt.Sprintf(" AND msgId<=%d", begin)
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT "+messageColumns+" FROM IMMessage_%d WHERE relateId=%d AND status=0%s ORDER BY msgId DESC, id DESC LIMIT %d",
		table(c.relate), c.relate, below, count))
	if err != nil {
		return nil, s.dbError("read history", err)
	}
	var list []im.Message
	err = scanMessages(rows, func(_ uint32, m im.Message) { list = append(list, m) })
	if err != nil {
		return nil, s.dbError("read history", err)
	}
	return list, nil
}

// MessagesByID returns messages between two users; see im.MessageStore. Read where History is.
func (s *Store) MessagesByID(ctx context.Context, user, peer uint32, ids []uint32) ([]im.Message, error) {
	if err := ctx.Err(); err != nil || len(ids) == 0 {
		return nil, s.dbError("read messages", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return nil, err
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []im.Message
	err = inChunks(slices.Compact(ids), chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT "+messageColumns+" FROM IMMessage_%d WHERE relateId=%d AND status=0 AND msgId IN (%s) ORDER BY msgId, id",
			table(c.relate), c.relate, join(part)))
		if err != nil {
			return err
		}
		return scanMessages(rows, func(_ uint32, m im.Message) { list = append(list, m) })
	})
	if err != nil {
		return nil, s.dbError("read messages", err)
	}
	return list, nil
}

// LatestID returns the id of the newest message between two users, 0 when there is none; see im.MessageStore. Read where History is.
func (s *Store) LatestID(ctx context.Context, user, peer uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	db := s.reader(user, peer)
	c, err := s.conversationOf(ctx, db, user, peer)
	if c == nil || err != nil {
		return 0, err
	}
	var id uint32
	query := fmt.Sprintf("SELECT COALESCE(MAX(msgId), 0) FROM IMMessage_%d WHERE relateId=%d AND status=0", table(c.relate), c.relate)
	if err := db.QueryRowContext(ctx, query).Scan(&id); err != nil {
		return 0, s.dbError("read the latest message id", err)
	}
	return id, nil
}

// latest returns the newest message of user's conversation with each of the peers that has one: by one query for the relations that are not cached, and one
// for the messages.
func (s *Store) latest(ctx context.Context, db *sql.DB, user uint32, peers []uint32) (map[uint32]im.Message, error) {
	keys := make([]uint64, len(peers))
	for i, p := range peers {
		keys[i] = im.ConversationKey(user, p)
	}
	found, err := s.find(ctx, db, keys)
	if err != nil {
		return nil, err
	}
	relates := make([]uint32, 0, len(found))
	peerOf := make(map[uint32]uint32, len(found))
	for i, k := range keys {
		if c := found[k]; c != nil {
			relates = append(relates, c.relate)
			peerOf[c.relate] = peers[i]
		}
	}
	newest := make(map[uint32]im.Message, len(relates))
	const form = "SELECT m.relateId, m.msgId, m.fromId, m.toId, m.type, m.created, m.content FROM IMMessage_%[1]d AS m JOIN " +
		"(SELECT relateId, MAX(msgId) AS msgId FROM IMMessage_%[1]d WHERE relateId IN (%[2]s) AND status=0 GROUP BY relateId) AS n " +
		"ON m.relateId=n.relateId AND m.msgId=n.msgId WHERE m.status=0"
	err = inChunks(relates, chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, unionByTable(part, form))
		if err != nil {
			return err
		}
		return scanMessages(rows, func(relate uint32, m im.Message) { newest[peerOf[relate]] = m })
	})
	if err != nil {
		return nil, s.dbError("read latest messages", err)
	}
	return newest, nil
}

// latestSure is latest, with a second look at the master for what a slave did not have.
func (s *Store) latestSure(ctx context.Context, db *sql.DB, user uint32, peers []uint32) (map[uint32]im.Message, error) {
	newest, err := s.latest(ctx, db, user, peers)
	if err != nil || db == s.master {
		return newest, err
	}
	missing := slices.DeleteFunc(slices.Clone(peers), func(p uint32) bool { _, ok := newest[p]; return ok })
	if len(missing) == 0 {
		return newest, nil
	}
	more, err := s.latest(ctx, s.master, user, missing)
	for p, m := range more {
		newest[p] = m
	}
	return newest, err
}

// UnreadCounts returns user's unread conversations; see im.MessageStore. Counts come from Redis; the latest messages from the slave, unless this process
// stored to the user lately or the slave does not have one yet. A count of a conversation without messages is left out, as C++ servers do: clients
// cannot show it.
func (s *Store) UnreadCounts(ctx context.Context, user uint32) ([]im.Unread, error) {
	fields, err := s.redis.unread.HGetAll(ctx, unreadKey(user)).Result()
	if err != nil {
		return nil, s.redisError("read unread counts", err)
	}
	counts := make(map[uint32]uint32, len(fields))
	peers := make([]uint32, 0, len(fields))
	for field, value := range fields {
		peer, err1 := strconv.ParseUint(field, 10, 32)
		n, err2 := strconv.ParseInt(value, 10, 64)
		if err1 != nil || err2 != nil || n <= 0 {
			continue
		}
		peers = append(peers, uint32(peer))
		counts[uint32(peer)] = uint32(min(n, 1<<32-1))
	}
	if len(peers) == 0 {
		return nil, nil
	}
	slices.Sort(peers)
	newest, err := s.latestSure(ctx, s.reader(user), user, peers)
	if err != nil {
		return nil, err
	}
	list := make([]im.Unread, 0, len(peers))
	for _, p := range peers {
		if m, ok := newest[p]; ok {
			list = append(list, im.Unread{Peer: p, Type: pb.SessionType_SESSION_TYPE_SINGLE, Count: counts[p], Latest: m})
		}
	}
	return list, nil
}

// ClearUnread sets user's unread count for peer to zero.
func (s *Store) ClearUnread(ctx context.Context, user, peer uint32) error {
	err := s.redis.unread.HDel(ctx, unreadKey(user), strconv.FormatUint(uint64(peer), 10)).Err()
	return s.redisError("clear unread count", err)
}

// RecentSessions returns user's conversations; see im.MessageStore. Read where UnreadCounts is.
func (s *Store) RecentSessions(ctx context.Context, user, since uint32, limit int) ([]im.RecentSession, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, s.dbError("read sessions", err)
	}
	db := s.reader(user)
	list, err := s.sessionRows(ctx, db, user, since, limit)
	if err != nil || len(list) == 0 {
		return nil, s.dbError("read sessions", err)
	}
	peers := make([]uint32, len(list))
	for i, r := range list {
		peers[i] = r.Peer
	}
	newest, err := s.latestSure(ctx, db, user, peers)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Latest = newest[list[i].Peer]
	}
	// A session all of whose messages are deleted has nothing to show; C++ servers leave it out too.
	return slices.DeleteFunc(list, func(r im.RecentSession) bool { return r.Latest.ID == 0 }), nil
}

// sessionRows reads the listed one-to-one sessions of a user, each peer once (before finalize a side may have several rows).
func (s *Store) sessionRows(ctx context.Context, db *sql.DB, user, since uint32, limit int) ([]im.RecentSession, error) {
	distinct := fmt.Sprintf("SELECT peerId, MAX(updated) AS u FROM IMRecentSession WHERE userId=%d AND status=0 AND updated>=%d AND type=%d "+
		"GROUP BY peerId ORDER BY u DESC, peerId LIMIT %d", user, since, pb.SessionType_SESSION_TYPE_SINGLE, limit)
	rows, err := db.QueryContext(ctx, distinct)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.RecentSession
	for rows.Next() {
		r := im.RecentSession{Type: pb.SessionType_SESSION_TYPE_SINGLE}
		if err := rows.Scan(&r.Peer, &r.Updated); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
