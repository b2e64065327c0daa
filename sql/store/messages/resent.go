package messages

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
)

// A client without client_msg_ids sends a message again on a new connection when it got no
// ack for it. The row of a message has what the client numbered it as, so the message is
// recognised whichever process stored it first.

// mayBeResent reports whether a message is looked for before it is stored.
func mayBeResent(m *im.Message) bool {
	return conversation.IsNumbered(m) && m.ResentWithin != 0
}

// findResent marks the messages that their senders sent before as duplicates. The
// conversations of items must be known. On finalized tables a conversation remembers how its last
// messages were numbered, so nearly all messages cost no query. Another one costs a look at the
// messages of its conversation of the last ResentWithin seconds, in an index.
func (s *Messages) findResent(ctx context.Context, items []*item) error {
	asked := slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
		return !mayBeResent(it.m)
	})
	if len(asked) == 0 {
		return nil
	}
	if s.db.Finalized {
		// Otherwise nothing tells that another process has stored a message meanwhile.
		n := len(asked)
		if err := s.readSent(ctx, asked); err != nil {
			return err
		}
		asked = slices.DeleteFunc(asked, func(it *item) bool {
			return it.c.SentBefore(it.m) == conversation.Absent
		})
		s.metrics.resent.WithLabelValues("memory").Add(float64(n - len(asked)))
	}
	s.metrics.resent.WithLabelValues("table").Add(float64(len(asked)))
	return s.findNumbered(ctx, asked)
}

// readSent makes the conversations of items remember how their messages were numbered, those
// that do not.
func (s *Messages) readSent(ctx context.Context, items []*item) error {
	since := map[*conversation.Conversation]uint32{}
	var unread []*item // one for each conversation
	for _, it := range items {
		if it.c.SentBefore(it.m) != conversation.Unread {
			continue
		}
		if _, seen := since[it.c]; !seen {
			since[it.c] = it.m.ResentSince()
			unread = append(unread, it)
		}
		since[it.c] = min(since[it.c], it.m.ResentSince())
	}
	return database.InChunks(unread, resentChunk, func(part []*item) error {
		return s.readSentOf(ctx, part, since)
	})
}

// readSentOf reads how the messages of the conversations of items were numbered that were created
// at since or later.
func (s *Messages) readSentOf(ctx context.Context, items []*item,
	since map[*conversation.Conversation]uint32) error {
	var q strings.Builder
	for i, it := range items {
		if i > 0 {
			q.WriteString(" UNION ALL ")
		}
		t := it.c.Thread
		sender := "fromId"
		if t.Group {
			sender = "userId"
		}
		fmt.Fprintf(&q, "(SELECT %d, %s, sentAs, created FROM %s WHERE %s=%d AND status=0 "+
			"AND created>=%d AND sentAs<>0 LIMIT %d)", i, sender, t.Table(), t.Column(), t.ID,
			since[it.c], conversation.MaxSent+1)
	}
	rows, err := s.db.Master.QueryContext(ctx, q.String())
	if err != nil {
		return s.db.SQLError("look up messages sent before", err)
	}
	defer rows.Close()
	sent, count := make([]map[conversation.Sent]uint32, len(items)), make([]int, len(items))
	for rows.Next() {
		var n int
		var e conversation.Sent
		var created uint32
		if err := rows.Scan(&n, &e.From, &e.SentAs, &created); err != nil {
			return s.db.SQLError("look up messages sent before", err)
		}
		if sent[n] == nil {
			sent[n] = map[conversation.Sent]uint32{}
		}
		sent[n][e] = max(sent[n][e], created)
		count[n]++
	}
	if err := rows.Err(); err != nil {
		return s.db.SQLError("look up messages sent before", err)
	}
	for i, it := range items {
		it.c.ReadSent(since[it.c], it.m.Created, count[i], sent[i])
	}
	s.metrics.resent.WithLabelValues("read").Add(float64(len(items)))
	return nil
}

// findNumbered marks those of items as duplicates whose sender has sent a message with the
// same content and number.
func (s *Messages) findNumbered(ctx context.Context, asked []*item) error {
	err := database.InChunks(asked, resentChunk, func(part []*item) error {
		var q strings.Builder
		for i, it := range part {
			if i > 0 {
				q.WriteString(" UNION ALL ")
			}
			writeResentQuery(&q, i, it)
		}
		return s.readResent(ctx, q.String(), part)
	})
	if err != nil {
		for _, it := range asked {
			it.m.ID, it.m.Duplicate, it.m.FirstCreated = 0, false, 0
		}
	}
	return err
}

// resentChunk is how many messages one query looks for.
const resentChunk = 64

// writeResentQuery writes the query for the messages that it may repeat. n is its number.
func writeResentQuery(q *strings.Builder, n int, it *item) {
	t, m := it.c.Thread, it.m
	sender := "fromId"
	if t.Group {
		sender = "userId"
	}
	sound, join := "0, 0", ""
	if history.IsAudio(m.Type) {
		sound, join = "a.size, a.duration", " JOIN IMAudio a ON a.id=CAST(t.content AS UNSIGNED)"
	}
	fmt.Fprintf(q, "SELECT %d, msgId, content, t.created, %s FROM %s t%s WHERE t.%s=%d AND "+
		"t.status=0 AND t.created>=%d AND t.%s=%d AND t.sentAs=%d AND t.type=%d",
		n, sound, t.Table(), join, t.Column(), t.ID, m.ResentSince(), sender, m.From, m.SentAs,
		m.Type)
}

// readResent runs a query of writeResentQuery for items. Content is compared here: the
// collation of the column ignores case.
func (s *Messages) readResent(ctx context.Context, query string, items []*item) error {
	rows, err := s.db.Master.QueryContext(ctx, query)
	if err != nil {
		return s.db.SQLError("look up messages sent before", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		var id, created, size, duration uint32
		var content []byte
		if err := rows.Scan(&n, &id, &content, &created, &size, &duration); err != nil {
			return s.db.SQLError("look up messages sent before", err)
		}
		m := items[n].m
		same := bytes.Equal(content, m.Data)
		if history.IsAudio(m.Type) {
			same = size == m.Audio.Size && duration == m.Audio.Duration
		}
		if same && (!m.Duplicate || id < m.ID) {
			m.ID, m.Duplicate, m.FirstCreated = id, true, created
		}
	}
	if err := rows.Err(); err != nil {
		return s.db.SQLError("look up messages sent before", err)
	}
	return nil
}

// sentKey identifies a message by how its client numbered it, within a batch.
func (it *item) sentKey() clientKey {
	content := string(it.m.Data)
	if it.m.Audio != nil {
		content = strconv.Itoa(int(it.m.Audio.Size)) + " " + strconv.Itoa(int(it.m.Audio.Duration))
	}
	return clientKey{from: it.m.From, to: it.m.To, toType: it.sessionType(), id: content,
		sentAs: it.m.SentAs}
}
