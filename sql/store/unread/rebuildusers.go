package unread

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// unreadSide is a side of a conversation between users, in a rebuild.
type unreadSide struct {
	user, peer uint32
	in         conversation.Thread
	mark       uint32
	marked     bool // the mark is stored

	there  *redisconn.Run // answers the count in Redis before the messages were counted
	unread int64
}

// sidesPage is the number of sides that are looked at together.
const sidesPage = 500

// users rebuilds the counts of conversations between users.
func (r *run) users(ctx context.Context) error {
	for last := uint32(0); ; {
		began := time.Now()
		sides, end, err := r.sidesAfter(ctx, last)
		if err != nil || len(sides) == 0 {
			return err
		}
		r.done.Conversations += len(sides)
		if sides, err = r.unreadSides(ctx, sides); err != nil {
			return err
		}
		n, err := r.raiseSides(ctx, sides)
		r.done.Counts += n
		r.raised.Add(float64(n))
		if err != nil {
			return err
		}
		if err := r.pace(ctx, began); err != nil {
			return err
		}
		last = end
	}
}

// sidesAfter returns the next listed sides of conversations with a message since a time,
// in the order of their rows, after row last. end is the last row. Before finalize a side
// may have two rows, and is then looked at twice.
func (r *run) sidesAfter(ctx context.Context, last uint32) (sides []*unreadSide,
	end uint32, err error) {
	rows, err := r.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT id, userId, peerId "+
		"FROM IMRecentSession WHERE id>%d AND type=%d AND status=0 AND updated>=%d "+
		"ORDER BY id LIMIT %d", last, pb.SessionType_SESSION_TYPE_SINGLE,
		max(r.since, conversation.ChatMargin)-conversation.ChatMargin, sidesPage))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		d := &unreadSide{}
		if err := rows.Scan(&end, &d.user, &d.peer); err != nil {
			return nil, 0, err
		}
		sides = append(sides, d)
	}
	return sides, end, rows.Err()
}

// unreadSides returns the sides whose conversation has a message after the mark.
func (s *Rebuild) unreadSides(ctx context.Context, sides []*unreadSide) ([]*unreadSide, error) {
	var pairs []uint64
	var keys []readMark
	for _, d := range sides {
		pairs = append(pairs, im.ConversationKey(d.user, d.peer))
		keys = append(keys, readMark{d.user, d.peer, pb.SessionType_SESSION_TYPE_SINGLE})
	}
	slices.Sort(pairs)
	relations, err := conversation.RelationsOf(ctx, s.db.Master, slices.Compact(pairs))
	if err != nil {
		return nil, err
	}
	marks, err := s.marks.stored(ctx, keys)
	if err != nil {
		return nil, err
	}
	threads := make([]conversation.Thread, 0, len(relations))
	for _, r := range relations {
		threads = append(threads, conversation.Thread{ID: r.ID})
	}
	if len(threads) == 0 {
		return nil, nil
	}
	highest, err := s.ids.Highest(ctx, s.db.Master, threads)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sides, func(d *unreadSide) bool {
		r, ok := relations[im.ConversationKey(d.user, d.peer)]
		d.in = conversation.Thread{ID: r.ID}
		d.mark, d.marked = marks[readMark{d.user, d.peer, pb.SessionType_SESSION_TYPE_SINGLE}]
		return !ok || highest[d.in] <= d.mark
	}), nil
}

// places returns the count of field ARGV[1], and makes it 0 if it is missing. So a change
// before restores is noticed: a clear removes the field.
var places = redis.NewScript(`local v = redis.call('HGET', KEYS[1], ARGV[1])
if v then return v end
redis.call('HSET', KEYS[1], ARGV[1], 0)
return '0'`)

// restores raises the count of field ARGV[1] from ARGV[2] to ARGV[3], and removes it when
// it stays 0. The answer is 1 for a count that was raised, 0 for one that stays, and -1 for
// one that has changed.
var restores = redis.NewScript(`local v = redis.call('HGET', KEYS[1], ARGV[1])
if not v then return 0 end
if v ~= ARGV[2] then return -1 end
local have, want = tonumber(v) or 0, tonumber(ARGV[3])
if want > have then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  return 1
end
if have == 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0`)

