package msg

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// frozenDB is a db_proxy that keeps its requests until it thaws.
type frozenDB struct {
	mu   sync.Mutex // guards all
	link *session.Link
	keep []pb.Message
	seqs []uint16
}

func (db *frozenDB) Open(l *session.Link) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.link = l
	return nil
}

func (db *frozenDB) Close(*session.Link, error)              {}
func (db *frozenDB) Frame(*session.Link, pdu.Header, []byte) {}
func (db *frozenDB) Message(_ *session.Link, seq uint16, m pb.Message) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.keep, db.seqs = append(db.keep, m), append(db.seqs, seq)
}

// kept returns the requests that it keeps.
func (db *frozenDB) kept() []pb.Message {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.keep)
}

// take returns the requests that it keeps, with their link and seqs, and forgets them.
func (db *frozenDB) take() (l *session.Link, list []pb.Message, seqs []uint16) {
	db.mu.Lock()
	defer db.mu.Unlock()
	l, list, seqs = db.link, db.keep, db.seqs
	db.keep, db.seqs = nil, nil
	return l, list, seqs
}

// thaw answers the kept messages as stored.
func (db *frozenDB) thaw(t *testing.T) {
	l, list, seqs := db.take()
	for i, m := range list {
		d, ok := m.(*pb.MsgData)
		if !ok {
			continue // a search of the history, whose caller has given up
		}
		rsp := *d
		rsp.MsgID = uint32(i + 1)
		if err := l.Send(seqs[i], &rsp); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
}

// answerSearches answers the kept searches of the history: it has nothing, or with refused,
// it cannot be read. It forgets the other requests.
func (db *frozenDB) answerSearches(t *testing.T, refused bool) {
	t.Helper()
	l, list, seqs := db.take()
	for i, m := range list {
		req, ok := m.(*pb.IMGetMsgListReq)
		if !ok {
			continue
		}
		var rsp pb.Message = pb.IMGetMsgListRsp_builder{UserId: new(req.GetUserId()),
			SessionType: req.GetSessionType().Enum(), SessionId: new(req.GetSessionId()),
			MsgIdBegin: new(uint32(0)), AttachData: req.GetAttachData(),
			RecognisesRepeats: new(true)}.Build()
		if refused {
			rsp = pb.IMRequestRefused_builder{AttachData: req.GetAttachData()}.Build()
		}
		if err := l.Send(seqs[i], rsp); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
}

// inFreeze runs f with a db_proxy that is frozen longer than calls wait.
func inFreeze(t *testing.T, f func(w *world, db *frozenDB)) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		db := &frozenDB{}
		p, err := link.Local(link.LocalOptions{Callee: db, CallTimeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		w.h.conversation.Connect(p, w.db, w.route)
		f(w, db)
	})
}

// TestLateAnswer checks a message whose answer arrives after the call has ended: it is
// delivered and acked. A repeat is acked again and not stored.
func TestLateAnswer(t *testing.T) {
	inFreeze(t, func(w *world, db *frozenDB) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.got()
		alice.send(2, text(2, "x"))
		time.Sleep(11 * time.Second)
		alice.want()
		db.thaw(t)
		ack := alice.want(pb.CmdMsgDataAck)[0]
		if ack.m.(*pb.IMMsgDataAck).GetMsgId() != 1 || ack.seq != 2 {
			t.Errorf("ack %+v", ack)
		}
		if m := bob.want(pb.CmdMsgData)[0].m.(*pb.MsgData); m.MsgID != 1 {
			t.Errorf("delivered %+v", m)
		}
		alice.send(2, text(2, "x"))
		alice.want(pb.CmdMsgDataAck)
		if len(db.kept()) != 0 {
			t.Errorf("db_proxy was asked again: %v", db.kept())
		}
		if n := w.counted("stored_late_total"); n != 1 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestLateAnswerToRepeated checks that a late answer does not count once the sender has
// repeated the message: the history is searched for it, and only that delivers it.
func TestLateAnswerToRepeated(t *testing.T) {
	inFreeze(t, func(w *world, db *frozenDB) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.got()
		alice.send(2, text(2, "x"))
		time.Sleep(11 * time.Second)
		alice.send(2, text(2, "x"))
		db.thaw(t)
		alice.want()
		bob.want()
	})
}

// TestLateAnswerWithoutSender checks that a message is delivered when its answer arrives
// after its sender has gone: nobody repeats it.
func TestLateAnswerWithoutSender(t *testing.T) {
	inFreeze(t, func(w *world, db *frozenDB) {
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		alice.send(2, text(2, "x"))
		time.Sleep(11 * time.Second)
		alice.hangUp()
		bob.got()
		db.thaw(t)
		bob.want(pb.CmdMsgData)
	})
}

// TestRepeatedWhileUnanswered: a Windows client repeats A, which no db_proxy answers. When the
// call has ended, the repeat counts: the history is searched for A. B does not overtake A.
func TestRepeatedWhileUnanswered(t *testing.T) {
	inFreeze(t, func(w *world, db *frozenDB) {
		alice := w.user(0, 1, win)
		alice.send(2, text(2, "A"))
		time.Sleep(6 * time.Second)
		alice.send(2, text(2, "A"))
		time.Sleep(6 * time.Second) // the call has ended after 10 s
		if len(db.kept()) != 2 {
			t.Errorf("db_proxy received %v, want A and a search", db.kept())
		}
		alice.send(3, text(2, "B"))
		for _, m := range db.kept() {
			if d, ok := m.(*pb.MsgData); ok && string(d.Data) == "B" {
				t.Error("db_proxy received B")
			}
		}
	})
}

// TestRepeatGivenUp: a Windows client repeats A while its first attempt is unanswered, and
// leaves. When it may have given A up before, A is not stored any more: on its next
// connection it sends those behind A again, without A.
func TestRepeatGivenUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		left   time.Duration // after the repeat
		stored bool
	}{{"left at once", 4 * time.Second, true}, {"left later", 7 * time.Second, false}} {
		t.Run(c.name, func(t *testing.T) {
			inFreeze(t, func(w *world, db *frozenDB) {
				alice := w.user(0, 1, win)
				alice.send(2, text(2, "A"))
				time.Sleep(6 * time.Second)
				alice.send(2, text(2, "A"))
				time.Sleep(c.left + 500*time.Millisecond) // the first call has ended after 10 s
				alice.hangUp()
				db.answerSearches(t, false)
				if stored := len(db.kept()) == 1; stored != c.stored {
					t.Errorf("db_proxy received %v, want A: %v", db.kept(), c.stored)
				}
			})
		})
	}
}

// TestRepeatHeldFromItsArrival: the time for which a repeat in doubt is held begins when it
// arrives, also when it is handled later, because the first attempt was unanswered.
func TestRepeatHeldFromItsArrival(t *testing.T) {
	inFreeze(t, func(w *world, db *frozenDB) {
		alice := w.user(0, 1, win)
		alice.send(2, text(2, "A"))
		time.Sleep(6 * time.Second)
		alice.send(2, text(2, "A"))
		time.Sleep(9 * time.Second)
		db.answerSearches(t, true)
		time.Sleep(500 * time.Millisecond)
		if len(db.kept()) != 1 {
			t.Errorf("9 s after the repeat, db_proxy received %v, want a search", db.kept())
		}
		time.Sleep(time.Second)
		db.answerSearches(t, true)
		time.Sleep(time.Second)
		if len(db.kept()) != 0 {
			t.Errorf("11 s after the repeat, db_proxy received %v, want nothing", db.kept())
		}
	})
}
