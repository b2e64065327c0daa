package msg

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/proto/pb"
)

// ackIDs takes what a device received since the last call, which must be acks, and returns
// their message ids.
func (d *device) ackIDs() (ids []uint32) {
	d.w.t.Helper()
	for _, r := range d.got() {
		ack, ok := r.m.(*pb.IMMsgDataAck)
		if !ok {
			d.w.t.Fatalf("received %v, want acks only", r.m.Command())
		}
		ids = append(ids, ack.GetMsgId())
	}
	return ids
}

// holding runs f with a phone of user 1 that never repeats a message.
func holding(t *testing.T, opt Options, f func(w *world, alice *device)) {
	opt.Rate, opt.Ack = -1, AckStored
	inWorld(t, opt, func(w *world) {
		alice := w.user(0, 1, android)
		alice.got()
		f(w, alice)
	})
}

// wantHeld waits for the end of an outage, and checks that alice's texts were stored in
// order and acked.
func wantHeld(w *world, alice *device, stored string, acks int) {
	w.t.Helper()
	time.Sleep(2 * time.Second)
	if got := w.db.texts(); got != stored {
		w.t.Errorf("stored %q, want %q", got, stored)
	}
	if ids := alice.ackIDs(); len(ids) != acks {
		w.t.Errorf("acks %v, want %d", ids, acks)
	}
	if n := w.h.conversation.InFlight(); n != 0 {
		w.t.Errorf("%d in flight", n)
	}
	alice.on(func() {
		if n := kept(w.t, conversationLoop(alice.loop.Loop), "outboxes", "sessions"); n != 0 {
			w.t.Errorf("%d outboxes are kept", n)
		}
	})
}

// TestHold: texts of a phone wait for a db_proxy, in order, and those behind them as well.
// Other requests do not wait.
func TestHold(t *testing.T) {
	holding(t, Options{}, func(w *world, alice *device) {
		w.db.become("down")
		alice.send(2, text(2, "A"))
		alice.send(3, text(3, "B"))
		time.Sleep(3 * time.Second)
		w.db.become("up")
		alice.send(4, text(2, "C")) // before the held ones are sent
		alice.send(2, text(2, "A")) // a repeat of a held one
		alice.send(5, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
		alice.want(pb.CmdUnreadMsgCntRsp)
		wantHeld(w, alice, "A B C", 3)
	})
}

// TestHoldOff: without Hold, a text is lost at once.
func TestHoldOff(t *testing.T) {
	holding(t, Options{Hold: -1}, func(w *world, alice *device) {
		w.db.become("down")
		alice.send(2, text(2, "A"))
		w.db.become("up")
		wantHeld(w, alice, "", 0)
	})
}

// onEach runs f with a client that never repeats a message, and with one that repeats it
// after 6 s.
func onEach(t *testing.T, f func(t *testing.T, w *world, alice *device)) {
	for _, client := range []pb.ClientType{android, win} {
		t.Run(client.String(), func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
				alice := w.user(0, 1, client)
				alice.got()
				f(t, w, alice)
			})
		})
	}
}

// TestHoldRefused: a text that db_proxy refuses is held, and the texts that were in flight
// behind it, which db_proxy refuses as well, are stored behind it.
func TestHoldRefused(t *testing.T) {
	onEach(t, func(t *testing.T, w *world, alice *device) {
		epochs := map[string][]uint32{}
		w.db.also = func(req pb.Message) (pb.Message, error) {
			m, ok := req.(*pb.MsgData)
			if !ok {
				return nil, nil
			}
			epochs[string(m.Data)] = append(epochs[string(m.Data)], m.Epoch)
			if len(epochs[string(m.Data)]) > 1 {
				return nil, nil
			}
			return nil, im.WithKind(im.Unavailable, "refused", &link.Refusal{Reason: "no store"})
		}
		w.db.hold = true
		alice.send(2, text(2, "A"))
		alice.send(3, text(2, "B"))
		w.db.letGo()
		wantHeld(w, alice, "A B", 2)
		for name, e := range epochs {
			if len(e) != 2 || e[1] != e[0]+1 {
				t.Errorf("%s was sent in the epochs %v, want two that follow", name, e)
			}
		}
	})
}

