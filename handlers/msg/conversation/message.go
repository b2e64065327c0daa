package conversation

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Message is a message in flight: from the moment a client's message is accepted until
// its sender has the ack or the refusal.
//
// Message and attempt are passed by value. Closures copy them as long as they stay within
// 128 bytes, so that a message costs one allocation for each of its steps and none for
// itself.
type Message struct {
	from *session.Client // the sender's
	data *pb.MsgData     // from stored on, the answer of db_proxy
	target
	seq uint16    // of the sender's frame
	at  time.Time // when that arrived
}

// attempt is a message that is to be stored: it ends when db_proxy has stored it, or when
// it is known that it was not stored, or may not have been.
type attempt struct {
	Message
	hash   uint64 // of content and type
	epoch  uint32 // see sendOrder
	came   uint32 // the number of the message on its connection
	number uint32 // its place among those that are held: came, or that of the first attempt
	// await is how long the sender may take to repeat the message.
	await time.Duration
	// wants says that the sender is told when the message is not stored.
	wants bool
	// repeats says that the sender may repeat the message: it has a seq, and a client
	// that does so.
	repeats bool
	// holds says that the message is held when it is not stored, doubt that it is and may
	// be stored. See hold.go.
	holds, doubt bool
	asked        time.Time // when the sender repeated it last; zero: it did not
}

// target is the conversation of a message, as its sender's connection sees it.
type target struct {
	id    uint32
	group bool
}

func targetOf(m *pb.MsgData) target { return target{m.ToSessionID, m.Type.IsGroup()} }

// newAttempt returns the attempt to store m, the next one on the connection of s.
// Loop only.
func (h *Handler) newAttempt(s *session.Client, seq uint16, m *pb.MsgData,
	now time.Time) attempt {
	c := h.opt.Client(s)
	if c.sends.order == nil {
		c.sends.order = newSendOrder()
	}
	order := c.sends.order
	order.came++
	return attempt{Message: Message{from: s, data: m, target: targetOf(m), seq: seq, at: now},
		hash: contentHash(m), came: order.came, number: order.came,
		await: patience(m, h.opt.ResendWindow),
		wants: m.WantRefusal, repeats: seq != 0 &&
			(m.WantRefusal || s.ClientType == pb.ClientType_CLIENT_TYPE_WINDOWS),
		holds: h.opt.Hold > 0 && !m.WantRefusal}
}

// patience returns how long the sender of m may take to repeat it. A client that wants
// refusals repeats until it gives up, and then repeats the next message instead: see
// order.go. For it the window counts in which a repeat is recognised.
func patience(m *pb.MsgData, window time.Duration) time.Duration {
	if m.WantRefusal {
		return max(window, stockPatience)
	}
	return stockPatience
}

// answered returns f with db_proxy's answer.
func (f Message) answered(stored *pb.MsgData) Message {
	f.data = stored
	return f
}

// OrderKey returns the key by which links and db_proxies keep the order of m's
// conversation.
func OrderKey(m *pb.MsgData) uint64 {
	if m.Type.IsGroup() {
		return im.GroupKey(m.ToSessionID)
	}
	return im.ConversationKey(m.FromUserID, m.ToSessionID)
}

func sessionType(group bool) pb.SessionType {
	if group {
		return pb.SessionType_SESSION_TYPE_GROUP
	}
	return pb.SessionType_SESSION_TYPE_SINGLE
}

// newAck returns the ack of message id that user sent to a conversation.
func newAck(user uint32, to target, id uint32) *pb.IMMsgDataAck {
	ack := &pb.IMMsgDataAck{}
	ack.SetUserId(user)
	ack.SetSessionId(to.id)
	ack.SetMsgId(id)
	ack.SetSessionType(sessionType(to.group))
	return ack
}

func ackOf(m *pb.MsgData, id uint32) *pb.IMMsgDataAck {
	return newAck(m.FromUserID, targetOf(m), id)
}
