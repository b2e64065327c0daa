package msg

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// outageStep is one step of a sender, or of db_proxy, around an outage.
type outageStep struct {
	after time.Duration
	db    string // "down", "failing", "silent" or "up" from now on; "": as before
	seq   uint16 // of what is sent; 0: nothing
	to    uint32
	text  string
}

// outage is what a sender does around an outage, and the texts that are stored in the end.
type outage struct {
	name  string
	steps []outageStep
	want  string
}

func outages() []outage {
	const s = time.Second
	return []outage{
		{"B waits for the repeat of A", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "up", 2, 2, "B"}, {5 * s, "", 1, 2, "A"},
			{s, "", 2, 2, "B"}, {0, "", 3, 2, "C"}}, "A B C"},
		{"db_proxy says no", []outageStep{
			{0, "failing", 1, 2, "A"}, {s, "up", 2, 2, "B"}, {5 * s, "", 1, 2, "A"},
			{s, "", 2, 2, "B"}}, "A B"},
		{"in doubt, and not stored", []outageStep{
			{0, "silent", 1, 2, "A"}, {s, "up", 2, 2, "B"}, {5 * s, "", 1, 2, "A"},
			{0, "", 2, 2, "B"}}, "A B"},
		{"C waits for the repeat of B", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "up", 2, 2, "B"}, {5 * s, "", 1, 2, "A"},
			{0, "", 3, 2, "C"},
			{s, "", 2, 2, "B"}, {5 * s, "", 3, 2, "C"}}, "A B C"},
		{"other conversations go on", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "up", 2, 3, "B"}, {0, "", 3, 2, "C"},
			{5 * s, "", 1, 2, "A"}}, "B A"},
		{"given up: B is repeated, A is not", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "up", 2, 2, "B"}, {6 * s, "", 2, 2, "B"},
			{0, "", 3, 2, "C"}}, "B C"},
		{"the repeat of A fails, too", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "", 2, 2, "B"}, {5 * s, "", 1, 2, "A"},
			{s, "up", 2, 2, "B"}, {6 * s, "", 2, 2, "B"}}, "B"},
		{"given up: A never comes again", []outageStep{
			{0, "down", 1, 2, "A"}, {3 * s, "up", 2, 2, "B"}, {8 * s, "", 3, 2, "A"},
			{0, "", 4, 2, "B"}}, "A B"},
		{"A is repeated late", []outageStep{
			{0, "down", 1, 2, "A"}, {3 * s, "up", 2, 2, "B"}, {6 * s, "", 1, 2, "A"},
			{0, "", 3, 2, "C"}, {s, "", 2, 2, "B"}, {5 * s, "", 3, 2, "C"}}, "A B C"},
		{"without numbers nothing waits", []outageStep{
			{0, "down", 1, 2, "A"}, {s, "up", 0, 2, "B"}}, ""},
	}
}

// TestOrderAfterOutage plays what a sender does around an outage of db_proxy, and looks
// at what is stored, in order.
func TestOrderAfterOutage(t *testing.T) {
	for _, tc := range outages() {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Hold: -1}, func(w *world) {
				alice := w.user(0, 1, pb.ClientType_CLIENT_TYPE_WINDOWS)
				for _, st := range tc.steps {
					time.Sleep(st.after)
					w.db.become(st.db)
					if st.seq != 0 {
						alice.send(st.seq, text(st.to, st.text))
					}
				}
				synctest.Wait()
				if got := w.db.texts(); got != tc.want {
					t.Errorf("stored %q, want %q", got, tc.want)
				}
			})
		})
	}
}

// TestPhonesDoNotRepeat: clients that never repeat a message are not held back behind one
// that failed.
func TestPhonesDoNotRepeat(t *testing.T) {
	for _, client := range []pb.ClientType{
		pb.ClientType_CLIENT_TYPE_MAC, pb.ClientType_CLIENT_TYPE_IOS,
		pb.ClientType_CLIENT_TYPE_ANDROID,
	} {
		t.Run(client.String(), func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Hold: -1}, func(w *world) {
				alice := w.user(0, 1, client)
				w.db.become("down")
				alice.send(1, text(2, "A"))
				w.db.become("up")
				alice.send(2, text(2, "B"))
				synctest.Wait()
				if got := w.db.texts(); got != "B" {
					t.Errorf("stored %q, want B", got)
				}
			})
		})
	}
}

