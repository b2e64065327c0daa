package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// item is a message of a batch on its way.
type item struct {
	m     *im.Message
	key   uint64 // im.Message.Key
	c     *conversation
	id    uint32
	audio uint32 // IMAudio.id, of an audio message
	first *item  // an earlier message of the batch with the same client_msg_id
	stale bool   // its client_msg_id is in the table, too old to count
}

// AppendMessages stores a batch; see im.MessageStore. It waits until one of the Workers is free. What it costs: two pipelines to Redis and one transaction, with
// messages to groups one query for their versions, and queries for what the caches do not know, none of them per message.
func (s *Store) AppendMessages(ctx context.Context, batch []*im.Message) {
	if len(batch) == 0 {
		return
	}
	start := time.Now()
	for _, m := range batch {
		m.ID, m.Err, m.Duplicate, m.GroupVersion = 0, nil, false, 0
	}
	var sl *slot
	select {
	case sl = <-s.slots:
		s.withSlot(ctx, sl, batch)
	case <-s.closed:
		fail(im.Errorf(im.Closed, "the store is closed"), batch)
	case <-ctx.Done():
		fail(im.WithKind(im.Unavailable, "store message", ctx.Err()), batch)
	}
	s.m.batches.Inc()
	s.m.batchSize.Observe(float64(len(batch)))
	s.m.seconds.Observe(time.Since(start).Seconds())
	for _, m := range batch {
		switch {
		case m.Err != nil:
			s.m.failed.WithLabelValues(im.KindOf(m.Err).String()).Inc()
		case m.Duplicate:
			s.m.duplicates.Inc()
		default:
			s.m.rows.Inc()
		}
	}
}

// withSlot does it with a slot, and gives it back. After a panic it does so under a new owner's name: what became of the old one's counts is housekeeping's to see.
func (s *Store) withSlot(ctx context.Context, sl *slot, batch []*im.Message) {
	whole := false
	defer func() {
		if !whole {
			s.retire(sl)
		}
		s.slots <- sl
	}()
	s.appendWith(ctx, sl, batch)
	whole = true
}

// fail marks all messages as not stored.
func fail(err error, batch []*im.Message) {
	for _, m := range batch {
		m.Err = err
	}
}

// appendWith stores a batch. Messages that fail a step leave the batch, the others go on.
func (s *Store) appendWith(ctx context.Context, sl *slot, batch []*im.Message) {
	if err := ctx.Err(); err != nil {
		fail(im.WithKind(im.Unavailable, "store message", err), batch)
		return
	}
	items := s.admit(batch)
	for _, step := range []func(context.Context, []*item) error{s.checkRecipients, s.checkSenders, s.findSent} {
		if err := step(ctx, items); err != nil {
			failItems(items, err)
			return
		}
		items = slices.DeleteFunc(items, func(it *item) bool { return it.m.Err != nil || it.m.Duplicate })
	}
	// A message that repeats one of this very batch waits for what becomes of that one; if it fails, the repetition is tried in its place.
	for len(items) > 0 {
		repeated := splitRepeated(&items)
		if err := s.prepare(ctx, items); err != nil {
			failItems(items, err)
		} else {
			_ = s.store(ctx, sl, items) // each item has its own
		}
		items = answerRepeated(repeated)
	}
}

// failItems marks messages as not stored.
func failItems(items []*item, err error) {
	for _, it := range items {
		it.m.Err = err
	}
}

// admit refuses what can be refused without asking anybody.
func (s *Store) admit(batch []*im.Message) []*item {
	items := make([]*item, 0, len(batch))
	all := make([]item, len(batch))
	for i, m := range batch {
		if m.Err = invalid(m); m.Err == nil {
			all[i] = item{m: m, key: m.Key()}
			items = append(items, &all[i])
		}
	}
	return items
}

// invalid says what is wrong with a message.
func invalid(m *im.Message) error {
	switch m.Type {
	case pb.MsgType_MSG_TYPE_SINGLE_TEXT, pb.MsgType_MSG_TYPE_GROUP_TEXT:
		switch {
		case len(m.Data) > im.MaxContent:
			return im.Errorf(im.Invalid, "message of %d bytes is longer than %d", len(m.Data), im.MaxContent)
		case !utf8.Valid(m.Data):
			return im.Errorf(im.Invalid, "message is not UTF-8")
		}
	case pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO:
		if err := invalidAudio(m.Audio); err != nil {
			return err
		}
	default:
		return im.Errorf(im.Invalid, "message of unknown type %d", m.Type)
	}
	switch {
	case m.From == 0 || m.To == 0:
		return im.Errorf(im.Invalid, "message without a sender or recipient")
	case m.From == m.To && !m.Type.IsGroup():
		return im.Errorf(im.Invalid, "message to oneself")
	case len(m.ClientID) > im.MaxClientID:
		return im.Errorf(im.Invalid, "client_msg_id of %d bytes is longer than %d", len(m.ClientID), im.MaxClientID)
	}
	return nil
}

// knownTTL is how long a user is believed to exist without asking, in seconds.
const knownTTL = 60

