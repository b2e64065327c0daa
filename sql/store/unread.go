package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/proto/pb"
)

// Unread messages between users are counted one by one. A group has two counts: the
// messages sent, and for each member the messages read. So a message costs one count,
// whatever the number of members. Redis may lose either count:
//
//   - If a member's count is missing, the messages sent since joining are unread, up to
//     the group's count. The member's count is set to match.
//   - If a member's count exceeds the group's count, nothing is unread. The member's
//     count is set to the group's count.

// unread is the part that reads and clears unread counts.
type unread struct {
	db            *databases
	conversations *conversations

	ids     *messageIDs
	members *members
	history *history
	marks   *readMarks

	often obs.Often // bounds the log of counts that were left out
}

// newUnread makes the part.
func newUnread(db *databases, conversations *conversations, ids *messageIDs, members *members,
	history *history, marks *readMarks) *unread {
	return &unread{db: db, conversations: conversations, ids: ids, members: members, history: history, marks: marks}
}

// UnreadCounts returns the user's unread conversations; see im.MessageStore. Counts come
// from Redis, groups from the master. The count of a conversation without messages is left
// out, as C++ servers do, because clients cannot show it. The counts in a slot that the
// Redis Cluster does not serve are left out, too.
func (s *unread) UnreadCounts(ctx context.Context, user uint32) ([]im.Unread, error) {
	joined, err := s.members.joinedGroups(ctx, []uint32{user})
	if err != nil {
		return nil, err
	}
	counts, groups, err := s.countsOf(ctx, []uint32{user}, joined)
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
	slices.SortFunc(keys, func(a, b peerKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.peer, b.peer))
	})
	newest, err := s.history.latest(ctx, user, keys, joined)
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

// UnreadTotals returns the numbers of users' unread messages; see im.MessageStore. It leaves
// out what UnreadCounts leaves out.
func (s *unread) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	if err := ctx.Err(); err != nil || len(users) == 0 {
		return nil, s.db.dbError("read unread totals", err)
	}
	users = distinct(users)
	joined, err := s.members.joinedGroups(ctx, users)
	if err != nil {
		return nil, err
	}
	counts, groups, err := s.countsOf(ctx, users, joined)
	if err != nil {
		return nil, err
	}
	totals := make(map[uint32]uint32)
	for _, c := range append(counts, groups...) {
		totals[c.user] = uint32(min(uint64(totals[c.user])+uint64(c.n), 1<<32-1))
	}
	return totals, nil
}

// countsOf returns the counts between users and the counts of their groups.
func (s *unread) countsOf(ctx context.Context, users []uint32, joined []joinedGroup) (
	peers, groups []count, err error) {
	left := &leftOut{u: s}
	if peers, err = s.peerCounts(ctx, users, left); err != nil {
		return nil, nil, err
	}
	if groups, err = s.groupCounts(ctx, joined, left); err != nil {
		return nil, nil, err
	}
	return peers, groups, left.end()
}

// peerCounts returns the counts of unread messages between users, without zeros.
func (s *unread) peerCounts(ctx context.Context, users []uint32, left *leftOut) ([]count, error) {
	var list []count
	err := inChunks(users, pipelineSize, func(part []uint32) error {
		answers := make([]*redis.MapStringStringCmd, len(part))
		// The error of the pipeline is that of its first failed command. Each command has
		// its own.
		_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, u := range part {
				answers[i] = p.HGetAll(ctx, unreadKey(u))
			}
			return nil
		})
		for i, u := range part {
			fields, err := answers[i].Result()
			if err != nil && !wrongType(err) {
				err = s.db.redisError("read unread counts", err)
			} else {
				err = nil
			}
			if ok, err := left.counted(ctx, err); err != nil {
				return err
			} else if !ok {
				continue
			}
			for field, value := range fields {
				peer, err := strconv.ParseUint(field, 10, 32)
				if n := countOf(value); err == nil && n > 0 {
					list = append(list, count{u, uint32(peer), uint32(min(n, 1<<32-1))})
				}
			}
		}
		return nil
	})
	return list, err
}

// groupCounts returns the numbers of unread messages in users' groups, without zeros.
func (s *unread) groupCounts(ctx context.Context, joined []joinedGroup, left *leftOut) ([]count,
	error) {
	var list []count
	err := inChunks(joined, pipelineSize/2, func(part []joinedGroup) error {
		read, sent := s.readAndSent(ctx, part)
		for i, j := range part {
			n, err := s.unreadIn(ctx, j, read[i], sent[j.group])
			if ok, err := left.counted(ctx, err); err != nil {
				return err
			} else if ok && n > 0 {
				list = append(list, count{j.user, j.group, n})
			}
		}
		return nil
	})
	return list, err
}

// readAndSent reads both counts of groups. It reads the members' counts first, so that
// they do not exceed the groups' counts. Each answer has its own error.
func (s *unread) readAndSent(ctx context.Context, joined []joinedGroup) (read []*redis.StringCmd,
	sent map[uint32]*redis.StringCmd) {
	read, sent = make([]*redis.StringCmd, len(joined)), make(map[uint32]*redis.StringCmd,
		len(joined))
	// The error of the pipeline is that of its first failed command.
	_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, j := range joined {
			read[i] = p.HGet(ctx, readKey(j.user, j.group), "count")
		}
		for _, j := range joined {
			if sent[j.group] == nil {
				sent[j.group] = p.HGet(ctx, groupKey(j.group), "count")
			}
		}
		return nil
	})
	return read, sent
}

