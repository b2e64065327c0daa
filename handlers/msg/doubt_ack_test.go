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