// checkRecipients marks messages to users who are not there.
func (s *Store) checkRecipients(ctx context.Context, items []*item) error {
	now := s.now().Unix()
	ask := map[uint32]bool{}
	for _, it := range items {
		if it.m.Type.IsGroup() {
			continue
		}
		if at, ok := s.known.Get(it.m.To); !ok || now-at >= knownTTL {
			ask[it.m.To] = false
		}
	}
	if len(ask) == 0 {
		return nil
	}
	ids := make([]uint32, 0, len(ask))
	for id := range ask {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	err := inChunks(ids, chunk, func(part []uint32) error {
		rows, err := s.master.QueryContext(ctx, fmt.Sprintf("SELECT id FROM IMUser WHERE id IN (%s) AND COALESCE(status, 0)<>%d", join(part), im.StatusDeparted))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ask[id] = true
			s.known.Add(id, now)
		}
		return rows.Err()
	})
	if err != nil {
		return s.dbError("look up recipients", err)
	}
	for _, it := range items {
		if there, asked := ask[it.m.To]; asked && !there && !it.m.Type.IsGroup() {
			it.m.Err = im.Errorf(im.Invalid, "recipient %d does not exist", it.m.To)
		}
	}
	return nil
}

// join makes a list for IN ( ).
func join(ids []uint32) string {
	b := make([]byte, 0, len(ids)*8)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return string(b)
}

// clientKey tells client_msg_ids apart: each belongs to its sender and recipient.
type clientKey struct {
	from, to uint32
	toType   pb.SessionType
	id       string
}

func (it *item) clientKey() clientKey {
	return clientKey{it.m.From, it.m.To, it.sessionType(), string(it.m.ClientID)}
}

// sessionType says whether a message goes to a user or a group.
func (it *item) sessionType() pb.SessionType {
	if it.m.Type.IsGroup() {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// clientIDLimit is the creation time of the youngest client_msg_id that is forgotten.
func (s *Store) clientIDLimit() int64 { return s.now().Unix() - im.ClientIDTTL }

// findSent marks messages whose client_msg_id was stored before.
func (s *Store) findSent(ctx context.Context, items []*item) error {
	var named []*item
	for _, it := range items {
		if len(it.m.ClientID) > 0 {
			named = append(named, it)
		}
	}
	if len(named) == 0 {
		return nil
	}
	type sent struct{ id, created uint32 }
	found := map[clientKey]sent{}
	err := inChunks(named, chunk, func(part []*item) error {
		var q strings.Builder
		q.WriteString("SELECT fromId, toId, toType, clientMsgId, msgId, created FROM IMClientMsgId WHERE ")
		for i, it := range part {
			if i > 0 {
				q.WriteString(" OR ")
			}
			fmt.Fprintf(&q, "(fromId=%d AND toId=%d AND clientMsgId=x'%x' AND toType=%d)", it.m.From, it.m.To, it.m.ClientID, it.sessionType())
		}
		rows, err := s.master.QueryContext(ctx, q.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k clientKey
			var v sent
			if err := rows.Scan(&k.from, &k.to, &k.toType, &k.id, &v.id, &v.created); err != nil {
				return err
			}
			found[k] = v
		}
		return rows.Err()
	})
	if err != nil {
		return s.dbError("look up client message ids", err)
	}
	limit := s.clientIDLimit()
	for _, it := range named {
		v, ok := found[it.clientKey()]
		it.stale = ok && int64(v.created) <= limit
		if ok && !it.stale {
			it.m.ID, it.m.Duplicate = v.id, true
		}
	}
	return nil
}

// splitRepeated takes those out of items that repeat an earlier one's client_msg_id.
func splitRepeated(items *[]*item) []*item {
	var repeated []*item
	var seen map[clientKey]*item
	*items = slices.DeleteFunc(*items, func(it *item) bool {
		if len(it.m.ClientID) == 0 {
			return false
		}
		if seen == nil {
			seen = map[clientKey]*item{}
		}
		k := it.clientKey()
		if it.first = seen[k]; it.first != nil {
			repeated = append(repeated, it)
			return true
		}
		seen[k] = it
		return false
	})
	return repeated
}

// answerRepeated gives repetitions the id of the first, and returns those whose first was not stored.
func answerRepeated(repeated []*item) []*item {
	return slices.DeleteFunc(repeated, func(it *item) bool {
		if it.first.m.Err != nil {
			return false
		}
		it.m.ID, it.m.Duplicate = it.first.m.ID, true
		return true
	})
}

// prepare finds the items' conversations and draws their ids.
func (s *Store) prepare(ctx context.Context, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	seen := make(map[uint64]bool, len(items))
	keys := make([]uint64, 0, len(items))
	for _, it := range items {
		if !seen[it.key] {
			seen[it.key] = true
			keys = append(keys, it.key)
		}
	}
	found, err := s.findOrCreate(ctx, keys)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.c = found[it.key]; it.c == nil {
			return im.Errorf(im.Internal, "relation of users %d and %d vanished", it.m.From, it.m.To)
		}
	}
	return s.number(ctx, items)
}

// number draws ids for items, in their order within each conversation.
func (s *Store) number(ctx context.Context, items []*item) error {
	by := make(map[*conversation]*draw, len(items))
	list := make([]*draw, 0, len(items))
	for _, it := range items {
		d := by[it.c]
		if d == nil {
			d = &draw{c: it.c}
			by[it.c] = d
			list = append(list, d)
		}
		d.n++
	}
	if err := s.drawIDs(ctx, list); err != nil {
		return err
	}
	for _, it := range items {
		d := by[it.c]
		it.id = d.first
		d.first++
	}
	return nil
}

// appendHex writes bytes as SQL has them.
func appendHex(b, v []byte) []byte {
	b = append(b, "x'"...)
	b = hex.AppendEncode(b, v)
	return append(b, '\'')
}
