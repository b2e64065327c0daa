package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Unread messages of users are counted one by one. Of a group two counts are kept, how many messages were sent and how many of those a member has read: so a
// message costs one count, however many members there are. Redis may lose either:
//
//   - what a member has read is missing: unread is what was sent since joining, at most what was counted; that becomes the count.
//   - it is more than was sent: nothing is unread; the group's count becomes the member's.

// peerKey is a conversation in a user's list.
type peerKey struct {
	peer uint32
	kind pb.SessionType
}

// UnreadCounts returns user's unread conversations; see im.MessageStore. Counts come from Redis, groups and joining times from the master; the latest messages
// from the slave, unless this process stored to the user or group lately or the slave does not have one yet. A count of a conversation without messages is
// left out, as C++ servers do: clients cannot show it.
func (s *Store) UnreadCounts(ctx context.Context, user uint32) ([]im.Unread, error) {
	joined, err := s.joinedGroups(ctx, []uint32{user})
	if err != nil {
		return nil, err
	}
	counts, err := s.peerCounts(ctx, []uint32{user})
	if err != nil {
		return nil, err
	}
	groups, err := s.groupCounts(ctx, joined)
	if err != nil {
		return nil, err
	}
	var keys []peerKey
	n := map[peerKey]uint32{}
	add := func(k peerKey, count uint32) {
		keys = append(keys, k)
		n[k] = count
	}
	for _, c := range counts {
		add(peerKey{c.peer, pb.SessionType_SESSION_TYPE_SINGLE}, c.n)
	}
	for _, c := range groups {
		add(peerKey{c.peer, pb.SessionType_SESSION_TYPE_GROUP}, c.n)
	}
	slices.SortFunc(keys, func(a, b peerKey) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.peer, b.peer)) })
	newest, err := s.latest(ctx, user, keys, joined)
	if err != nil {
		return nil, err
	}
	var list []im.Unread
	for _, k := range keys {
		if m, ok := newest[k]; ok {
			list = append(list, im.Unread{Peer: k.peer, Type: k.kind, Count: n[k], Latest: m})
		}
	}
	return list, nil
}

// UnreadTotals returns how many unread messages users have; see im.MessageStore.
func (s *Store) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	if err := ctx.Err(); err != nil || len(users) == 0 {
		return nil, s.dbError("read unread totals", err)
	}
	users = distinct(users)
	joined, err := s.joinedGroups(ctx, users)
	if err != nil {
		return nil, err
	}
	counts, err := s.peerCounts(ctx, users)
	if err != nil {
		return nil, err
	}
	groups, err := s.groupCounts(ctx, joined)
	if err != nil {
		return nil, err
	}
	totals := make(map[uint32]uint32)
	for _, c := range append(counts, groups...) {
		totals[c.user] = uint32(min(uint64(totals[c.user])+uint64(c.n), 1<<32-1))
	}
	return totals, nil
}

// joinedGroup is a group that a user is in, since a time.
type joinedGroup struct{ user, group, since uint32 }

// joinedGroups returns the groups of users, from the master.
func (s *Store) joinedGroups(ctx context.Context, users []uint32) ([]joinedGroup, error) {
	var list []joinedGroup
	err := inChunks(users, chunk, func(part []uint32) error {
		rows, err := s.master.QueryContext(ctx, "SELECT m.userId, m.groupId, MAX(GREATEST(m.created, m.updated)) FROM IMGroupMember AS m JOIN IMGroup AS g ON g.id=m.groupId "+
			"WHERE m.status=0 AND g.status=0 AND m.userId IN ("+join(part)+") GROUP BY m.userId, m.groupId")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var j joinedGroup
			if err := rows.Scan(&j.user, &j.group, &j.since); err != nil {
				return err
			}
			list = append(list, j)
		}
		return rows.Err()
	})
	return list, s.dbError("read users' groups", err)
}

// pipelineSize is how many commands are sent to Redis at once at most.
const pipelineSize = 2000

