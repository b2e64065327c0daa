package unread

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// groupsPage is the number of groups whose ids are read together.
const groupsPage = 200

// groups rebuilds the counts of the groups with a message since a time.
func (r *run) groups(ctx context.Context) error {
	for last := uint32(0); ; {
		ids, err := database.Numbers(ctx, r.db.Master, fmt.Sprintf("SELECT id FROM IMGroup "+
			"WHERE id>%d AND status=0 AND lastChated>=%d ORDER BY id LIMIT %d", last,
			max(r.since, conversation.ChatMargin)-conversation.ChatMargin, groupsPage))
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, group := range ids {
			began := time.Now()
			n, err := r.group(ctx, group)
			if err != nil {
				return err
			}
			r.done.Counts += n
			r.raised.Add(float64(n))
			r.done.Groups++
			if err := r.pace(ctx, began); err != nil {
				return err
			}
			last = group
		}
	}
}

// group rebuilds the counts of the members of a group: first the group's count, then for
// each member the number of messages that it has read.
func (r *run) group(ctx context.Context, group uint32) (raised int, err error) {
	joined, err := members.Joinings(ctx, r.db.Master, group)
	if err != nil || len(joined) == 0 {
		return 0, err
	}
	users := slices.Sorted(maps.Keys(joined))
	c, err := r.countGroup(ctx, group, users, joined)
	if err != nil {
		return 0, err
	}
	most := int64(0)
	for i, u := range users {
		if c.read[i] != "" { // a count of Redis that is higher stays
			c.unread[u] = max(c.unread[u], c.sent-redisconn.CountOf(c.read[i]))
		}
		most = max(most, c.unread[u])
	}
	if c.sent < most {
		raised := max(int64(c.highest), most)
		run := &redisconn.Run{Script: outbox.RaiseCount, Keys: []string{outbox.GroupKey(group)},
			Args: []any{raised}}
		redisconn.RunAll(ctx, r.db.Redis.Unread, []*redisconn.Run{run})
		if err := run.Answer.Err(); err != nil && !redisconn.WrongType(err) {
			return 0, r.db.RedisError("rebuild a group's count", err)
		}
		if c.sent, err = outbox.GroupSent(ctx, r.db, group); err != nil {
			return 0, err
		}
		c.sent = min(c.sent, raised) // what was sent since is unread
	}
	return r.setRead(ctx, group, users, c.read, func(user uint32) int64 {
		return max(c.sent-c.unread[user], 0)
	})
}

// groupCounts are the counts of a group, in Redis and by the tables.
type groupCounts struct {
	sent    int64
	read    []string // by member, "" for a missing count
	unread  map[uint32]int64
	highest uint32 // the group's last message
}

// countGroup counts the messages of a group at a moment at which no batch owes it counts.
// If every try meets one, the last is taken, as in settledSides.
func (r *run) countGroup(ctx context.Context, group uint32, users []uint32,
	joined map[uint32]members.Joining) (c groupCounts, err error) {
	for try := 0; ; try++ {
		if c.sent, c.read, err = r.groupNow(ctx, group, users); err != nil {
			return c, err
		}
		if c.unread, c.highest, err = r.unreadIn(ctx, group, joined); err != nil {
			return c, err
		}
		settled, err := r.settledGroup(ctx, group, c.sent)
		if err != nil || settled || try == raiseTries-1 {
			return c, err
		}
		if err := r.looksAgain(ctx, try); err != nil {
			return c, err
		}
	}
}

// settledGroup reports whether no batch owes counts to a group, and the group's count is
// still the one that was read before the messages were counted.
func (r *run) settledGroup(ctx context.Context, group uint32, sent int64) (bool, error) {
	key := outbox.GroupKey(group)
	owing, err := r.owing.Of(ctx, map[string]bool{key: true})
	if err != nil || owing[key] {
		return false, err
	}
	now, err := outbox.GroupSent(ctx, r.db, group)
	return now == sent, err
}

