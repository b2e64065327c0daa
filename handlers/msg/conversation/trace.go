package conversation

import (
	"time"

	"teamtalk/core/session"
	"teamtalk/core/trace"
	"teamtalk/handlers/msg/turns"
	"teamtalk/proto/pb"
)

// tracedMessage names m for its trace. Its spans cost no time while nothing is traced.
func tracedMessage(m *pb.MsgData) trace.Message {
	return trace.Of(m.FromUserID, m.ToSessionID, m.Type.IsGroup(), m.MsgID)
}

// tracedAck names the message of an ack to its sender.
func tracedAck(m *pb.IMMsgDataAck) trace.Message {
	return trace.Of(m.GetUserId(), m.GetSessionId(),
		m.GetSessionType() == pb.SessionType_SESSION_TYPE_GROUP, m.GetMsgId())
}

// traceBegin returns the time if m is traced, and otherwise none. Any goroutine.
func (h *Handler) traceBegin(m *pb.MsgData) (begin time.Time) {
	if h.opt.Trace.On() && h.opt.Trace.Samples(tracedMessage(m)) {
		begin = h.opt.Now()
	}
	return begin
}

// traced returns done with the span of the call of db_proxy that it ends. A message that was
// stored before has the spans of its first call. Loop only.
func (h *Handler) traced(l *session.Loop,
	done func(pb.Message, error)) func(pb.Message, error) {
	if !h.opt.Trace.On() {
		return done
	}
	begin := l.Now()
	return func(rsp pb.Message, err error) {
		if m, ok := rsp.(*pb.MsgData); ok && !m.Duplicate {
			if t := tracedMessage(m); h.opt.Trace.Samples(t) {
				h.opt.Trace.Record(trace.Span{Stage: trace.Store, Message: t, Begin: begin,
					End: h.opt.Now()})
			}
		}
		done(rsp, err)
	}
}

// giveOthers forwards m to the other message servers.
func (h *Handler) giveOthers(m *pb.MsgData) {
	s := trace.Span{Stage: trace.Forward, Begin: h.traceBegin(m)}
	if s.Begin.IsZero() {
		h.others.Forward(m)
		return
	}
	s.Message = tracedMessage(m)
	h.others.Forward(m)
	s.End = h.opt.Now()
	h.opt.Trace.Record(s)
}

// traceDelivery records that a message was given to connections. begin is that of traceBegin.
func (h *Handler) traceDelivery(t turns.Turn, begin time.Time, connections int) {
	if begin.IsZero() {
		return
	}
	stage := trace.DeliverRouted
	if t.From != nil {
		stage = trace.Deliver
	}
	h.opt.Trace.Record(trace.Span{Stage: stage, Message: tracedMessage(t.M), Begin: begin,
		End: h.opt.Now(), Count: connections})
}

// traceDevice records a delivery to the device of s, which has acknowledged it. Loop only.
func (r *Receipts) traceDevice(s *session.Client, d *delivery) {
	m := trace.Of(s.User, d.tag.Peer, d.tag.Flags&TagGroup != 0, d.tag.ID)
	if !r.opt.Trace.Samples(m) {
		return
	}
	l, stage := s.Loop(), trace.Device
	if d.tag.Flags&TagRemote != 0 {
		stage = trace.DeviceRouted
	}
	waited := time.Duration(l.Millis()-d.at) * time.Millisecond
	r.opt.Trace.Record(trace.Span{Stage: stage, Instance: s.ID(), Message: m,
		Begin: l.Now().Add(-waited), End: l.Now()})
}