// peerCounts returns the unread messages between users, counts that are none left out.
func (s *Store) peerCounts(ctx context.Context, users []uint32) ([]count, error) {
	var list []count
	err := inChunks(users, pipelineSize, func(part []uint32) error {
		answers := make([]*redis.MapStringStringCmd, len(part))
		_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, u := range part {
				answers[i] = p.HGetAll(ctx, unreadKey(u))
			}
			return nil
		})
		if err != nil && !wrongType(err) {
			return err
		}
		for i, u := range part {
			for field, value := range answers[i].Val() {
				peer, err := strconv.ParseUint(field, 10, 32)
				if n := countOf(value); err == nil && n > 0 {
					list = append(list, count{u, uint32(peer), uint32(min(n, 1<<32-1))})
				}
			}
		}
		return nil
	})
	return list, s.redisError("read unread counts", err)
}

// wrongType reports whether a key holds something else than counts, which is passed over.
func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

// groupCounts returns how many messages users have not read of their groups, none left out.
func (s *Store) groupCounts(ctx context.Context, joined []joinedGroup) ([]count, error) {
	var list []count
	err := inChunks(joined, pipelineSize/2, func(part []joinedGroup) error {
		sent, read, err := s.readAndSent(ctx, part)
		if err != nil {
			return err
		}
		for i, j := range part {
			n, err := s.unreadOf(ctx, j, read[i], sent[j.group])
			if err != nil {
				return err
			}
			if n > 0 {
				list = append(list, count{j.user, j.group, n})
			}
		}
		return nil
	})
	return list, err
}

// readAndSent reads both counts of groups: first what users have read, which is "" where it is missing, so that it is not more than was sent.
func (s *Store) readAndSent(ctx context.Context, joined []joinedGroup) (sent map[uint32]int64, read []string, err error) {
	reads, sents := make([]*redis.StringCmd, len(joined)), make(map[uint32]*redis.StringCmd, len(joined))
	_, err = s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, j := range joined {
			reads[i] = p.HGet(ctx, readKey(j.user, j.group), "count")
		}
		for _, j := range joined {
			if sents[j.group] == nil {
				sents[j.group] = p.HGet(ctx, groupKey(j.group), "count")
			}
		}
		return nil
	})
	if err != nil && err != redis.Nil && !wrongType(err) {
		return nil, nil, s.redisError("read unread counts of groups", err)
	}
	read = make([]string, len(joined))
	for i := range reads {
		if read[i], err = reads[i].Result(); err != nil && err != redis.Nil && !wrongType(err) {
			return nil, nil, s.redisError("read unread counts of groups", err)
		}
	}
	sent = make(map[uint32]int64, len(sents))
	for g, cmd := range sents {
		v, err := cmd.Result()
		if err != nil && err != redis.Nil && !wrongType(err) {
			return nil, nil, s.redisError("read unread counts of groups", err)
		}
		sent[g] = countOf(v)
	}
	return sent, read, nil
}

// unreadOf is the difference of a group's two counts, and what is done where Redis lost one.
func (s *Store) unreadOf(ctx context.Context, j joinedGroup, read string, sent int64) (uint32, error) {
	switch have := countOf(read); {
	case read == "" && sent > 0:
		return s.startCount(ctx, j, sent)
	case have > sent:
		return 0, s.lowerCount(ctx, j, read)
	default:
		return uint32(min(sent-have, 1<<32-1)), nil
	}
}

// startCountMax is up to how many messages are counted in the table to find what is unread; of more the group's count is believed.
const startCountMax = 1000

// startCount makes the missing count of what a user has read, so that what was sent since joining is unread, if so much was counted.
func (s *Store) startCount(ctx context.Context, j joinedGroup, sent int64) (uint32, error) {
	of := thread{group: true, id: j.group}
	var since int64
	query := fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s WHERE groupId=%d AND status=0 AND created>=%d LIMIT %d) AS m", of.table(), j.group, j.since, startCountMax)
	if err := s.master.QueryRowContext(ctx, query).Scan(&since); err != nil {
		return 0, s.dbError("count a group's messages", err)
	}
	unread := sent
	if since < startCountMax {
		unread = min(sent, since)
	}
	s.m.repairs.WithLabelValues("read").Inc()
	err := s.redis.unread.HSetNX(ctx, readKey(j.user, j.group), "count", sent-unread).Err()
	if err != nil && !wrongType(err) {
		return 0, s.redisError("restore what a user has read", err)
	}
	return uint32(unread), nil
}

