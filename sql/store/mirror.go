package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// C++ servers read the members of a group from group_member_<group> in Redis. So every
// change of members is written to that hash after its commit, while the group's row is
// locked again: the last writer writes the current rows. Only the fields of the changed
// users are written, so that concurrent writes of C++ servers for other users remain. If
// the number of fields then differs from the number of rows, all fields are written anew.
// When Redis is unavailable, the outbox keeps the change (outbox.go).

// mirror is the part that writes changes of a group's members to Redis.
type mirror struct {
	db     *databases
	outbox *outbox
}

// newMirror makes the part.
func newMirror(db *databases, outbox *outbox) *mirror {
	return &mirror{db: db, outbox: outbox}
}

// memberKey returns the key of the hash of a group's members, with their times of
// joining.
func memberKey(group uint32) string {
	return "group_member_" + strconv.FormatUint(uint64(group), 10)
}

// tell writes a committed change to Redis. It does not fail: the outbox keeps a change
// that Redis does not take, and housekeeping writes it later.
func (s *mirror) tell(ctx context.Context, c owedChange) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.db.hooks.run(s.db.hooks.afterCommit)
	for _, change := range c.owed.changes {
		if err == nil {
			err = s.applyChange(ctx, change)
		}
	}
	if err == nil {
		err = s.outbox.drop(ctx, c.sl)
	}
	if err != nil {
		s.db.m.changes.WithLabelValues("deferred").Inc()
		s.db.log.Warn("a change of members waits for Redis in the outbox",
			"group", c.owed.changes[0].group, "err", err)
		s.outbox.leave(c.sl)
	}
}

// changeAgain updates Redis after a change of members that Redis may have lost. The counts of
// users that joined then begin with their next look at them, from the messages in the table:
// messages that were sent since are unread.
func (s *mirror) changeAgain(ctx context.Context, c memberChange) error {
	if c.joined {
		err := inChunks(c.users, 1000, func(part []uint32) error {
			runs := make([]*scriptRun, len(part))
			for i, u := range part {
				runs[i] = &scriptRun{script: rejoins, keys: []string{readKey(u, c.group)},
					args: []any{c.version}}
			}
			runScripts(ctx, s.db.redis.unread, runs)
			return s.db.redisError("start to count for new members", scriptErr(runs))
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

// applyChange updates Redis after a change of members. It may run more than once for a
// change.
func (s *mirror) applyChange(ctx context.Context, c memberChange) error {
	if c.joined {
		if err := s.startReading(ctx, c); err != nil {
			return err
		}
	}
	return s.mirrorMembers(ctx, c)
}

// startReading sets the read count of new members to all messages sent before. It first
// applies the counts of those messages that are still in the outbox.
func (s *mirror) startReading(ctx context.Context, c memberChange) error {
	if c.version > 1 {
		if err := s.outbox.countGroup(ctx, c.group); err != nil {
			return err
		}
	}
	count, err := groupSent(ctx, s.db, c.group)
	if err != nil {
		return err
	}
	return inChunks(c.users, 1000, func(part []uint32) error {
		runs := make([]*scriptRun, len(part))
		for i, u := range part {
			runs[i] = &scriptRun{script: joins, keys: []string{readKey(u, c.group)},
				args: []any{count, c.version}}
		}
		runScripts(ctx, s.db.redis.unread, runs)
		return s.db.redisError("start to count for new members", scriptErr(runs))
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
func (s *mirror) mirrorMembers(ctx context.Context, c memberChange) error {
	err := s.db.retry(ctx, func() error {
		tx, err := s.db.master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // the transaction only held the lock
		var id uint32
		if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT id FROM IMGroup "+
			"WHERE id=%d FOR UPDATE", c.group)).Scan(&id); err != nil {
			return err
		}
		joined, err := joinTimes(ctx, tx, c.group)
		if err != nil {
			return err
		}
		if err := s.db.hooks.run(s.db.hooks.mirror); err != nil {
			return err
		}
		return s.writeMirror(ctx, c, joined)
	})
	// an administrator deleted the group's row, so its members do not matter
	if err == sql.ErrNoRows {
		return nil
	}
	return s.db.dbError("mirror members", err)
}

// writeMirror writes the fields of the changed users. If the number of fields is then
// wrong, it writes all fields.
func (s *mirror) writeMirror(ctx context.Context, c memberChange, joined map[uint32]uint32) error {
	key := memberKey(c.group)
	var in []any
	var out []string
	for _, u := range c.users {
		field := strconv.FormatUint(uint64(u), 10)
		if at, ok := joined[u]; ok {
			in = append(in, field, at)
		} else {
			out = append(out, field)
		}
	}
	var size *redis.IntCmd
	_, err := s.db.redis.groupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
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
		return s.db.redisError("mirror members", err)
	}
	if size.Val() == int64(len(joined)) {
		return nil
	}
	s.db.m.rewrites.Inc()
	all := make([]any, 0, 2*len(joined))
	for u, at := range joined {
		all = append(all, strconv.FormatUint(uint64(u), 10), at)
	}
	_, err = s.db.redis.groupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		for part := range slices.Chunk(all, 2000) {
			p.HSet(ctx, key, part...)
		}
		return nil
	})
	return s.db.redisError("mirror members", err)
}
