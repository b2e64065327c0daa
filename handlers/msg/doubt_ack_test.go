package msg

import (
	"testing"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestFoundInHistoryIsAckedAtOnce: the history has a text whose answer was lost. A device of
// the receiver may have received and acknowledged it, so its sender waits for none.
func TestFoundInHistoryIsAckedAtOnce(t *testing.T) {
	for name, receiver := range map[string]func(w *world){
		"the receiver is elsewhere": func(w *world) {
			w.route.acking = map[uint32]bool{2: true}
		},
		"the receiver is here": func(w *world) {
			bob := w.user(1, 2, win)
			w.user(1, 3, win).send(2, text(2, "before"))
			bob.acks(asPeer, 3, bob.ids()[0], inSingle)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Presence: PresenceNone}, func(w *world) {
				receiver(w)
				alice := w.user(0, 1, win)
				alice.got()
				w.db.repeats, w.db.lose = true, true
				alice.send(2, text(2, "hi"))
				time.Sleep(3 * session.TickInterval) // the history is searched
				if got := alice.want(pb.CmdMsgDataAck); got[0].seq != 2 {
					t.Errorf("acked seq %d", got[0].seq)
				}
			})
		})
	}
}

// TestFoundInHistoryInOrder: two devices of a user write to the same user, and both answers
// are lost. The newer text is found in the history first. A message server that knows nothing
// of the conversation delivers the older one before it all the same.
func TestFoundInHistoryInOrder(t *testing.T) {
	inCluster(t, 2, Options{Rate: -1, Hold: -1, Ack: AckStored}, func(c *cluster) {
		pc, phone := c.servers[0].user(0, 1, win), c.servers[0].user(1, 1, ios)
		bob := c.servers[1].user(0, 2, win)
		c.db.lose = true
		pc.send(2, text(2, "first"))
		phone.send(2, text(2, "second"))
		c.db.lose = false
		time.Sleep(100 * time.Millisecond)
		phone.send(2, text(2, "second"))
		time.Sleep(100 * time.Millisecond)
		bob.wantTexts()
		pc.send(2, text(2, "first"))
		time.Sleep(10 * time.Millisecond)
		bob.wantTexts(1, 2)
	})
}

// TestFoundInHistoryLate: the text before the one that is found was stored long ago. No
// message server waits for it, also one that knows nothing of the conversation.
func TestFoundInHistoryLate(t *testing.T) {
	inCluster(t, 2, Options{Rate: -1, Hold: -1, Ack: AckStored}, func(c *cluster) {
		pc := c.servers[0].user(0, 1, win)
		c.away = []bool{false, true}
		pc.send(2, text(2, "first"))
		c.away = nil
		c.db.lose = true
		pc.send(3, text(2, "second"))
		c.db.lose = false
		time.Sleep(6 * time.Second)
		bob := c.servers[1].user(0, 2, win)
		pc.send(3, text(2, "second"))
		time.Sleep(10 * time.Millisecond)
		bob.wantTexts(2)
	})
}
