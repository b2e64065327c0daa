package dbproxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/obs"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy/previous"
	"teamtalk/handlers/dbproxy/refusal"
	"teamtalk/handlers/dbproxy/sounds"
	"teamtalk/proto/pb"
)

// Pending is a message between its arrival and its answer.
type Pending struct {
	request
	msg  *pb.MsgData // the request; becomes the answer
	row  im.Message
	size int // of the body and client id, in bytes, as received: the answer changes msg

	// The key and number by which sendOrder keeps the sender's order; zero: the order is
	// not kept.
	sender sender
	epoch  uint32
	order  uint64
	// behind: it was held back behind a message that no other db_proxy may store.
	behind bool
}

// Outcome returns the row of p, which has the result once the batch has run, and when p arrived.
func (p *Pending) Outcome() (row *im.Message, came time.Time) { return &p.row, p.came }

// pendingOverhead is the approximate memory of a message besides its bytes, for the
// bounds of a batch.
const pendingOverhead = 64

// Size returns the size of p for the bounds of a batch, in bytes.
func (p *Pending) Size() int { return p.size }

// messages stores messages in batches, in the order of each sender, and answers them.
type messages struct {
	*runner
	store  appender
	queue  Messages
	order  *sendOrder
	before *previous.Messages
	sounds *sounds.Sounds
	often  [im.Closed + 1]obs.Lasting
}

// appender is what messages needs of the store.
type appender interface {
	AppendMessages(ctx context.Context, batch []*im.Message)
}

func newMessages(r *runner, store appender, queue Messages, s *sounds.Sounds,
	reg prometheus.Registerer) *messages {
	return &messages{runner: r, store: store, queue: queue, sounds: s,
		order: newSendOrder(2*r.timeout, reg), before: previous.New()}
}

func (ms *messages) register() {
	router.Handle(ms.router, router.Public, ms.handleMsgData)
}

// handleMsgData adds a message to a batch. The answer is the message with its msg_id; 0
// when it was not stored.
func (ms *messages) handleMsgData(ses *session.Link, seq uint16, m *pb.MsgData) error {
	p := &Pending{
		request: request{session: ses, seq: seq, cmd: m.Command(), came: ms.now()},
		msg:     m,
		row: im.Message{From: m.FromUserID, To: m.ToSessionID, Created: m.CreateTime,
			Type: m.Type, Data: m.Data, SentAs: m.SentAs, ResentWithin: m.ResentWithin,
			WantWhereabouts: m.WantWhereabouts,
			AskPrevious:     m.HasPrevID && !m.Type.IsGroup()},
		size: len(m.Data) + len(m.ClientMsgID) + pendingOverhead,
	}
	if len(m.ClientMsgID) > 0 {
		p.row.ClientID = m.ClientMsgID
	}
	if p.row.Created == 0 {
		p.row.Created = uint32(p.came.Unix())
	}
	ms.order.came(p)
	err := ms.storable(&p.row)
	if err == nil {
		err = ms.accept(p)
	}
	if err != nil {
		p.row.Err = err
		ms.settle(p)
	}
	return err
}

// storable returns the reason why a message can never be stored; nil when it can.
func (ms *messages) storable(row *im.Message) error {
	switch {
	case row.From == 0 || row.To == 0 || (row.From == row.To && !row.Type.IsGroup()):
		return im.Errorf(im.Invalid, "message of type %#x from %d to %d", int32(row.Type), row.From,
			row.To)
	case len(row.Data) == 0:
		return im.Errorf(im.Invalid, "empty message")
	case len(row.ClientID) > im.MaxClientID:
		return im.Errorf(im.Invalid, "client_msg_id of %d bytes", len(row.ClientID))
	case sounds.IsAudio(row.Type):
		return ms.sounds.Playable(row.Data)
	}
	return nil
}

func (ms *messages) accept(p *Pending) error {
	if err := ms.begin(); err != nil {
		return err
	}
	err := ms.queue.Add(p.row.Key(), p)
	if err != nil {
		ms.end()
	}
	return err
}

