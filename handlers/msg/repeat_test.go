package msg

import (
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/handlers/msg/conversation"
	"teamtalk/proto/pb"
)

// keeper stores messages for both servers of a pair, and recognises repeats.
type keeper struct {
	named map[string]*pb.MsgData
	last  map[uint64]uint32
	lose  bool // answers are lost
}

// repeating makes both servers of p use a keeper.
func repeating(p *pair) *keeper {
	k := &keeper{named: map[string]*pb.MsgData{}, last: map[uint64]uint32{}}
	for _, w := range p.sides {
		w.db.addGroup(9, 1, 2)
		w.db.also = func(req pb.Message) (pb.Message, error) {
			m, ok := req.(*pb.MsgData)
			if !ok {
				return nil, nil
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return k.store(m)
		}
	}
	return k
}

func (k *keeper) store(m *pb.MsgData) (pb.Message, error) {
	out, key := *m, conversation.OrderKey(m)
	if first := k.named[string(m.ClientMsgID)]; first != nil {
		out.MsgID, out.CreateTime, out.Duplicate = first.MsgID, first.CreateTime, true
		return &out, nil
	}
	k.last[key]++
	out.MsgID = k.last[key]
	if m.Type.IsGroup() {
		out.GroupVersion = 1
	}
	k.named[string(m.ClientMsgID)] = &out
	if k.lose {
		return nil, im.Errorf(im.Unavailable, "the answer is lost")
	}
	return &out, nil
}

// named returns a text with a client_msg_id, to user 2 or group 9.
func named(to uint32, id string) *pb.MsgData {
	m := text(to, id)
	if to == 9 {
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	}
	m.ClientMsgID = []byte(id)
	return m
}

// A db_proxy dies around a commit. The sender repeats the message on another server, and
// db_proxy recognises it. Every device that was connected when the message was written
// receives it once, those that connected later find it in the history.
func TestRepeatIsDelivered(t *testing.T) {
	for _, to := range []uint32{2, 9} {
		inPair(t, 1, func(p *pair) {
			k := repeating(p)
			m := func(id string) *pb.MsgData { return named(to, id) }
			alice := p.sides[0].user(0, 1, win)
			bob, phone := p.sides[0].user(1, 2, win), p.sides[1].user(0, 2, android)
			time.Sleep(10 * time.Second)

			k.lose = true
			alice.send(2, m("in doubt"))
			time.Sleep(time.Second)
			k.lose = false
			alice.want()
			bob.want()
			alice.Close()
			mac := p.sides[1].user(0, 3, win) // a stranger
			own := p.sides[0].user(0, 1, ios) // connects after the message was stored
			again := p.sides[1].user(1, 1, win)
			time.Sleep(time.Second)
			for _, d := range []*device{again, own, mac, bob, phone} {
				d.got()
			}
			again.send(2, m("in doubt"))
			time.Sleep(5 * time.Second)
			again.want(pb.CmdMsgDataAck)
			for _, d := range []*device{bob, phone} {
				if got := d.want(pb.CmdMsgData)[0].m.(*pb.MsgData); got.MsgID != 1 ||
					string(got.Data) != "in doubt" || got.Duplicate {
					t.Errorf("delivered: %+v", got)
				}
			}
			again.send(3, m("in doubt")) // and once more
			again.send(4, m("next"))
			time.Sleep(5 * time.Second)
			again.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck)
			bob.want(pb.CmdMsgData)
			phone.want(pb.CmdMsgData)
			own.want(pb.CmdMsgData)
			mac.want()

			// The ack of this one is lost, not the answer of db_proxy.
			other := p.sides[0].user(1, 1, win)
			time.Sleep(time.Second)
			bob.got()
			other.got()
			other.send(4, m("next"))
			time.Sleep(5 * time.Second)
			other.want(pb.CmdMsgDataAck)
			bob.want()
			phone.want()
		})
	}
}

// A db_proxy without refusals stores a message and answers with id 0, because it did not
// learn of the commit. The repeat is looked for, and not stored again.
func TestNoReasonIsDoubt(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		w.db.also = func(req pb.Message) (pb.Message, error) {
			m, ok := req.(*pb.MsgData)
			if !ok || len(w.db.stored) > 0 {
				return nil, nil
			}
			_, err := w.db.store(conversation.OrderKey(m), m)
			out := *m
			return &out, err
		}
		alice.send(2, text(2, "in doubt"))
		alice.want()
		bob.want()
		time.Sleep(6 * time.Second)
		alice.send(2, text(2, "in doubt"))
		ack := alice.want(pb.CmdMsgDataAck)[0].m.(*pb.IMMsgDataAck)
		if ack.GetMsgId() != 1 || len(w.db.stored) != 1 {
			t.Errorf("acked as %d, %d stored", ack.GetMsgId(), len(w.db.stored))
		}
		bob.want(pb.CmdMsgData)
	})
}

// The first message is answered after its repeat was delivered.
func TestRepeatOvertakes(t *testing.T) {
	inPair(t, 1, func(p *pair) {
		repeating(p)
		alice := p.sides[0].user(0, 1, win)
		bob, phone := p.sides[0].user(1, 2, win), p.sides[1].user(0, 2, android)
		time.Sleep(10 * time.Second)
		p.sides[0].db.hold = true
		alice.send(2, named(2, "slow"))
		again := p.sides[1].user(1, 1, ios)
		again.got()
		again.send(7, named(2, "slow"))
		time.Sleep(time.Second)
		again.want(pb.CmdMsgDataAck)
		bob.want(pb.CmdMsgData)
		phone.want(pb.CmdMsgData)
		p.sides[0].db.letGo()
		time.Sleep(5 * time.Second)
		alice.got()
		bob.want()
		phone.want()
	})
}
