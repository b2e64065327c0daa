package groups

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"teamtalk/sql/store/database"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// C++ servers read the members of a group from group_member_<group> in Redis. So every
// change of members is written to that hash after its commit, while the group's row is
// locked again: the last writer writes the current rows. Only the fields of the changed
// users are written, so that concurrent writes of C++ servers for other users remain. If
// the number of fields then differs from the number of rows, all fields are written anew.
// When Redis is unavailable, the outbox keeps the change (package outbox).

// Mirror is the part that writes changes of a group's members to Redis.
type Mirror struct {
	db     *database.DB
	outbox *outbox.Outbox

	changes  *prometheus.CounterVec // also those that need no mirror
	rewrites prometheus.Counter
}

// NewMirror makes the part.
func NewMirror(db *database.DB, outbox *outbox.Outbox) *Mirror {
	return &Mirror{db: db, outbox: outbox,
		changes: db.Metrics.CounterVec("group_changes", "Changes of groups: created, added, "+
			"removed, renamed. Deferred counts the changes of members that Redis gets later.",
			"what"),
		rewrites: db.Metrics.Counter("group_members_rewritten",
			"Groups whose members were wrong in Redis and were written anew."),
	}
}

// MemberKey returns the key of the hash of a group's members, with their times of
// joining.
func MemberKey(group uint32) string {
	return "group_member_" + strconv.FormatUint(uint64(group), 10)
}

// tell writes a committed change to Redis. It does not fail: the outbox keeps a change
// that Redis does not take, and housekeeping writes it later.
func (s *Mirror) tell(ctx context.Context, c owedChange) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.db.Hooks.Run(s.db.Hooks.AfterCommit)
	for _, change := range c.owed.Changes {
		if err == nil {
			err = s.ApplyChange(ctx, change)
		}
	}
	if err == nil {
		err = s.outbox.Drop(ctx, c.sl)
	}
	if err != nil {
		s.changes.WithLabelValues("deferred").Inc()
		s.db.Log.Warn("a change of members waits for Redis in the outbox",
			"group", c.owed.Changes[0].Group, "err", err)
		s.outbox.Leave(c.sl)
	}
}

// ChangeAgain updates Redis after a change of members that Redis may have lost. The counts of
// users that joined then begin with their next look at them, from the messages in the table:
// messages that were sent since are unread.
func (s *Mirror) ChangeAgain(ctx context.Context, c outbox.MemberChange) error {
	if c.Joined {
		err := database.InChunks(c.Users, 1000, func(part []uint32) error {
			runs := make([]*redisconn.Run, len(part))
			for i, u := range part {
				runs[i] = &redisconn.Run{Script: rejoins, Keys: []string{outbox.ReadKey(u,
					c.Group)},
					Args: []any{c.Version}}
			}
			redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
			return s.db.RedisError("start to count for new members", redisconn.FirstError(runs))
		})
		if err != nil {
			return err
		}
	}
	return s.mirrorMembers(ctx, c)
}

// rejoins removes a user's read count, unless it is that of version ARGV[1] of the group or a
// later one.
var rejoins = redis.NewScript(`local j = redis.pcall('HGET', KEYS[1], 'joined')
if j and (type(j) ~= 'string' or (tonumber(j) or 0) >= tonumber(ARGV[1])) then return 0 end
redis.call('HDEL', KEYS[1], 'count')
redis.call('HSET', KEYS[1], 'joined', ARGV[1])
return 1`)

// ApplyChange updates Redis after a change of members. It may run more than once for a
// change.
func (s *Mirror) ApplyChange(ctx context.Context, c outbox.MemberChange) error {
	if c.Joined {
		if err := s.startReading(ctx, c); err != nil {
			return err
		}
	}
	return s.mirrorMembers(ctx, c)
}

// startReading sets the read count of new members to all messages sent before. It first
// applies the counts of those messages that are still in the outbox.
func (s *Mirror) startReading(ctx context.Context, c outbox.MemberChange) error {
	if c.Version > 1 {
		if err := s.outbox.CountGroup(ctx, c.Group); err != nil {
			return err
		}
	}
	count, err := outbox.GroupSent(ctx, s.db, c.Group)
	if err != nil {
		return err
	}
	return database.InChunks(c.Users, 1000, func(part []uint32) error {
		runs := make([]*redisconn.Run, len(part))
		for i, u := range part {
			runs[i] = &redisconn.Run{Script: joins, Keys: []string{outbox.ReadKey(u, c.Group)},
				Args: []any{count, c.Version}}
		}
		redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
		return s.db.RedisError("start to count for new members", redisconn.FirstError(runs))
	})
}

// joins sets a user's read count to ARGV[1], once for each version ARGV[2] of the group.
// Later counts continue from there.
var joins = redis.NewScript(`local j = redis.pcall('HGET', KEYS[1], 'joined')
if j and (type(j) ~= 'string' or (tonumber(j) or 0) >= tonumber(ARGV[2])) then return 0 end
redis.call('HSET', KEYS[1], 'count', ARGV[1], 'joined', ARGV[2])
return 1`)

// mirrorMembers writes to Redis which of the changed users are members by the current
// rows.
func (s *Mirror) mirrorMembers(ctx context.Context, c outbox.MemberChange) error {
	err := s.db.Retry(ctx, func() error {
		tx, err := s.db.Master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // the transaction only held the lock
		var id uint32
		if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT id FROM IMGroup "+
			"WHERE id=%d FOR UPDATE", c.Group)).Scan(&id); err != nil {
			return err
		}
		joined, err := members.JoinTimes(ctx, tx, c.Group)
		if err != nil {
			return err
		}
		if err := s.db.Hooks.Run(s.db.Hooks.Mirror); err != nil {
			return err
		}
		return s.writeMirror(ctx, c, joined)
	})
	// an administrator deleted the group's row, so its members do not matter
	if err == sql.ErrNoRows {
		return nil
	}
	return s.db.SQLError("mirror members", err)
}

// writeMirror writes the fields of the changed users. If the number of fields is then
// wrong, it writes all fields.
func (s *Mirror) writeMirror(ctx context.Context, c outbox.MemberChange,
	joined map[uint32]uint32) error {
	key := MemberKey(c.Group)
	var in []any
	var out []string
	for _, u := range c.Users {
		field := strconv.FormatUint(uint64(u), 10)
		if at, ok := joined[u]; ok {
			in = append(in, field, at)
		} else {
			out = append(out, field)
		}
	}
	var size *redis.IntCmd
	_, err := s.db.Redis.GroupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for part := range slices.Chunk(in, 2000) {
			p.HSet(ctx, key, part...)
		}
		for part := range slices.Chunk(out, 1000) {
			p.HDel(ctx, key, part...)
		}
		size = p.HLen(ctx, key)
		return nil
	})
	if err != nil {
		return s.db.RedisError("mirror members", err)
	}
	if size.Val() == int64(len(joined)) {
		return nil
	}
	s.rewrites.Inc()
	all := make([]any, 0, 2*len(joined))
	for u, at := range joined {
		all = append(all, strconv.FormatUint(uint64(u), 10), at)
	}
	_, err = s.db.Redis.GroupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		for part := range slices.Chunk(all, 2000) {
			p.HSet(ctx, key, part...)
		}
		return nil
	})
	return s.db.RedisError("mirror members", err)
}
