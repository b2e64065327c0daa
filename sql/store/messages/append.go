// Package messages stores messages: it recognises those that were sent before, gives the others
// ids, and commits a batch with all that it changes in one transaction.
package messages

import (
	"context"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/directory"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
	"teamtalk/sql/store/sessions"
)

// Messages is the part that stores messages.
type Messages struct {
	db      *database.DB
	parts   Parts
	metrics metrics
	often   obs.Often // bounds the log of whereabouts that are not known

	slots  chan *outbox.Slot // one for each worker
	closed chan struct{}     // closed by close
}

// Parts are the parts that messages calls.
type Parts struct {
	Recipients    *directory.Recipients
	Conversations *conversation.Cache
	IDs           *conversation.IDs
	Members       *members.Reader
	Rows          *sessions.Rows
	Outbox        *outbox.Outbox
}

// New makes the part. It stores as many batches at once as there are workers.
func New(db *database.DB, parts Parts, workers int) *Messages {
	m := &Messages{db: db, parts: parts, metrics: newMetrics(db.Metrics),
		slots:  make(chan *outbox.Slot, workers),
		closed: make(chan struct{})}
	for range workers {
		m.slots <- outbox.NewSlot()
	}
	return m
}

// Close makes the part refuse later batches. It is called once.
func (s *Messages) Close() { close(s.closed) }

// TakeSlots waits for the batches that are being stored and returns all slots. No batch
// is stored after it.
func (s *Messages) TakeSlots() []*outbox.Slot {
	slots := make([]*outbox.Slot, cap(s.slots))
	for i := range slots {
		slots[i] = <-s.slots
	}
	return slots
}

// item is a message of a batch while it is being stored.
type item struct {
	m      *im.Message
	key    uint64 // im.Message.Key
	c      *conversation.Conversation
	id     uint32
	audio  uint32 // IMAudio.id of an audio message
	first  *item  // an earlier message of the batch that it repeats
	status uint32 // of its row
	stale  bool   // the table has its client_msg_id, which has expired
	guard  *guard // of a message that may be stored already; nil for others
}

// AppendMessages stores a batch; see im.MessageStore. It waits until one of the Workers
// is free. A batch costs two pipelines to Redis and one transaction, one query for the
// versions of the groups in it, and queries for what the caches lack. No query is made
// per message.
func (s *Messages) AppendMessages(ctx context.Context, batch []*im.Message) {
	if len(batch) == 0 {
		return
	}
	start := time.Now()
	for _, m := range batch {
		m.ID, m.Err, m.Duplicate, m.FirstCreated, m.GroupVersion = 0, nil, false, 0, 0
		m.Whereabouts = nil
	}
	var sl *outbox.Slot
	select {
	case sl = <-s.slots:
		s.withSlot(ctx, sl, batch)
	case <-s.closed:
		fail(im.Errorf(im.Closed, "the store is closed"), batch)
	case <-ctx.Done():
		fail(im.WithKind(im.Unavailable, "store message", ctx.Err()), batch)
	}
	s.metrics.batches.Inc()
	s.metrics.batchSize.Observe(float64(len(batch)))
	s.metrics.seconds.Observe(time.Since(start).Seconds())
	for _, m := range batch {
		switch {
		case m.Err != nil:
			s.metrics.failed.WithLabelValues(im.KindOf(m.Err).String()).Inc()
		case m.Duplicate:
			s.metrics.duplicates.Inc()
		default:
			s.metrics.rows.Inc()
		}
	}
}

// withSlot stores a batch with a slot and returns the slot. After a panic the slot gets a
// new owner: housekeeping recovers the counts of the old owner.
func (s *Messages) withSlot(ctx context.Context, sl *outbox.Slot, batch []*im.Message) {
	whole := false
	defer func() {
		if !whole {
			s.parts.Outbox.Retire(sl)
		}
		s.slots <- sl
	}()
	s.appendWith(ctx, sl, batch)
	whole = true
}

// fail sets the error of all messages of a batch.
func fail(err error, batch []*im.Message) {
	for _, m := range batch {
		m.Err = err
	}
}

