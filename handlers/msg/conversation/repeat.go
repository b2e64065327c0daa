package conversation

import (
	"teamtalk/core/session"
	"teamtalk/handlers/msg/delivered"
	"teamtalk/handlers/msg/turns"
	"teamtalk/proto/pb"
)

// repeats delivers messages that db_proxy recognised as repeats. The answer to the first
// one may have been lost: it is then stored, and no message server has delivered it. Each
// server decides that for its own devices, see package delivered. Any goroutine.
type repeats struct {
	record *delivered.Record
	turns  *turns.Turns
	groups Groups
	others Others
}

// take delivers m, db_proxy's answer to a repeat, here and on the other message servers,
// unless this server has delivered it before. from is the sender's session.
func (r *repeats) take(m *pb.MsgData, from *session.Client) {
	m.ClientMsgID, m.GroupVersion, m.HasGroupVersion = nil, 0, false
	m.PrevID, m.HasPrevID = 0, false
	if r.deliver(m, from) {
		forward := *m
		r.others.ForwardRepeat(&forward)
	}
}

// deliver delivers m to the devices here that were connected when it was stored, unless
// it was delivered before. It reports whether it was not. from is nil for the repeat of
// another message server.
func (r *repeats) deliver(m *pb.MsgData, from *session.Client) bool {
	before, known := r.record.Repeat(OrderKey(m), m.MsgID, m.CreateTime)
	switch {
	case known:
		return false
	case before <= 1: // all devices here are younger
	case m.Type.IsGroup():
		r.groups.DeliverRepeat(m, from, before)
	default:
		tag := session.Tag{Peer: m.FromUserID, ID: m.MsgID}
		r.turns.Take(turns.Turn{M: m, From: from, Tag: tag, Since: before})
	}
	return true
}
