package conversation

import (
	"teamtalk/core/session"
	"teamtalk/handlers/msg/turns"
	"teamtalk/proto/pb"
)

// repeats delivers messages that db_proxy recognised as repeats. The answer to the first
// one may have been lost: it is then stored, and no message server has delivered it. Each
// server decides that for its own devices, see package turns. Any goroutine.
type repeats struct {
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
	if !m.Type.IsGroup() {
		return r.turns.TakeRepeat(turns.Turn{M: m, From: from,
			Tag: session.Tag{Peer: m.FromUserID, ID: m.MsgID}})
	}
	before, known := r.turns.Repeat(OrderKey(m), m.MsgID, m.CreateTime)
	if !known && before > 1 { // otherwise all devices here are younger
		r.groups.DeliverRepeat(m, from, before)
	}
	return !known
}