// groupNow returns the count of a group in Redis, and those of members, "" for a missing
// one. A key that holds no count is like a missing one.
func (s *Rebuild) groupNow(ctx context.Context, group uint32, users []uint32) (sent int64,
	read []string, err error) {
	if sent, err = outbox.GroupSent(ctx, s.db, group); err != nil {
		return 0, nil, err
	}
	err = database.InChunks(users, redisconn.PipelineSize, func(part []uint32) error {
		cmds := make([]*redis.StringCmd, len(part))
		// Each command has its own error.
		_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, u := range part {
				cmds[i] = p.HGet(ctx, outbox.ReadKey(u, group), "count")
			}
			return nil
		})
		for _, cmd := range cmds {
			v, err := cmd.Result()
			if err != nil && err != redis.Nil && !redisconn.WrongType(err) {
				return s.db.RedisError("read unread counts of groups", err)
			}
			read = append(read, v)
		}
		return nil
	})
	return sent, read, err
}

// unreadIn counts for each member the messages of others after its mark, its own last
// message and its joining, among the last startCountMax messages of the group. Without a
// mark the messages since a time count. highest is the group's last message.
func (r *run) unreadIn(ctx context.Context, group uint32,
	joined map[uint32]members.Joining) (unread map[uint32]int64, highest uint32, err error) {
	marks := map[uint32]uint32{}
	err = database.InChunks(slices.Collect(maps.Keys(joined)), 1000, func(part []uint32) error {
		keys := make([]readMark, len(part))
		for i, u := range part {
			keys[i] = readMark{u, group, pb.SessionType_SESSION_TYPE_GROUP}
		}
		found, err := r.marks.stored(ctx, keys)
		for k, msg := range found {
			marks[k.user] = msg
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	of := conversation.Thread{Group: true, ID: group}
	rows, err := r.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT msgId, userId, created FROM %s "+
		"WHERE groupId=%d AND status=0 ORDER BY msgId DESC LIMIT %d", of.Table(), group,
		startCountMax))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	unread = make(map[uint32]int64, len(joined))
	read := map[uint32]bool{} // members that sent a later message
	for rows.Next() {
		var id, from, created uint32
		if err := rows.Scan(&id, &from, &created); err != nil {
			return nil, 0, err
		}
		highest = max(highest, id)
		read[from] = true
		m := &im.Message{ID: id, Created: created}
		for user, j := range joined {
			mark, marked := marks[user]
			if !read[user] && id > mark && j.Sees(m) && (marked || created >= r.since) {
				unread[user]++
			}
		}
	}
	return unread, highest, rows.Err()
}

// setsRead sets a member's count to ARGV[2] if it is still ARGV[1], where "" is a missing
// one. A count that has changed meanwhile is raised to ARGV[2], unless it is that high.
var setsRead = redis.NewScript(`local v = redis.call('HGET', KEYS[1], 'count') or ''
if v == ARGV[2] then return 0 end
if v == ARGV[1] or (tonumber(v) or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'count', ARGV[2])
  return 1
end
return 0`)

// setRead sets how many messages members have read. It returns the number of counts that
// were wrong.
func (s *Rebuild) setRead(ctx context.Context, group uint32, users []uint32, before []string,
	want func(user uint32) int64) (changed int, err error) {
	for part := range slices.Chunk(users, redisconn.PipelineSize) {
		runs := make([]*redisconn.Run, len(part))
		for i, u := range part {
			runs[i] = &redisconn.Run{Script: setsRead, Keys: []string{outbox.ReadKey(u, group)},
				Args: []any{before[i], want(u)}}
		}
		before = before[len(part):]
		redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
		for _, r := range runs {
			n, err := r.Answer.Int()
			if err != nil && !redisconn.WrongType(err) {
				return changed, s.db.RedisError("rebuild what members have read", err)
			}
			changed += n
		}
	}
	return changed, nil
}