// appendBatch stores a batch and answers each of its messages.
func (ms *messages) appendBatch(ctx context.Context, batch []*Pending) {
	ctx, cancel := context.WithTimeout(ctx, ms.timeout/2)
	defer cancel()
	now := ms.now()
	rows := make([]*im.Message, len(batch))
	for i, p := range batch {
		rows[i] = &p.row
		// Storing may take the rest of Timeout. The caller would give up, the sender
		// would repeat the message, and it would be stored twice.
		if now.Sub(p.came) > ms.timeout/2 {
			p.row.Err = im.Errorf(im.Busy, "message waited longer than %s", ms.timeout/2)
		}
	}
	ms.sounds.PutBatch(ctx, rows)
	ms.order.holdBack(batch, now)
	rows = slices.DeleteFunc(rows, func(m *im.Message) bool { return m.Err != nil })
	if len(rows) > 0 {
		ms.store.AppendMessages(ctx, rows)
	}
	ms.finish(batch)
}

// failBatch answers the messages that the batcher gave up. After a panic they may be
// stored.
func (ms *messages) failBatch(batch []*Pending, err error) {
	if kind := im.KindOf(err); kind == im.Internal {
		err = im.WithKind(kind, "batch failed", errors.Join(im.ErrInDoubt, err))
	}
	for _, p := range batch {
		p.row.Err = err
	}
	ms.finish(batch)
}

// finish answers the messages that are not answered yet, and logs failures once a minute for each
// error, and at most once a second for each kind.
func (ms *messages) finish(batch []*Pending) {
	type failure struct {
		first *Pending
		count int
	}
	var failed map[im.Kind]*failure
	for _, p := range batch {
		if p.done {
			continue
		}
		if err := p.row.Err; err != nil {
			k := im.KindOf(err)
			if failed == nil {
				failed = map[im.Kind]*failure{}
			}
			if failed[k] == nil {
				failed[k] = &failure{first: p}
			}
			failed[k].count++
		}
		ms.settle(p)
		ms.end()
	}
	for k, f := range failed {
		held, ok := ms.often[k].Allow(ms.now(), f.first.row.Err.Error())
		if !ok {
			continue
		}
		ms.log.Log(context.Background(), refusal.Level(k), "messages not stored", "role", "dbproxy",
			"count", f.count, "held", held,
			"conn", f.first.session.ID(), "user", f.first.row.From, "cmd", f.first.cmd.String(),
			"seq", f.first.seq, "err", f.first.row.Err)
	}
}

// settle answers one message with the result in its row. Only a request with a group
// version or a previous id receives that, and only one that wants the whereabouts of its users
// those: other message servers do not know the fields.
func (ms *messages) settle(p *Pending) {
	if p.row.Err != nil {
		ms.notStored(p)
		return
	}
	p.msg.MsgID, p.msg.Duplicate, p.msg.GroupVersion = p.row.ID, p.row.Duplicate, p.row.GroupVersion
	p.msg.Rejected, p.msg.PrevID = false, 0
	p.msg.WantWhereabouts, p.msg.Whereabouts = false, p.row.Whereabouts
	if p.row.Duplicate {
		p.msg.CreateTime = p.row.FirstCreated
		ms.metrics.duplicate.Inc()
	} else {
		ms.metrics.stored.Inc()
		if !p.row.Type.IsGroup() {
			p.msg.PrevID = cmp.Or(ms.before.Stored(p.row.Key(), p.row.ID, ms.now()),
				p.row.Previous)
		}
	}
	ms.answer(&p.request, p.msg)
}

// notStored answers a message that was not stored, or may not have been.
func (ms *messages) notStored(p *Pending) {
	err := p.row.Err
	// The failure is recorded before the answer, which begins a new epoch.
	ms.order.note(p, ms.now())
	ms.suspects(err)
	ms.metrics.failed.Inc()
	ms.metrics.failures.WithLabelValues(p.cmd.String(), im.KindOf(err).String()).Inc()
	if refusal := ms.refusal(&p.request, p.msg, err, p.movable()); refusal != nil {
		ms.answer(&p.request, refusal) // and the request stays as it is
		return
	}
	// The request may contain values.
	p.msg.MsgID, p.msg.Duplicate, p.msg.GroupVersion = 0, false, 0
	p.msg.WantWhereabouts, p.msg.Whereabouts = false, nil
	p.msg.Rejected = p.msg.SenderConn != 0 && refusal.Rejected(err)
	ms.answer(&p.request, p.msg)
}

// movable reports whether another db_proxy may store a message that was not stored.
func (p *Pending) movable() bool {
	return !p.behind && refusal.OfThisServer(p.row.Err) && takesRefusals(p.session)
}
