package msg

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/proto/pb"
)

// historyReads returns how often pages of histories were read.
func (db *dbStand) historyReads() (n int) {
	synctest.Wait()
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, m := range db.asked {
		if _, ok := m.(*pb.IMGetMsgListReq); ok {
			n++
		}
	}
	return n
}

// slowHistory makes each page of a history take a second.
func (db *dbStand) slowHistory() {
	db.late = func(req pb.Message) time.Duration {
		if _, ok := req.(*pb.IMGetMsgListReq); ok {
			return time.Second
		}
		return 0
	}
}

// inDoubt lets alice send texts at once, whose answers are lost. stored says that they were
// stored.
func (w *world) inDoubt(alice *device, stored bool, texts ...*pb.MsgData) {
	w.db.hold, w.db.lose = true, true
	if !stored {
		w.db.become("silent")
	}
	for i, m := range texts {
		alice.send(uint16(i+2), m)
	}
	w.db.letGo()
	w.db.lose = false
	w.db.become("up")
}

// newer stores n newer messages from user 2 to user 1, which another message server accepts.
func (w *world) newer(n int) {
	now := uint32(w.h.opt.Now().Unix())
	for i := range n {
		w.db.keep(&pb.MsgData{FromUserID: 2, ToSessionID: 1, MsgID: uint32(100 + i),
			CreateTime: now, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("newer")})
	}
}

// numberedTexts returns n different texts to a user, and what they are in texts.
func numberedTexts(to uint32, n int) (list []*pb.MsgData, all string) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("t", i)
		list = append(list, text(to, names[i]))
	}
	return list, strings.Join(names, " ")
}

// TestManyInDoubt: 25 texts of a phone are in doubt, and 200 newer ones are in the history.
// The texts share the pages of the history. A db_proxy that recognises repeats is asked for
// one page. Each text is stored once, in order, and delivered and acked in the same order.
func TestManyInDoubt(t *testing.T) {
	const texts, page, pages = 25, 1, 5
	for _, c := range []struct {
		name            string
		stored, repeats bool
		reads, acks     int
	}{
		{"stored", true, true, page, texts},
		{"not stored", false, true, page, texts},
		{"stored, no repeats", true, false, pages, texts},
		{"not stored, no repeats", false, false, pages, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			holding(t, Options{}, func(w *world, alice *device) {
				bob := w.user(1, 2, ios)
				bob.got()
				w.db.repeats = c.repeats
				w.db.slowHistory()
				list, all := numberedTexts(2, texts)
				w.inDoubt(alice, c.stored, list...)
				w.newer(200)
				time.Sleep(time.Duration(c.reads+2) * time.Second)
				if n := w.db.historyReads(); n != c.reads {
					t.Errorf("%d pages were read, want %d", n, c.reads)
				}
				ids := alice.ackIDs()
				if len(ids) != c.acks || !slices.IsSorted(ids) {
					t.Errorf("acks %v, want %d", ids, c.acks)
				}
				if got := bob.ids(); !slices.Equal(got, ids) {
					t.Errorf("delivered %v, acked %v", got, ids)
				}
				got := strings.ReplaceAll(w.db.texts(), " newer", "")
				if got = strings.TrimPrefix(strings.TrimPrefix(got, "newer"), " "); c.acks > 0 &&
					got != all || c.acks == 0 && got != "" {
					t.Errorf("stored %q", got)
				}
				if n := w.h.conversation.InFlight(); n != 0 {
					t.Errorf("%d in flight", n)
				}
			})
		})
	}
}

// TestEqualTextsInDoubt: equal texts of one second are in doubt. Each has an id of its own, in
// order, and those that were not stored are.
func TestEqualTextsInDoubt(t *testing.T) {
	for _, repeats := range []bool{true, false} {
		t.Run(fmt.Sprintf("recognised %v", repeats), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world, alice *device) {
				w.db.repeats = repeats
				equal, _ := numberedTexts(2, 1)
				w.inDoubt(alice, true, slices.Repeat(equal, 5)...)
				time.Sleep(2 * time.Second)
				if ids := alice.ackIDs(); !slices.Equal(ids, []uint32{1, 2, 3, 4, 5}) {
					t.Errorf("acks %v", ids)
				}
				if got := w.db.texts(); got != "t0 t0 t0 t0 t0" {
					t.Errorf("stored %q", got)
				}
			})
		})
	}
}

// TestDoubtInManyConversations: texts to six users are in doubt. The histories of four are read
// at the same time.
func TestDoubtInManyConversations(t *testing.T) {
	holding(t, Options{}, func(w *world, alice *device) {
		w.db.repeats = true
		w.db.slowHistory()
		var list []*pb.MsgData
		for n := range 18 {
			list = append(list, text(uint32(2+n%6), fmt.Sprint(n)))
		}
		w.inDoubt(alice, false, list...)
		begin := w.h.opt.Now()
		for w.db.historyReads() == 0 && w.h.opt.Now().Sub(begin) < 5*time.Second {
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.db.historyReads(); n != 4 {
			t.Errorf("%d histories are read at once, want 4", n)
		}
		time.Sleep(2500 * time.Millisecond)
		if n := w.db.historyReads(); n != 6 {
			t.Errorf("%d pages were read, want 6", n)
		}
		if ids := alice.ackIDs(); len(ids) != len(list) {
			t.Errorf("acks %v, want %d", ids, len(list))
		}
		order := map[uint32]string{}
		for _, m := range w.db.stored {
			order[m.ToSessionID] += " " + string(m.Data)
		}
		for to := range uint32(6) {
			if want := fmt.Sprintf(" %d %d %d", to, to+6, to+12); order[to+2] != want {
				t.Errorf("stored for user %d: %q, want %q", to+2, order[to+2], want)
			}
		}
	})
}

// shutStand is a db_proxy that takes no message for a number of times.
type shutStand struct {
	*dbStand
	shut atomic.Int32
}

func (db *shutStand) TryCall(key uint64, seq uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	if db.shut.Add(-1) >= 0 {
		return im.WithKind(im.Unavailable, "shut", link.ErrNotSent)
	}
	return db.dbStand.TryCall(key, seq, req, done)
}

// TestDoubtNotSent: the history has none of the texts in doubt, and the first one cannot be
// sent. The others do not overtake it.
func TestDoubtNotSent(t *testing.T) {
	onEach(t, func(t *testing.T, w *world, alice *device) {
		w.db.repeats = true
		w.db.slowHistory()
		db := &shutStand{dbStand: w.db}
		w.h.conversation.Connect(db, w.db, w.route)
		list, all := numberedTexts(2, 5)
		w.inDoubt(alice, false, list...)
		db.shut.Store(1)
		time.Sleep(time.Second)
		wantHeld(w, alice, all, len(list))
	})
}

// failReads makes the next reads of histories fail.
func (db *dbStand) failReads(n int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.also = func(req pb.Message) (pb.Message, error) {
		if _, ok := req.(*pb.IMGetMsgListReq); !ok || n == 0 {
			return nil, nil
		}
		n--
		return nil, im.Errorf(im.Unavailable, "no answer")
	}
}

// TestDoubtNotSearched: the history cannot be read at first. Then it has all texts in doubt.
func TestDoubtNotSearched(t *testing.T) {
	onEach(t, func(t *testing.T, w *world, alice *device) {
		list, all := numberedTexts(2, 5)
		w.inDoubt(alice, true, list...)
		w.db.failReads(3)
		wantHeld(w, alice, all, len(list))
		if n := w.db.historyReads(); n != 4 {
			t.Errorf("the history was read %d times, want 4", n)
		}
	})
}