// appendWith stores a batch. A message that fails in a step leaves the batch, and the
// others proceed.
func (s *Messages) appendWith(ctx context.Context, sl *outbox.Slot, batch []*im.Message) {
	if err := ctx.Err(); err != nil {
		fail(im.WithKind(im.Unavailable, "store message", err), batch)
		return
	}
	items := s.admit(batch)
	for _, check := range []func(context.Context, []*im.Message) error{
		s.parts.Recipients.Check, s.parts.Members.CheckSenders} {
		if err := check(ctx, batch); err != nil {
			failItems(items, err)
			return
		}
		items = remaining(items)
	}
	if err := s.findSent(ctx, items); err != nil {
		failItems(items, err)
		return
	}
	items = remaining(items)
	// A message that repeats another message of this batch waits for the outcome of that
	// message. If that message fails, the repetition is stored in its place.
	for len(items) > 0 {
		repeated := splitRepeated(&items)
		if err := s.prepare(ctx, &items); err != nil {
			failItems(items, err)
		} else {
			s.storeNumbered(ctx, sl, items)
		}
		items = answerRepeated(repeated)
	}
}

// failItems sets the error of the messages of items.
func failItems(items []*item, err error) {
	for _, it := range items {
		it.m.Err = err
	}
}

// remaining removes the messages that failed or are stored already.
func remaining(items []*item) []*item {
	return slices.DeleteFunc(items, func(it *item) bool {
		return it.m.Err != nil || it.m.Duplicate
	})
}

// admit rejects the messages that are invalid whatever the databases hold.
func (s *Messages) admit(batch []*im.Message) []*item {
	items := make([]*item, 0, len(batch))
	all := make([]item, len(batch))
	for i, m := range batch {
		if m.Err = im.CheckMessage(m); m.Err == nil {
			all[i] = item{m: m, key: m.Key()}
			items = append(items, &all[i])
		}
	}
	return items
}

// sessionType returns whether the message goes to a user or to a group.
func (it *item) sessionType() pb.SessionType {
	if it.m.Type.IsGroup() {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// prepare finds the conversations of list, and removes the messages from it that were sent
// before.
func (s *Messages) prepare(ctx context.Context, list *[]*item) error {
	items := *list
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
	found, err := s.parts.Conversations.FindOrCreate(ctx, keys)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.c = found[it.key]; it.c == nil {
			return im.Errorf(im.Internal, "relation of users %d and %d vanished",
				it.m.From, it.m.To)
		}
	}
	if err := s.findResent(ctx, items); err != nil {
		return err
	}
	*list = slices.DeleteFunc(items, func(it *item) bool { return it.m.Duplicate })
	return nil
}

// storeNumbered draws ids for items and stores them. In a Redis Cluster the counters of
// some conversations may be unavailable. The items of the others are stored first, so that
// they do not wait. Every item holds its own error.
func (s *Messages) storeNumbered(ctx context.Context, sl *outbox.Slot, items []*item) {
	for len(items) > 0 {
		s.db.Hooks.Call(s.db.Hooks.Undrawn)
		numbered, open := s.number(ctx, items)
		s.db.Hooks.Call(s.db.Hooks.Drawn)
		if len(numbered) == 0 {
			return
		}
		if numbered = s.lookAgain(ctx, numbered); !slices.ContainsFunc(numbered, closes) {
			_ = s.store(ctx, sl, numbered)
		} else { // the others do not wait for what these may have to wait for
			behind, first := apart(numbered)
			s.db.Hooks.Call(s.db.Hooks.Closing)
			_ = s.store(ctx, sl, first)
			_ = s.store(ctx, sl, behind)
		}
		items = open
	}
}

// number draws ids for items, in the order of items within each conversation. It returns
// the items that have ids, and those for which another try makes sense. All but the former
// hold an error.
func (s *Messages) number(ctx context.Context, items []*item) (numbered, open []*item) {
	by := make(map[*conversation.Conversation]*conversation.Draw, len(items))
	list := make([]*conversation.Draw, 0, len(items))
	for _, it := range items {
		d := by[it.c]
		if d == nil {
			d = &conversation.Draw{Conversation: it.c}
			by[it.c] = d
			list = append(list, d)
		}
		d.N++
		if s.db.Finalized && conversation.IsNumbered(it.m) {
			d.AddSender(it.m)
		}
	}
	s.parts.IDs.Draw(ctx, list)
	numbered = make([]*item, 0, len(items))
	for _, d := range list {
		d.Base = d.First
	}
	for _, it := range items {
		d := by[it.c]
		it.m.Err = d.Err
		if it.guard = nil; d.Guards(it.m) {
			it.guard = &guard{base: d.Base}
		}
		switch {
		case d.First != 0:
			it.id = d.First
			d.First++
			numbered = append(numbered, it)
		case d.Again():
			open = append(open, it)
		}
	}
	return numbered, open
}
