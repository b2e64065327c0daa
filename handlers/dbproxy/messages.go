package dbproxy

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
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
}

// pendingOverhead is the approximate memory of a message besides its bytes, for the
// bounds of a batch.
const pendingOverhead = 64

// Size returns the size of p for the bounds of a batch, in bytes.
func (p *Pending) Size() int { return p.size }

func (s *Server) handleMessages() {
	router.Handle(s.Router, router.Public, s.handleMsgData)
}

// handleMsgData adds a message to a batch. The answer is the message with its msg_id; 0
// when it was not stored.
func (s *Server) handleMsgData(ses *session.Link, seq uint16, m *pb.MsgData) error {
	p := &Pending{
		request: request{session: ses, seq: seq, cmd: m.Command(), came: s.opt.Now()},
		msg:     m,
		row: im.Message{From: m.FromUserID, To: m.ToSessionID, Created: m.CreateTime,
			Type: m.Type, Data: m.Data},
		size: len(m.Data) + len(m.ClientMsgID) + pendingOverhead,
	}
	if len(m.ClientMsgID) > 0 {
		p.row.ClientID = m.ClientMsgID
	}
	if p.row.Created == 0 {
		p.row.Created = uint32(p.came.Unix())
	}
	s.order.came(p)
	err := s.storable(&p.row)
	if err == nil {
		err = s.accept(p)
	}
	if err != nil {
		p.row.Err = err
		s.settle(p)
	}
	return err
}

// storable returns the reason why a message can never be stored; nil when it can.
func (s *Server) storable(row *im.Message) error {
	switch {
	case row.From == 0 || row.To == 0 || (row.From == row.To && !row.Type.IsGroup()):
		return im.Errorf(im.Invalid, "message of type %#x from %d to %d", int32(row.Type), row.From,
			row.To)
	case len(row.Data) == 0:
		return im.Errorf(im.Invalid, "empty message")
	case len(row.ClientID) > im.MaxClientID:
		return im.Errorf(im.Invalid, "client_msg_id of %d bytes", len(row.ClientID))
	case isAudio(row.Type):
		return s.sounds.playable(row.Data)
	}
	return nil
}

func (s *Server) accept(p *Pending) error {
	if err := s.begin(); err != nil {
		return err
	}
	err := s.opt.Messages.Add(p.row.Key(), p)
	if err != nil {
		s.end()
	}
	return err
}

// AppendBatch stores a batch and answers each of its messages, in the order of the batch.
// The batcher calls it.
func (s *Server) AppendBatch(ctx context.Context, batch []*Pending) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout/2)
	defer cancel()
	now := s.opt.Now()
	for _, p := range batch {
		// Storing may take the rest of Timeout. The caller would give up, the sender
		// would repeat the message, and it would be stored twice.
		if now.Sub(p.came) > s.opt.Timeout/2 {
			p.row.Err = im.Errorf(im.Busy, "message waited longer than %s", s.opt.Timeout/2)
		}
	}
	s.putSounds(ctx, batch)
	s.order.holdBack(batch, now)
	rows := make([]*im.Message, 0, len(batch))
	for _, p := range batch {
		if p.row.Err == nil {
			rows = append(rows, &p.row)
		}
	}
	if len(rows) > 0 {
		s.store.AppendMessages(ctx, rows)
	}
	s.finish(batch)
}

// FailBatch answers the messages that the batcher gave up, as not stored. Messages that
// are answered already are skipped.
func (s *Server) FailBatch(batch []*Pending, err error) {
	for _, p := range batch {
		p.row.Err = err
	}
	s.finish(batch)
}

// finish answers the messages that are not answered yet, and logs failures at most once a
// second for each kind of error.
func (s *Server) finish(batch []*Pending) {
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
		s.settle(p)
		s.end()
	}
	for k, f := range failed {
		held, ok := s.often.messages[k].Allow(s.opt.Now())
		if !ok {
			continue
		}
		s.log.Log(context.Background(), failureLevel(k), "messages not stored", "role", "dbproxy",
			"count", f.count, "held", held,
			"conn", f.first.session.ID(), "user", f.first.row.From, "cmd", f.first.cmd.String(),
			"seq", f.first.seq, "err", f.first.row.Err)
	}
}

// settle answers one message with the result in its row. Only a request with a group
// version receives the version: other message servers do not know the field.
func (s *Server) settle(p *Pending) {
	p.msg.MsgID, p.msg.Duplicate, p.msg.GroupVersion = p.row.ID, p.row.Duplicate, p.row.GroupVersion
	p.msg.Rejected = false
	switch {
	case p.row.Err != nil:
		// The failure is recorded before the answer, which begins a new epoch.
		s.order.note(p, s.opt.Now())
		// The request may contain values.
		p.msg.MsgID, p.msg.Duplicate, p.msg.GroupVersion = 0, false, 0
		p.msg.Rejected = p.msg.SenderConn != 0 && rejected(p.row.Err)
		s.metrics.failed.Inc()
		s.metrics.failures.WithLabelValues(p.cmd.String(), im.KindOf(p.row.Err).String()).Inc()
	case p.row.Duplicate:
		s.metrics.duplicate.Inc()
	default:
		s.metrics.stored.Inc()
	}
	s.answer(&p.request, p.msg)
}