// unreadIn returns the number of a member's unread messages in a group, from the answers
// of readAndSent.
func (s *unread) unreadIn(ctx context.Context, j joinedGroup, read, sent *redis.StringCmd) (uint32,
	error) {
	for _, cmd := range []*redis.StringCmd{read, sent} {
		if err := cmd.Err(); err != nil && err != redis.Nil && !wrongType(err) {
			return 0, s.db.redisError("read unread counts of groups", err)
		}
	}
	return s.unreadOf(ctx, j, read.Val(), countOf(sent.Val()))
}

// unreadOf returns the difference of a group's two counts, and repairs a count that Redis
// lost. A missing member's count is "".
func (s *unread) unreadOf(ctx context.Context, j joinedGroup, read string,
	sent int64) (uint32, error) {
	switch have := countOf(read); {
	case read == "" && sent > 0:
		return s.startCount(ctx, j, sent)
	case have > sent:
		return 0, s.lowerCount(ctx, j, read)
	default:
		return uint32(min(sent-have, 1<<32-1)), nil
	}
}

// startCountMax bounds the messages that are counted in the table. With more the group's
// count is used.
const startCountMax = 1000

// startCount restores the missing count of a member, so that the messages sent since
// joining are unread, up to the group's count.
func (s *unread) startCount(ctx context.Context, j joinedGroup, sent int64) (uint32, error) {
	of := thread{group: true, id: j.group}
	var since int64
	query := fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s WHERE groupId=%d AND status=0%s "+
		"LIMIT %d) AS m", of.table(), j.group, j.where(), startCountMax)
	if err := s.db.master.QueryRowContext(ctx, query).Scan(&since); err != nil {
		return 0, s.db.dbError("count a group's messages", err)
	}
	unread := sent
	if since < startCountMax {
		unread = min(sent, since)
	}
	s.db.m.repairs.WithLabelValues("read").Inc()
	err := s.db.redis.unread.HSetNX(ctx, readKey(j.user, j.group), "count", sent-unread).Err()
	if err != nil && !wrongType(err) {
		return 0, s.db.redisError("restore what a user has read", err)
	}
	return uint32(unread), nil
}

// lowers sets a count that is still ARGV[1] to ARGV[2].
var lowers = redis.NewScript(`if redis.call('HGET', KEYS[1], 'count') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'count', ARGV[2])
end
return 1`)

// lowerCount repairs a member's count that exceeds the group's count: the group's count
// was lost and began anew. In a cluster the two are read in no particular order, so the
// group's count is read again first.
func (s *unread) lowerCount(ctx context.Context, j joinedGroup, read string) error {
	sent, err := groupSent(ctx, s.db, j.group)
	if err != nil || countOf(read) <= sent {
		return err
	}
	s.db.m.repairs.WithLabelValues("sent").Inc()
	err = lowers.Run(ctx, s.db.redis.unread, []string{readKey(j.user, j.group)}, read, sent).Err()
	return s.db.redisError("restore what a user has read", err)
}

// ClearUnread sets user's unread count for peer to zero, and notes the read mark.
func (s *unread) ClearUnread(ctx context.Context, user, peer uint32) error {
	// Nearly always from the cache. Without it the count is cleared without a mark.
	c, _ := s.conversations.conversationOf(ctx, s.db.master, user, peer)
	if c != nil {
		// After a failover the counter may be lower than the last id. Without an answer of the
		// database the mark may then be too low: too many messages are unread after a loss.
		_ = s.ids.compare(ctx, c)
	}
	var last *redis.StringCmd
	var cleared *redis.IntCmd
	// Each command has its own error.
	_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		if c != nil { // before the clear: a message that is counted later has a higher id
			last = p.Get(ctx, c.thread.counter())
		}
		cleared = p.HDel(ctx, unreadKey(user), strconv.FormatUint(uint64(peer), 10))
		return nil
	})
	if err := cleared.Err(); err != nil {
		return s.db.redisError("clear unread count", err)
	}
	if c != nil {
		k, msg := readMark{user, peer, pb.SessionType_SESSION_TYPE_SINGLE}, c.lastGiven(last.Val())
		s.marks.note(k, msg)
		s.marks.noteRead(k, readTo{msg: msg})
	}
	return nil
}

// ClearGroupUnread marks everything in a group as read by a user; see im.GroupStore.
func (s *unread) ClearGroupUnread(ctx context.Context, user, group uint32) error {
	_, ok, err := s.members.joiningOf(ctx, user, group)
	if !ok || err != nil {
		return s.db.dbError("look up member", err)
	}
	return s.clearGroup(ctx, user, group)
}

// clearGroup sets a member's count to the group's count, and notes the read mark.
func (s *unread) clearGroup(ctx context.Context, user, group uint32) error {
	var last, count *redis.StringCmd
	// Each command has its own error.
	_, _ = s.db.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		last = p.Get(ctx, thread{group: true, id: group}.counter())
		count = p.HGet(ctx, groupKey(group), "count")
		return nil
	})
	v, err := count.Result()
	if err != nil && err != redis.Nil && !wrongType(err) {
		return s.db.redisError("read the count of a group's messages", err)
	}
	err = raiseCount.Run(ctx, s.db.redis.unread, []string{readKey(user, group)}, countOf(v)).Err()
	if err != nil {
		return s.db.redisError("clear unread count", err)
	}
	k := readMark{user, group, pb.SessionType_SESSION_TYPE_GROUP}
	s.marks.note(k, uint32(min(countOf(last.Val()), 1<<32-1)))
	s.marks.noteRead(k, readTo{count: countOf(v)})
	return nil
}
