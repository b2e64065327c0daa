package messages

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/whereabouts"
	"teamtalk/sql/rediswhereabouts"
)

// In a cluster of message servers, the one that has given a message to a db_proxy wants to know on
// which others its users have devices. Redis is asked after the commit, in the pipeline that counts
// unread messages. So no device misses the message: its message server writes an entry before the
// device reads the history. If the entry is not found, the device reads later than the commit.

// questions are the questions for the whereabouts of the users of messages.
type questions struct {
	s     *Messages
	ctx   context.Context
	items []*item // that are to be answered
	asked map[uint32]*rediswhereabouts.Asked
}

// errNotAsked is the error of a question that was not sent, because the counts were not.
var errNotAsked = errors.New("not asked")

// questionsOf returns the questions for items; nil when none wants to know.
func (s *Messages) questionsOf(ctx context.Context, items []*item) *questions {
	var q *questions
	for _, it := range items {
		if !it.m.WantWhereabouts || it.m.Type.IsGroup() {
			continue
		}
		if q == nil {
			q = &questions{s: s, ctx: ctx, asked: map[uint32]*rediswhereabouts.Asked{}}
		}
		q.items = append(q.items, it)
		q.asked[it.m.From], q.asked[it.m.To] = nil, nil
	}
	return q
}

// add returns the function that adds the questions to a pipeline, each user once.
func (q *questions) add() func(p redis.Pipeliner) {
	if q == nil {
		return nil
	}
	return func(p redis.Pipeliner) {
		for user := range q.asked {
			a := rediswhereabouts.Ask(q.ctx, p, user)
			q.asked[user] = &a
		}
	}
}

// answer sets the whereabouts of the messages, after the pipeline. They stay nil when those of one
// of the users are not known.
func (q *questions) answer() {
	if q == nil {
		return
	}
	var refused rediswhereabouts.Refused
	found := make(map[uint32]whereabouts.Found, len(q.asked))
	var err error
	for user, a := range q.asked {
		f := whereabouts.Found{Err: errNotAsked}
		if a != nil {
			f = a.Found(&refused)
		}
		if found[user] = f; f.Err != nil {
			err = f.Err
		}
	}
	where := q.s.metrics.where
	for _, it := range q.items {
		to, from := found[it.m.To], found[it.m.From]
		if to.Err == nil && from.Err == nil {
			it.m.Whereabouts = whereabouts.OfMessage{Receiver: to.Entries,
				Sender: from.Entries}.Encode()
		}
		if it.m.Whereabouts != nil {
			where.WithLabelValues("found").Inc()
		} else {
			where.WithLabelValues("failed").Inc()
		}
	}
	where.WithLabelValues("refused").Add(float64(refused.Long + refused.Malformed))
	if err == nil {
		err = refused.Why
	}
	if err != nil {
		q.s.often.Warn(q.s.db.Log, time.Now(), "the whereabouts of users are not known, or values "+
			"in Redis are none", "err", err)
	}
}