// lowers sets a count that is still ARGV[1] to ARGV[2].
var lowers = redis.NewScript(`if redis.call('HGET', KEYS[1], 'count') == ARGV[1] then redis.call('HSET', KEYS[1], 'count', ARGV[2]) end
return 1`)

// lowerCount repairs a count of what a user has read that is more than was sent: the group's was lost and counts anew. In a cluster the two were read at no
// particular order, so the group's is read again first.
func (s *Store) lowerCount(ctx context.Context, j joinedGroup, read string) error {
	sent, err := s.groupCount(ctx, j.group)
	if err != nil || countOf(read) <= sent {
		return err
	}
	s.m.repairs.WithLabelValues("sent").Inc()
	err = lowers.Run(ctx, s.redis.unread, []string{readKey(j.user, j.group)}, read, sent).Err()
	return s.redisError("restore what a user has read", err)
}

// ClearUnread sets user's unread count for peer to zero.
func (s *Store) ClearUnread(ctx context.Context, user, peer uint32) error {
	err := s.redis.unread.HDel(ctx, unreadKey(user), strconv.FormatUint(uint64(peer), 10)).Err()
	return s.redisError("clear unread count", err)
}

// ClearGroupUnread says that a user has read everything in a group; see im.GroupStore.
func (s *Store) ClearGroupUnread(ctx context.Context, user, group uint32) error {
	_, ok, err := s.joinedAt(ctx, user, group)
	if !ok || err != nil {
		return s.dbError("look up member", err)
	}
	return s.clearGroup(ctx, user, group)
}

// clearGroup lets a user have read all that was counted.
func (s *Store) clearGroup(ctx context.Context, user, group uint32) error {
	sent, err := s.groupCount(ctx, group)
	if err != nil {
		return err
	}
	err = raiseCount.Run(ctx, s.redis.unread, []string{readKey(user, group)}, sent).Err()
	return s.redisError("clear unread count", err)
}

// latest returns the newest message of each of user's conversations that has one to be seen. joined are user's groups.
func (s *Store) latest(ctx context.Context, user uint32, keys []peerKey, joined []joinedGroup) (map[peerKey]im.Message, error) {
	since := make(map[uint32]uint32, len(joined))
	for _, j := range joined {
		since[j.group] = j.since
	}
	newest, err := s.latestIn(ctx, s.reader(user), user, keys, since)
	if err != nil || s.slave == s.master {
		return newest, s.dbError("read latest messages", err)
	}
	// Once more on the master: what a slave did not have, and groups that it may have older messages of.
	missing := slices.DeleteFunc(slices.Clone(keys), func(k peerKey) bool {
		_, ok := newest[k]
		return ok && (k.kind == pb.SessionType_SESSION_TYPE_SINGLE || !s.lately(wroteGroup|uint64(k.peer)))
	})
	more, err := s.latestIn(ctx, s.master, user, missing, since)
	for k, m := range more {
		newest[k] = m
	}
	return newest, s.dbError("read latest messages", err)
}

