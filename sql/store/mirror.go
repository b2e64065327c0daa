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

// C++ servers take group_member_<group> in Redis for the truth about who is in. So each change of ours is told there, after its commit and under the lock of
// the group's row again: whoever of us writes last writes what the rows are then. Only the users changed are written, so that
// what C++ servers write meanwhile of others stays; when that leaves a number of members that is not the rows', all are written anew. What
// Redis cannot take now the outbox has (outbox.go).

// mirror is the part that writes changes of a group's members to Redis.
type mirror struct {
	*databases
	outbox *outbox
}

// memberKey is the hash of a group's members, with their times of joining.
func memberKey(group uint32) string { return "group_member_" + strconv.FormatUint(uint64(group), 10) }

// tell tells Redis of a change that is committed. It cannot fail: what Redis does not take now it gets from the outbox later.
func (s *mirror) tell(ctx context.Context, c owedChange) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.o.hooks.run(s.o.hooks.afterCommit)
	for _, change := range c.owed.changes {
		if err == nil {
			err = s.applyChange(ctx, change)
		}
	}
	if err == nil {
		err = s.outbox.dropOwed(ctx, c.sl.owner, c.sl.seq)
	}
	if err != nil {
		s.m.changes.WithLabelValues("deferred").Inc()
		s.log.Warn("a change of members waits for Redis in the outbox", "group", c.owed.changes[0].group, "err", err)
		s.outbox.retired.add(c.sl.owner)
	}
}

// applyChange brings Redis up to date after a change of members. Doing it again does no harm.
func (s *mirror) applyChange(ctx context.Context, c memberChange) error {
	if c.joined {
		if err := s.startReading(ctx, c); err != nil {
			return err
		}
	}
	return s.mirrorMembers(ctx, c)
}

// startReading lets users who joined have read all that was sent before. What is still owed of that is counted first.
func (s *mirror) startReading(ctx context.Context, c memberChange) error {
	if c.version > 1 {
		if err := s.countOwed(ctx, c.group); err != nil {
			return err
		}
	}
	count, err := s.groupCount(ctx, c.group)
	if err != nil {
		return err
	}
	return inChunks(c.users, 1000, func(part []uint32) error {
		err := scripted(func(byHash bool) error {
			_, err := s.redis.unread.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, u := range part {
					runScript(ctx, p, joins, byHash, []string{readKey(u, c.group)}, count, c.version)
				}
				return nil
			})
			return err
		})
		return s.redisError("start to count for new members", err)
	})
}

// joins sets what a user has read to ARGV[1], once for each version ARGV[2] of the group: counts go on after it.
var joins = redis.NewScript(`local j = redis.pcall('HGET', KEYS[1], 'joined')
if j and (type(j) ~= 'string' or (tonumber(j) or 0) >= tonumber(ARGV[2])) then return 0 end
redis.call('HSET', KEYS[1], 'count', ARGV[1], 'joined', ARGV[2])
return 1`)

// owedLimit is how many rows of the outbox are looked through for a group's counts. There is one a worker, and more only after Redis was away.
const owedLimit = 1000

// countOwed applies what the outbox has of a group's messages. Rows stay where they are: they may be of workers who are about to apply them too.
func (s *mirror) countOwed(ctx context.Context, group uint32) error {
	rows, err := s.outbox.readOwed(ctx, "TRUE", owedLimit)
	if err != nil {
		return s.dbError("read the outbox", err)
	}
	for _, r := range rows {
		if !slices.ContainsFunc(r.owed.groups, func(g groupCount) bool { return g.group == group }) {
			continue
		}
		if err := s.outbox.apply(ctx, r.owner, r.seq, r.owed); err != nil {
			return err
		}
	}
	return nil
}

// mirrorMembers writes to Redis who of the changed users is in, as the rows say now.
func (s *mirror) mirrorMembers(ctx context.Context, c memberChange) error {
	err := s.retry(ctx, func() error {
		tx, err := s.master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // nothing is written; the lock has done its work
		var id uint32
		if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT id FROM IMGroup WHERE id=%d FOR UPDATE", c.group)).Scan(&id); err != nil {
			return err
		}
		joined, err := joinTimes(ctx, tx, c.group)
		if err != nil {
			return err
		}
		if err := s.o.hooks.run(s.o.hooks.mirror); err != nil {
			return err
		}
		return s.writeMirror(ctx, c, joined)
	})
	if err == sql.ErrNoRows { // an administrator removed the group's row: nobody asks who was in
		return nil
	}
	return s.dbError("mirror members", err)
}

// joinTimes reads the members of a group and their times of joining.
func joinTimes(ctx context.Context, tx *sql.Tx, group uint32) (map[uint32]uint32, error) {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT userId, "+joinTime+" FROM IMGroupMember WHERE groupId=%d AND status=0", group))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	joined := map[uint32]uint32{}
	for rows.Next() {
		var user, at uint32
		if err := rows.Scan(&user, &at); err != nil {
			return nil, err
		}
		joined[user] = max(joined[user], at)
	}
	return joined, rows.Err()
}

// writeMirror writes the changed users' fields, and all of them if that does not make it right.
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
	_, err := s.redis.groupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
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
		return s.redisError("mirror members", err)
	}
	if size.Val() == int64(len(joined)) {
		return nil
	}
	s.m.rewrites.Inc()
	all := make([]any, 0, 2*len(joined))
	for u, at := range joined {
		all = append(all, strconv.FormatUint(uint64(u), 10), at)
	}
	_, err = s.redis.groupMember.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		for part := range slices.Chunk(all, 2000) {
			p.HSet(ctx, key, part...)
		}
		return nil
	})
	return s.redisError("mirror members", err)
}