// raiseTries bounds the tries to raise a count that changes meanwhile.
const raiseTries = 10

// raiseSides counts the unread messages of sides and raises their counts. It returns the
// number of counts that were raised.
func (r *run) raiseSides(ctx context.Context, sides []*unreadSide) (raised int, err error) {
	for try := 0; len(sides) > 0 && try < raiseTries; try++ {
		runs := make([]*redisconn.Run, len(sides))
		for i, d := range sides {
			d.there = &redisconn.Run{Script: places, Keys: []string{outbox.UnreadKey(d.user)},
				Args: []any{d.peer}}
			runs[i] = d.there
		}
		redisconn.RunAll(ctx, r.db.Redis.Unread, runs)
		sides = slices.DeleteFunc(sides, func(d *unreadSide) bool {
			return redisconn.WrongType(d.there.Answer.Err())
		})
		if err := r.countUnread(ctx, sides, r.since, startCountMax); err != nil {
			return raised, err
		}
		settled, again, err := r.settledSides(ctx, sides, try)
		if err != nil {
			return raised, err
		}
		sides, runs = settled, runs[:0]
		for _, d := range sides {
			have, err := d.there.Answer.Text()
			if err != nil {
				return raised, r.db.RedisError("rebuild unread counts", err)
			}
			runs = append(runs, &redisconn.Run{Script: restores, Keys: d.there.Keys,
				Args: []any{d.peer, have, d.unread}})
		}
		redisconn.RunAll(ctx, r.db.Redis.Unread, runs)
		if err := redisconn.FirstError(runs); err != nil {
			return raised, r.db.RedisError("rebuild unread counts", err)
		}
		for i, d := range sides {
			switch n, _ := runs[i].Answer.Int(); n {
			case 1:
				raised++
			case -1:
				again = append(again, d)
			}
		}
		sides = again
	}
	return raised, nil
}

// settledSides returns the sides whose counts no batch owes, and those that are counted
// again. After the last try the counts of all are raised: too many unread messages do less
// harm than too few.
func (r *run) settledSides(ctx context.Context, sides []*unreadSide,
	try int) (settled, again []*unreadSide, err error) {
	if try == raiseTries-1 {
		return sides, nil, nil
	}
	keys := map[string]bool{}
	for _, d := range sides {
		keys[outbox.UnreadKey(d.user)] = true
	}
	owing, err := r.owing.Of(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range sides {
		if owing[outbox.UnreadKey(d.user)] {
			again = append(again, d)
		} else {
			settled = append(settled, d)
		}
	}
	if len(again) > 0 {
		err = r.looksAgain(ctx, try)
	}
	return settled, again, err
}

// countUnread counts the messages of the peers after the marks, at most most for each side.
// Without a mark the messages since a time count.
func (s *Rebuild) countUnread(ctx context.Context, sides []*unreadSide, since uint32,
	most int64) error {
	first := 0
	return database.InChunks(sides, 100, func(part []*unreadSide) error {
		queries := make([]string, len(part))
		for i, d := range part {
			from := ""
			if !d.marked {
				from = fmt.Sprintf(" AND created>=%d", since)
			}
			queries[i] = fmt.Sprintf("SELECT %d AS i, COUNT(*) FROM (SELECT 1 FROM %s WHERE "+
				"relateId=%d AND status=0 AND msgId>%d AND fromId=%d%s LIMIT %d) AS m",
				first+i, d.in.Table(), d.in.ID, d.mark, d.peer, from, most)
		}
		first += len(part)
		rows, err := s.db.Master.QueryContext(ctx, "("+strings.Join(queries, ") UNION ALL (")+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var i int
			var n int64
			if err := rows.Scan(&i, &n); err != nil {
				return err
			}
			sides[i].unread = n
		}
		return rows.Err()
	})
}