// TestHoldInDoubt: a text whose answer is lost is searched in the history. It is stored
// once, delivered and acked, in the order of the sender.
func TestHoldInDoubt(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored %v", lost), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world, alice *device) {
				w.db.repeats = true
				bob := w.user(1, 2, ios)
				bob.got()
				if w.db.lose = lost; !lost {
					w.db.become("silent")
				}
				alice.send(2, text(2, "A"))
				synctest.Wait()
				w.db.lose = false
				w.db.become("up")
				alice.send(3, text(2, "B"))
				wantHeld(w, alice, "A B", 2)
				if got := bob.got(); len(got) != 2 {
					t.Errorf("%d texts were delivered, want 2", len(got))
				}
			})
		})
	}
}

// TestHoldInDoubtCPP: a db_proxy that recognises no repeats gets no text in doubt again.
func TestHoldInDoubtCPP(t *testing.T) {
	holding(t, Options{}, func(w *world, alice *device) {
		w.db.become("silent")
		alice.send(2, text(2, "A"))
		w.db.become("up")
		alice.send(3, text(2, "B"))
		wantHeld(w, alice, "B", 1)
	})
}

// TestHoldInDoubtLonger: a text in doubt is held for longer than others.
func TestHoldInDoubtLonger(t *testing.T) {
	onEach(t, func(t *testing.T, w *world, alice *device) {
		w.db.repeats = true
		first := true
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.MsgData); !ok || !first {
				return nil, nil
			}
			first = false
			return nil, im.WithKind(im.Unavailable, "refused", &link.Refusal{Reason: "no store",
				InDoubt: true})
		}
		alice.send(2, text(2, "A"))
		w.db.become("down")
		time.Sleep(9 * time.Second)
		w.db.become("up")
		wantHeld(w, alice, "A", 1)
	})
}

// TestHoldRepeats: a client has repeated texts that were given up. They are held again, in
// order, so that they do not wait for its next repeats.
func TestHoldRepeats(t *testing.T) {
	for _, state := range []string{"down", "silent"} {
		t.Run(state, func(t *testing.T) {
			inWorld(t, Options{Rate: -1, Ack: AckStored}, func(w *world) {
				w.db.repeats = true
				alice := w.user(0, 1, win)
				alice.got()
				w.db.become(state)
				alice.send(2, text(2, "A"))
				alice.send(3, text(2, "B"))
				time.Sleep(11 * time.Second)
				w.db.become("down")
				alice.send(2, text(2, "A"))
				alice.send(3, text(2, "B"))
				time.Sleep(time.Second)
				alice.send(4, text(2, "C"))
				time.Sleep(time.Second)
				w.db.become("up")
				wantHeld(w, alice, "A B C", 3)
			})
		})
	}
}

// TestHoldExpires: a text that is held for too long is given up and counted, and the next
// one is not affected.
func TestHoldExpires(t *testing.T) {
	holding(t, Options{Hold: 3 * time.Second}, func(w *world, alice *device) {
		w.db.become("down")
		alice.send(2, text(2, "A"))
		time.Sleep(2 * time.Second)
		alice.send(3, text(2, "B"))
		time.Sleep(1500 * time.Millisecond)
		w.db.become("up")
		wantHeld(w, alice, "B", 1)
		if n := w.counted("dropped_total", "hold_expired"); n != 1 {
			t.Errorf("%v dropped, want 1", n)
		}
	})
}

// TestHoldFull: the texts of one connection beyond the bounds are given up and counted.
func TestHoldFull(t *testing.T) {
	holding(t, Options{}, func(w *world, alice *device) {
		w.db.become("down")
		want := ""
		for i := range 258 {
			alice.send(uint16(i+2), text(2, "A"))
			if i < 256 {
				want += " A"
			}
		}
		w.db.become("up")
		wantHeld(w, alice, want[1:], 256)
		if n := w.counted("dropped_total", "hold_full"); n != 2 {
			t.Errorf("%v dropped, want 2", n)
		}
	})
}

