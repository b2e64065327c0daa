package unread

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/redisconn"
)

// Before old messages are deleted, they cease to count as unread. If the deletion is interrupted
// afterwards, some messages remain that count as read.

// SkipBetween lowers the unread counts of two users in their conversation to the numbers of
// messages with ids above upto. Kind Busy when the counts change all the time.
func (s *Rebuild) SkipBetween(ctx context.Context, in conversation.Thread, users [2]uint32,
	upto uint32) error {
	sides := make([]*unreadSide, 2)
	for i, user := range users {
		sides[i] = &unreadSide{user: user, peer: users[1-i], in: in, mark: upto, marked: true}
	}
	return s.lowerSides(ctx, sides, s.outbox.Owing(), math.MaxInt32, true)
}

// SkipInGroup lowers the unread counts of a group's members to the number of messages with ids
// above upto. Kind Busy when messages are sent all the time.
func (s *Rebuild) SkipInGroup(ctx context.Context, group, upto uint32) error {
	joined, err := members.JoinTimes(ctx, s.db.Master, group)
	if err != nil {
		return s.db.SQLError("look up members", err)
	}
	users := slices.Sorted(maps.Keys(joined))
	of := conversation.Thread{Group: true, ID: group}
	query := fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE groupId=%d AND status=0 AND msgId>%d",
		of.Table(), group, upto)
	r := &run{Rebuild: s, owing: s.outbox.Owing()}
	for try := 0; len(users) > 0; try++ {
		sent, read, err := s.groupNow(ctx, group, users)
		if err != nil {
			return err
		}
		var left int64
		if err := s.db.Master.QueryRowContext(ctx, query).Scan(&left); err != nil {
			return s.db.SQLError("count a group's messages", err)
		}
		settled, err := r.settledGroup(ctx, group, sent)
		if err != nil {
			return s.db.SQLError("lower unread counts", err)
		}
		behind := slices.DeleteFunc(slices.Clone(users), func(u uint32) bool {
			at, _ := slices.BinarySearch(users, u)
			// A count that is missing is made of the messages in the table when it is needed.
			return read[at] == "" || sent-redisconn.CountOf(read[at]) <= left
		})
		if settled {
			return s.raiseRead(ctx, group, behind, sent-left)
		}
		if try == raiseTries {
			return im.Errorf(im.Busy, "unread counts change faster than they are compared")
		}
		if err := s.looksAgain(ctx, try); err != nil {
			return err
		}
	}
	return nil
}

// raiseRead raises the numbers of messages that members have read.
func (s *Rebuild) raiseRead(ctx context.Context, group uint32, users []uint32, to int64) error {
	for part := range slices.Chunk(users, redisconn.PipelineSize) {
		runs := make([]*redisconn.Run, len(part))
		for i, u := range part {
			runs[i] = &redisconn.Run{Script: outbox.RaiseCount,
				Keys: []string{outbox.ReadKey(u, group)}, Args: []any{to}}
		}
		redisconn.RunAll(ctx, s.db.Redis.Unread, runs)
		if err := redisconn.FirstError(runs); err != nil {
			return s.db.RedisError("lower unread counts", err)
		}
	}
	return nil
}
