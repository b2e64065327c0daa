package msg

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"teamtalk/proto/pb"
)

// logInSlowly connects, sends a login and then texts, before db_proxy answers the login.
func logInSlowly(w *world, password string, texts ...string) *device {
	return logInSlowlyFrom(w, "10.0.0.9", password, texts...)
}

// logInSlowlyFrom is logInSlowly from an address.
func logInSlowlyFrom(w *world, addr, password string, texts ...string) *device {
	w.db.hold = true
	d := w.connectFrom(0, netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
	m := loginReq(1, android)
	m.SetPassword(password)
	d.send(1, m)
	for i, body := range texts {
		d.send(uint16(i+2), text(2, body))
	}
	return d
}

// early returns how many bytes of texts before a login are kept.
func (d *device) early() (n int) {
	d.on(func() { n = stateOf(d.loop.Loop).early.used })
	return n
}

// TestTextBeforeLoginAnswer: texts that a client sends while its login is checked are stored
// in order after it, and acked. Those of a refused login, and of a connection that ends, are
// not.
func TestTextBeforeLoginAnswer(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		d := logInSlowly(w, "right", "A", "B")
		d.want()
		if d.early() == 0 {
			t.Error("nothing is kept")
		}
		w.db.letGo()
		synctest.Wait()
		d.send(9, text(2, "C"))
		got := d.got()
		if len(got) == 0 || got[0].m.Command() != pb.CmdLoginRes || w.db.texts() != "A B C" ||
			d.early() != 0 {
			t.Errorf("stored %q, received %v, %d bytes kept", w.db.texts(), got, d.early())
		}
		acks := 0
		for _, f := range got {
			if f.m.Command() == pb.CmdMsgDataAck {
				acks++
			}
		}
		if acks != 3 {
			t.Errorf("%d acks", acks)
		}

		d = logInSlowly(w, "wrong", "D")
		w.db.letGo()
		if _, code := d.answeredAfter(); code == 0 || d.early() != 0 {
			t.Errorf("refused login: %v, %d bytes kept", code, d.early())
		}
		d = logInSlowly(w, "right", "E")
		d.hangUp()
		w.db.letGo()
		if got := w.db.texts(); got != "A B C" || d.early() != 0 {
			t.Errorf("stored %q, %d bytes kept", got, d.early())
		}
		if h, r := w.counted("early_texts_total", "handled"), w.counted("early_texts_total",
			"refused"); h != 2 || r != 2 {
			t.Errorf("%v handled, %v refused", h, r)
		}
	})
}

// TestTextsBeforeLoginAreBounded: too many of these texts, or too long ones, are dropped and
// counted, and other commands are not kept.
func TestTextsBeforeLoginAreBounded(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		var texts, want []string
		for i := range maxEarly + 3 {
			texts = append(texts, fmt.Sprint(i))
			if i < maxEarly {
				want = append(want, fmt.Sprint(i))
			}
		}
		d := logInSlowly(w, "right", texts...)
		w.db.letGo()
		d.got()
		if got := w.db.texts(); got != strings.Join(want, " ") {
			t.Errorf("stored %q, want %q", got, want)
		}
		if n := w.counted("early_texts_total", "full"); n != 3 {
			t.Errorf("%v counted as full, want 3", n)
		}
		d = logInSlowly(w, "right", strings.Repeat("x", maxEarlyBytes), "short")
		d.send(9, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
		if n := d.early(); n == 0 || n > 200 {
			t.Errorf("%d bytes kept, want those of the short one", n)
		}
		w.db.letGo()
		d.on(func() { stateOf(d.loop.Loop).early.used = maxEarlyLoop })
		e := logInSlowly(w, "right", "none")
		if n := e.early(); n != maxEarlyLoop {
			t.Errorf("%d bytes kept on a full loop", n)
		}
		d.on(func() { stateOf(d.loop.Loop).early.used = 0 })
		w.db.letGo()
	})
}

// TestTextsOfAnAddressLeaveRoom: connections of one address that have sent a login leave half of
// the room to others. Their end gives the room back.
func TestTextsOfAnAddressLeaveRoom(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		long := strings.Repeat("x", maxEarlyBytes-100)
		var crowd []*device
		for range 2 * maxEarlyLoop / maxEarlyBytes {
			crowd = append(crowd, logInSlowlyFrom(w, "10.0.0.1", "right", long))
		}
		if n := crowd[0].early(); n > maxEarlyLoop/2 || n < maxEarlyLoop/2-maxEarlyBytes {
			t.Errorf("%d bytes kept of one address", n)
		}
		before := crowd[0].early()
		d := logInSlowlyFrom(w, "10.0.0.2", "right", "news")
		if d.early() == before {
			t.Error("a text of another address is not kept")
		}
		for _, c := range crowd {
			c.hangUp()
		}
		d.hangUp()
		d.on(func() {
			if room := stateOf(d.loop.Loop).early; room.used != 0 || room.of != nil {
				t.Errorf("kept when all are gone: %d bytes of %v", room.used, room.of)
			}
		})
		w.db.letGo()
	})
}

// TestTextsOfRefusedLoginsAreNotKept: the answer to a refused login may wait for seconds. The
// texts of its client have no use from its refusal on.
func TestTextsOfRefusedLoginsAreNotKept(t *testing.T) {
	inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
		var d *device
		for range 2 { // the answer to the second one waits
			d = logInSlowly(w, "wrong", "A")
			if d.early() == 0 {
				t.Error("nothing is kept while the login is checked")
			}
			w.db.letGo()
		}
		synctest.Wait()
		d.send(9, text(2, "B"))
		if n := d.early(); n != 0 || d.isClosed() {
			t.Errorf("%d bytes kept after the refusal, closed %v", n, d.isClosed())
		}
		if took, code := d.answeredAfter(); code == 0 || took == 0 {
			t.Errorf("answer %v after %v", code, took)
		}
	})
}