// become puts the stand-in into a state.
func (db *dbStand) become(state string) {
	synctest.Wait()
	db.mu.Lock()
	defer db.mu.Unlock()
	if state == "" {
		return
	}
	db.down, db.fail, db.also = state == "down", state == "failing", nil
	if state == "silent" {
		db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.MsgData); ok {
				return nil, im.Errorf(im.Unavailable, "no answer")
			}
			return nil, nil
		}
	}
}

// texts is what is stored, in order.
func (db *dbStand) texts() (list string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for i, m := range db.stored {
		if i > 0 {
			list += " "
		}
		list += string(m.Data)
	}
	return list
}

// wantRefusals checks the answers to messages that were stored, with 0, or refused.
func (d *device) wantRefusals(what string, refusals ...pb.MsgRefusal) {
	t := d.w.t
	t.Helper()
	got := d.got()
	if len(got) != len(refusals) {
		t.Fatalf("%s: %d answers, want %d", what, len(got), len(refusals))
	}
	for i, r := range got {
		ack := r.m.(*pb.IMMsgDataAck)
		refused := refusals[i] != 0
		if ack.HasRefusal() != refused || refused && ack.GetRefusal() != refusals[i] ||
			(ack.GetMsgId() == 0) != refused {
			t.Errorf("%s: %v with id %d, want %v", what, ack.GetRefusal(), ack.GetMsgId(),
				refusals[i])
		}
	}
}

// TestRefusals: a client that wants to know hears at once what was not stored, and why.
// Others hear nothing.
func TestRefusals(t *testing.T) {
	inWorld(t, Options{Hold: -1}, func(w *world) {
		alice, old := w.user(0, 1, pb.ClientType_CLIENT_TYPE_WINDOWS),
			w.user(1, 3, pb.ClientType_CLIENT_TYPE_WINDOWS)
		wanting := func(seq uint16, body string) {
			m := text(2, body)
			m.WantRefusal = true
			alice.send(seq, m)
		}
		const again, rejected = pb.MsgRefusal_MSG_REFUSAL_AGAIN, pb.MsgRefusal_MSG_REFUSAL_REJECTED
		w.db.become("down")
		wanting(1, "A")
		wanting(2, "B")
		old.send(1, text(2, "A"))
		alice.wantRefusals("db_proxy is down", again, again)
		old.want()
		w.db.become("up")
		wanting(3, "C")
		alice.wantRefusals("behind A", again)
		time.Sleep(40 * time.Second) // it repeats until it gives up: its patience is longer
		wanting(4, "D")
		alice.wantRefusals("still behind A", again)
		wanting(1, "A")
		wanting(2, "B")
		wanting(3, "C")
		wanting(4, "D")
		alice.wantRefusals("repeated in order", 0, 0, 0, 0)
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if m, ok := req.(*pb.MsgData); ok && string(m.Data) == "never" {
				return &pb.MsgData{Rejected: true}, nil
			}
			return nil, nil
		}
		wanting(5, "never")
		alice.wantRefusals("it can never be stored", rejected)
		wanting(6, "E")
		alice.wantRefusals("it holds nobody back", 0)
		wanting(7, "") // the message server itself refuses these
		wanting(8, strings.Repeat("x", im.MaxContent+1))
		alice.wantRefusals("nobody could store them", rejected, rejected)
		old.send(2, text(2, ""))
		old.want()
		wanting(9, "F")
		alice.wantRefusals("they hold nobody back", 0)
		if got := w.db.texts(); got != "A B C D E F" {
			t.Errorf("stored %q", got)
		}
		for _, s := range []*device{alice, old} {
			s.on(func() {
				n := kept(t, conversationOf(s.s), "sends", "order", "holds") +
					kept(t, conversationOf(s.s), "sends", "order", "targets")
				if s == alice && n != 0 {
					t.Errorf("%d conversations are still held", n)
				}
			})
		}
	})
}
