package messages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// Two processes may store messages of one conversation within the same second: message
// servers learn at different times that it has another db_proxy. A message server that knows
// nothing of the conversation delivers the message that arrives first. So the first message
// behind that of another process names it, unless it is old: each message server waits for it,
// or searches for it. One that is old would be delivered a second time.
//
// The same holds behind a message of this process whose commit has an unknown outcome: its
// message server has to search for it.
//
// The look-up is made after the commit, with one query for a batch. It is made once for each
// conversation that another process has stored to, or that a message was not stored to, and
// for no other message.

// findPrevious sets Previous of the messages that ask for it. A message of another process
// without a row is being stored, or never will be. When the look-up fails, nothing is named.
func (s *Messages) findPrevious(ctx context.Context, items []*item) {
	if !slices.ContainsFunc(items, func(it *item) bool { return it.previous }) {
		return // as nearly always
	}
	asked := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return !it.previous })
	now := uint32(s.db.Time().Unix())
	err := database.InChunks(asked, database.Chunk, func(part []*item) error {
		var q strings.Builder
		for i, it := range part {
			if i > 0 {
				q.WriteString(" UNION ALL ")
			}
			t := it.c.Thread
			// Before finalize the index has the status between the relation and the id.
			fmt.Fprintf(&q, "SELECT %d, IF(status=0, created, 0) FROM %s WHERE %s=%d AND "+
				"status IN (0,%d) AND msgId=%d", i, t.Table(), t.Column(), t.ID, statusClosed,
				it.id-1)
		}
		named := make([]bool, len(part))
		for i, it := range part {
			named[i] = it.foreign
		}
		err := s.pairs(ctx, q.String(), func(i, created uint32) {
			named[i] = im.MayBeOnItsWay(created, now)
		})
		if err != nil {
			return err
		}
		for i, it := range part {
			if named[i] {
				it.m.Previous = it.id - 1
			}
		}
		return nil
	})
	if err != nil {
		s.metrics.previous.WithLabelValues("failed").Add(float64(len(asked)))
		return
	}
	for _, it := range asked {
		outcome := "old"
		if it.m.Previous != 0 {
			outcome = "named"
		}
		s.metrics.previous.WithLabelValues(outcome).Inc()
	}
}