// latestIn asks one database: by one query for relations that are not cached, and one for the messages. Of a group whose newest message is from before the
// user's joining others since then are looked for: the message servers' clocks may differ.
func (s *Store) latestIn(ctx context.Context, db *sql.DB, user uint32, keys []peerKey, since map[uint32]uint32) (map[peerKey]im.Message, error) {
	newest := make(map[peerKey]im.Message, len(keys))
	threads, of, err := s.threadsOf(ctx, db, user, keys)
	if err != nil || len(threads) == 0 {
		return newest, err
	}
	form := func(t thread, ids string) string {
		return fmt.Sprintf("SELECT %s FROM %s JOIN (SELECT %s AS c, MAX(msgId) AS n FROM %[2]s WHERE %[3]s IN (%[4]s) AND status=0 GROUP BY %[3]s) AS l "+
			"ON %[3]s=l.c AND msgId=l.n WHERE status=0", t.columns(), t.table(), t.column(), ids)
	}
	err = inChunks(threads, chunk, func(part []thread) error {
		list, err := readMessages(ctx, db, unionByTable(part, form))
		for _, m := range list {
			newest[of[m.in]] = m.Message
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for k, m := range newest {
		if k.kind != pb.SessionType_SESSION_TYPE_GROUP || m.Created >= since[k.peer] {
			continue
		}
		delete(newest, k)
		list, err := groupHistory(ctx, db, k.peer, since[k.peer], m.ID, 1)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			newest[k] = list[0].Message
		}
	}
	return newest, nil
}

// threadsOf returns where the messages of user's conversations are, and which conversation each thread is.
func (s *Store) threadsOf(ctx context.Context, db *sql.DB, user uint32, keys []peerKey) ([]thread, map[thread]peerKey, error) {
	var pairs []uint64
	of := make(map[thread]peerKey, len(keys))
	for _, k := range keys {
		if k.kind == pb.SessionType_SESSION_TYPE_GROUP {
			of[thread{group: true, id: k.peer}] = k
		} else {
			pairs = append(pairs, im.ConversationKey(user, k.peer))
		}
	}
	found, err := s.find(ctx, db, pairs)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		if c := found[im.ConversationKey(user, k.peer)]; c != nil && k.kind == pb.SessionType_SESSION_TYPE_SINGLE {
			of[c.thread] = k
		}
	}
	threads := make([]thread, 0, len(of))
	for t := range of {
		threads = append(threads, t)
	}
	slices.SortFunc(threads, compareThreads)
	return threads, of, nil
}

// RecentSessions returns user's conversations; see im.MessageStore. Read where UnreadCounts is.
func (s *Store) RecentSessions(ctx context.Context, user, since uint32, limit int) ([]im.RecentSession, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, s.dbError("read sessions", err)
	}
	joined, err := s.joinedGroups(ctx, []uint32{user})
	if err != nil {
		return nil, err
	}
	list, err := sessionRows(ctx, s.reader(user), user, since, limit, joined)
	if err != nil || len(list) == 0 {
		return nil, s.dbError("read sessions", err)
	}
	keys := make([]peerKey, len(list))
	for i, r := range list {
		keys[i] = peerKey{r.Peer, r.Type}
	}
	newest, err := s.latest(ctx, user, keys, joined)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Latest = newest[keys[i]]
	}
	// A session with no message to be seen, all deleted or from before joining, has nothing to show; C++ servers leave it out too.
	return slices.DeleteFunc(list, func(r im.RecentSession) bool { return r.Latest.ID == 0 }), nil
}

// sessionRows reads a user's listed sessions, with groups only those that the user is in; each conversation once (before finalize a side may have several
// rows).
func sessionRows(ctx context.Context, db *sql.DB, user, since uint32, limit int, joined []joinedGroup) ([]im.RecentSession, error) {
	kinds := fmt.Sprintf("type=%d", pb.SessionType_SESSION_TYPE_SINGLE)
	if len(joined) > 0 {
		groups := make([]uint32, len(joined))
		for i, j := range joined {
			groups[i] = j.group
		}
		kinds = fmt.Sprintf("(%s OR type=%d AND peerId IN (%s))", kinds, pb.SessionType_SESSION_TYPE_GROUP, join(groups))
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT peerId, type, MAX(updated) AS u FROM IMRecentSession WHERE userId=%d AND status=0 AND updated>=%d AND %s "+
		"GROUP BY peerId, type ORDER BY u DESC, type, peerId LIMIT %d", user, since, kinds, limit))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.RecentSession
	for rows.Next() {
		var r im.RecentSession
		if err := rows.Scan(&r.Peer, &r.Type, &r.Updated); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
