// Package unread reads and clears unread counts, keeps read marks, and makes the counts again from
// both when Redis has lost them.
package unread

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// Unread messages between users are counted one by one. A group has two counts: the
// messages sent, and for each member the messages read. So a message costs one count,
// whatever the number of members. Redis may lose either count:
//
//   - If a member's count is missing, the messages sent since joining are unread, up to
//     the group's count. The member's count is set to match.
//   - If a member's count exceeds the group's count, nothing is unread. The member's
//     count is set to the group's count.

// Counts is the part that reads and clears unread counts.
type Counts struct {
	db            *database.DB
	conversations *conversation.Cache

	ids     *conversation.IDs
	members *members.Reader
	history *history.History
	marks   *Marks

	repairs *prometheus.CounterVec
	leftOut prometheus.Counter
	often   obs.Often // bounds the log of counts that were left out
}

// New makes the part.
func New(db *database.DB, conversations *conversation.Cache, ids *conversation.IDs,
	members *members.Reader, history *history.History, marks *Marks) *Counts {
	return &Counts{db: db, conversations: conversations, ids: ids, members: members,
		history: history, marks: marks,
		repairs: db.Metrics.CounterVec("group_unread_repaired", "Unread counts of groups "+
			"repaired after Redis had lost the member's count (read) or the group's count "+
			"(sent).", "what"),
		leftOut: db.Metrics.Counter("unread_left_out", "Conversations left out of answers with "+
			"unread counts, because the Redis Cluster did not serve the slot of a count."),
	}
}

// UnreadCounts returns the user's unread conversations; see im.MessageStore. Counts come
// from Redis, groups from the master. The count of a conversation without messages is left
// out, as C++ servers do, because clients cannot show it. The counts in a slot that the
// Redis Cluster does not serve are left out, too.
func (s *Counts) UnreadCounts(ctx context.Context, user uint32, limit int) (list []im.Unread,
	total uint32, err error) {
	joined, err := s.members.JoinedGroups(ctx, user)
	if err != nil {
		return nil, 0, err
	}
	left := &leftOut{u: s}
	counts, err := s.countsOf(ctx, []uint32{user}, joined, left)
	if err == nil {
		err = left.end()
	}
	if err != nil {
		return nil, 0, err
	}
	n := make(map[conversation.Peer]uint32, len(counts))
	sum := uint64(0)
	for _, c := range counts {
		n[conversation.Peer{ID: c.Peer, Kind: c.kind}] = c.N
		sum += uint64(c.N)
	}
	keys, err := s.latestChats(ctx, user, slices.Collect(maps.Keys(n)), max(limit, 1))
	if err != nil {
		return nil, 0, err
	}
	newest, err := s.history.Latest(ctx, user, keys, joined)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(keys, conversation.Peer.Compare)
	for _, k := range keys {
		if m, ok := newest[k]; ok {
			list = append(list, im.Unread{Peer: k.ID, Type: k.Kind, Count: n[k], Latest: m})
		} else {
			sum -= uint64(n[k])
		}
	}
	return list, saturated(sum), nil
}

// saturated returns n, or the largest count for a larger n.
func saturated(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// mostJoined is the largest number of memberships of several users that UnreadTotals holds:
// about 5 MB.
const mostJoined = 50_000

// UnreadTotals returns the numbers of users' unread messages; see im.MessageStore. It leaves
// out what UnreadCounts leaves out.
func (s *Counts) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	if err := ctx.Err(); err != nil || len(users) == 0 {
		return nil, s.db.SQLError("read unread totals", err)
	}
	totals := make(map[uint32]uint32)
	left := &leftOut{u: s}
	err := s.members.JoinedParts(ctx, database.Distinct(users), mostJoined,
		func(part []uint32, joined []members.JoinedGroup) error {
			counts, err := s.countsOf(ctx, part, joined, left)
			for _, c := range counts {
				totals[c.User] = saturated(uint64(totals[c.User]) + uint64(c.N))
			}
			return err
		})
	if err == nil {
		err = left.end()
	}
	if err != nil {
		return nil, err
	}
	return totals, nil
}

// count is the number of a user's unread messages in a conversation.
type count struct {
	outbox.Count
	kind pb.SessionType
}

