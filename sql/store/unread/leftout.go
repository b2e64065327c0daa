package unread

import (
	"context"

	"teamtalk/core/im"
)

// leftOut counts the conversations of one question whose unread counts cannot be read. A
// Redis Cluster without a master for a slot serves the other slots, and the question is
// answered without the counts of that slot. A single Redis fails as a whole, and the
// question with it: the user would believe that nothing is unread.
type leftOut struct {
	u     *Counts
	read  int
	n     int
	cause error // of the first that was left out
}

// counted takes the outcome of one count. It reports whether the count was read. An error
// ends the question.
func (l *leftOut) counted(ctx context.Context, err error) (ok bool, fatal error) {
	switch {
	case err == nil:
		l.read++
		return true, nil
	case !l.u.db.Redis.Cluster, ctx.Err() != nil, im.KindOf(err) != im.Unavailable:
		return false, err
	}
	if l.n++; l.cause == nil {
		l.cause = err
	}
	return false, nil
}

// end records what was left out. The error is that of the first count when none was read.
func (l *leftOut) end() error {
	if l.n == 0 {
		return nil
	}
	if l.read == 0 {
		return l.cause
	}
	l.u.leftOut.Add(float64(l.n))
	l.u.often.Warn(l.u.db.Log, l.u.db.ProcessTime(),
		"unread counts left out: a slot of the Redis Cluster is "+
			"not served", "conversations", l.n, "err", l.cause)
	return nil
}