// TestHoldWindows: a text of a Windows client is held while no db_proxy stores it, and its
// repeat counts as one.
func TestHoldWindows(t *testing.T) {
	holding(t, Options{Hold: 10 * time.Second}, func(w *world, _ *device) {
		carol := w.user(0, 3, win)
		carol.got()
		w.db.become("down")
		carol.send(2, text(2, "A"))
		carol.send(3, text(2, "B"))
		time.Sleep(6 * time.Second)
		carol.send(2, text(2, "A"))
		w.db.become("up")
		carol.send(3, text(2, "B"))
		wantHeld(w, carol, "A B", 2)
	})
}

// TestHoldWindowsExpires: a Windows client repeats the texts that were held in vain. Those
// of the conversation keep their order.
func TestHoldWindowsExpires(t *testing.T) {
	for _, state := range []string{"down", "failing", "silent"} {
		t.Run(state, func(t *testing.T) {
			holding(t, Options{Hold: 2 * time.Second}, func(w *world, _ *device) {
				w.db.repeats = true
				carol := w.user(0, 3, win)
				carol.got()
				w.db.become(state)
				carol.send(2, text(2, "A"))
				time.Sleep(time.Second)
				carol.send(3, text(2, "B"))
				time.Sleep(2 * time.Second)
				w.db.become("up")
				carol.send(4, text(2, "C"))
				time.Sleep(3 * time.Second)
				for i, s := range []string{"A", "B", "C"} {
					carol.send(uint16(i+2), text(2, s))
				}
				acks := 3
				if state == "silent" {
					acks++ // A is in doubt and held for longer; its repeat is acked as well
				}
				wantHeld(w, carol, "A B C", acks)
			})
		})
	}
}

// TestHoldAsked: a text is held for as long as its sender repeats it.
func TestHoldAsked(t *testing.T) {
	holding(t, Options{}, func(w *world, _ *device) {
		carol := w.user(0, 3, win)
		carol.got()
		w.db.become("down")
		carol.send(2, text(2, "A"))
		for range 3 {
			time.Sleep(4 * time.Second)
			carol.send(2, text(2, "A"))
		}
		time.Sleep(4 * time.Second)
		carol.send(3, text(2, "B"))
		w.db.become("up")
		wantHeld(w, carol, "A B", 2)
	})
}

// TestHoldWithoutSender: a held text is stored although its sender has left.
func TestHoldWithoutSender(t *testing.T) {
	holding(t, Options{}, func(w *world, alice *device) {
		w.db.become("down")
		alice.send(2, text(2, "A"))
		alice.hangUp()
		w.db.become("up")
		wantHeld(w, alice, "A", 0)
	})
}

// TestRefusedRepeatGivenUp: a text of a Windows client is held in vain and forgotten. Its repeat
// comes into doubt, and the client leaves. When it may have given the text up before, the text
// is not stored any more, as in TestRepeatGivenUp.
func TestRefusedRepeatGivenUp(t *testing.T) {
	for _, c := range []struct {
		name string
		back time.Duration // after the repeat: a db_proxy takes texts again
		want string
	}{{"at once", 3 * time.Second, "A"}, {"later", 6 * time.Second, ""}} {
		t.Run(c.name, func(t *testing.T) {
			holding(t, Options{}, func(w *world, _ *device) {
				w.db.repeats = true
				carol := w.user(0, 3, win)
				carol.got()
				w.db.become("down")
				carol.send(2, text(2, "A"))
				time.Sleep(6 * time.Second)
				w.db.become("silent")
				carol.send(2, text(2, "A"))
				w.db.become("down")
				carol.hangUp()
				time.Sleep(c.back)
				w.db.become("up")
				wantHeld(w, carol, c.want, 0)
			})
		})
	}
}

// TestHeldRepeatKeepsItsPlace: A is held in vain, and B behind it. The repeat of A is held, too,
// and stored before B.
func TestHeldRepeatKeepsItsPlace(t *testing.T) {
	holding(t, Options{}, func(w *world, _ *device) {
		carol := w.user(0, 3, win)
		carol.got()
		w.db.become("down")
		carol.send(2, text(2, "A"))
		time.Sleep(4 * time.Second)
		carol.send(3, text(2, "B"))
		time.Sleep(2 * time.Second)
		carol.send(2, text(2, "A"))
		time.Sleep(time.Second)
		w.db.become("up")
		wantHeld(w, carol, "A B", 2)
	})
}