// countsOf returns the counts between users and the counts of their groups, without zeros.
func (s *Counts) countsOf(ctx context.Context, users []uint32, joined []members.JoinedGroup,
	left *leftOut) ([]count, error) {
	peers, err := s.peerCounts(ctx, users, left)
	if err != nil {
		return nil, err
	}
	groups, err := s.groupCounts(ctx, joined, left)
	return append(peers, groups...), err
}

// peerCounts returns the counts of unread messages between users, without zeros.
func (s *Counts) peerCounts(ctx context.Context, users []uint32, left *leftOut) ([]count,
	error) {
	var list []count
	err := database.InChunks(users, redisconn.PipelineSize, func(part []uint32) error {
		answers := make([]*redis.MapStringStringCmd, len(part))
		// The error of the pipeline is that of its first failed command. Each command has
		// its own.
		_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, u := range part {
				answers[i] = p.HGetAll(ctx, outbox.UnreadKey(u))
			}
			return nil
		})
		for i, u := range part {
			fields, err := answers[i].Result()
			if err != nil && !redisconn.WrongType(err) {
				err = s.db.RedisError("read unread counts", err)
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
				if n := redisconn.CountOf(value); err == nil && n > 0 {
					list = append(list, count{outbox.Count{User: u, Peer: uint32(peer),
						N: uint32(min(n, 1<<32-1))}, pb.SessionType_SESSION_TYPE_SINGLE})
				}
			}
		}
		return nil
	})
	return list, err
}

// groupCounts returns the numbers of unread messages in users' groups, without zeros.
func (s *Counts) groupCounts(ctx context.Context, joined []members.JoinedGroup,
	left *leftOut) ([]count, error) {
	var list []count
	err := database.InChunks(joined, redisconn.PipelineSize/2,
		func(part []members.JoinedGroup) error {
			read, sent := s.readAndSent(ctx, part)
			for i, j := range part {
				n, err := s.unreadIn(ctx, j, read[i], sent[j.Group])
				if ok, err := left.counted(ctx, err); err != nil {
					return err
				} else if ok && n > 0 {
					list = append(list, count{outbox.Count{User: j.User, Peer: j.Group, N: n},
						pb.SessionType_SESSION_TYPE_GROUP})
				}
			}
			return nil
		})
	return list, err
}

// readAndSent reads both counts of groups. It reads the members' counts first, so that
// they do not exceed the groups' counts. Each answer has its own error.
func (s *Counts) readAndSent(ctx context.Context,
	joined []members.JoinedGroup) (read []*redis.StringCmd, sent map[uint32]*redis.StringCmd) {
	read, sent = make([]*redis.StringCmd, len(joined)), make(map[uint32]*redis.StringCmd,
		len(joined))
	// The error of the pipeline is that of its first failed command.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, j := range joined {
			read[i] = p.HGet(ctx, outbox.ReadKey(j.User, j.Group), "count")
		}
		for _, j := range joined {
			if sent[j.Group] == nil {
				sent[j.Group] = p.HGet(ctx, outbox.GroupKey(j.Group), "count")
			}
		}
		return nil
	})
	return read, sent
}

// unreadIn returns the number of a member's unread messages in a group, from the answers
// of readAndSent.
func (s *Counts) unreadIn(ctx context.Context, j members.JoinedGroup, read,
	sent *redis.StringCmd) (uint32, error) {
	for _, cmd := range []*redis.StringCmd{read, sent} {
		if err := cmd.Err(); err != nil && err != redis.Nil && !redisconn.WrongType(err) {
			return 0, s.db.RedisError("read unread counts of groups", err)
		}
	}
	return s.unreadOf(ctx, j, read.Val(), redisconn.CountOf(sent.Val()))
}

// unreadOf returns the difference of a group's two counts, and repairs a count that Redis
// lost. A missing member's count is "".
func (s *Counts) unreadOf(ctx context.Context, j members.JoinedGroup, read string,
	sent int64) (uint32, error) {
	switch have := redisconn.CountOf(read); {
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
func (s *Counts) startCount(ctx context.Context, j members.JoinedGroup, sent int64) (uint32,
	error) {
	of := conversation.Thread{Group: true, ID: j.Group}
	var since int64
	query := fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s WHERE groupId=%d AND status=0%s "+
		"LIMIT %d) AS m", of.Table(), j.Group, j.Where(), startCountMax)
	if err := s.db.Master.QueryRowContext(ctx, query).Scan(&since); err != nil {
		return 0, s.db.SQLError("count a group's messages", err)
	}
	unread := sent
	if since < startCountMax {
		unread = min(sent, since)
	}
	s.repairs.WithLabelValues("read").Inc()
	err := s.db.Redis.Unread.HSetNX(ctx, outbox.ReadKey(j.User, j.Group), "count",
		sent-unread).Err()
	if err != nil && !redisconn.WrongType(err) {
		return 0, s.db.RedisError("restore what a user has read", err)
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
func (s *Counts) lowerCount(ctx context.Context, j members.JoinedGroup, read string) error {
	sent, err := outbox.GroupSent(ctx, s.db, j.Group)
	if err != nil || redisconn.CountOf(read) <= sent {
		return err
	}
	s.repairs.WithLabelValues("sent").Inc()
	err = lowers.Run(ctx, s.db.Redis.Unread, []string{outbox.ReadKey(j.User, j.Group)}, read,
		sent).Err()
	return s.db.RedisError("restore what a user has read", err)
}

// ClearUnread sets user's unread count for peer to zero, and notes the read mark.
func (s *Counts) ClearUnread(ctx context.Context, user, peer uint32) error {
	// Nearly always from the cache. Without it the count is cleared without a mark.
	c, _ := s.conversations.Of(ctx, s.db.Master, user, peer)
	if c != nil {
		// After a failover the counter may be lower than the last id. Without an answer of the
		// database the mark may then be too low: too many messages are unread after a loss.
		_ = s.ids.Compare(ctx, c)
	}
	var last *redis.StringCmd
	var cleared *redis.IntCmd
	// Each command has its own error.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		if c != nil { // before the clear: a message that is counted later has a higher id
			last = p.Get(ctx, c.Thread.Counter())
		}
		cleared = p.HDel(ctx, outbox.UnreadKey(user), strconv.FormatUint(uint64(peer), 10))
		return nil
	})
	if err := cleared.Err(); err != nil {
		return s.db.RedisError("clear unread count", err)
	}
	if c != nil {
		k, msg := readMark{user, peer, pb.SessionType_SESSION_TYPE_SINGLE}, c.LastGiven(last.Val())
		s.marks.note(k, msg)
		s.marks.noteRead(k, readTo{msg: msg})
	}
	return nil
}

// ClearGroupUnread marks everything in a group as read by a user; see im.GroupStore.
func (s *Counts) ClearGroupUnread(ctx context.Context, user, group uint32) error {
	_, ok, err := s.members.JoiningOf(ctx, user, group)
	if !ok || err != nil {
		return s.db.SQLError("look up member", err)
	}
	return s.ClearGroup(ctx, user, group)
}

// ClearGroup sets a member's count to the group's count, and notes the read mark.
func (s *Counts) ClearGroup(ctx context.Context, user, group uint32) error {
	var last, count *redis.StringCmd
	// Each command has its own error.
	_, _ = s.db.Redis.Unread.Pipelined(ctx, func(p redis.Pipeliner) error {
		last = p.Get(ctx, conversation.Thread{Group: true, ID: group}.Counter())
		count = p.HGet(ctx, outbox.GroupKey(group), "count")
		return nil
	})
	v, err := count.Result()
	if err != nil && err != redis.Nil && !redisconn.WrongType(err) {
		return s.db.RedisError("read the count of a group's messages", err)
	}
	err = outbox.RaiseCount.Run(ctx, s.db.Redis.Unread, []string{outbox.ReadKey(user, group)},
		redisconn.CountOf(v)).Err()
	if err != nil {
		return s.db.RedisError("clear unread count", err)
	}
	k := readMark{user, group, pb.SessionType_SESSION_TYPE_GROUP}
	s.marks.note(k, uint32(min(redisconn.CountOf(last.Val()), 1<<32-1)))
	s.marks.noteRead(k, readTo{count: redisconn.CountOf(v)})
	return nil
}
