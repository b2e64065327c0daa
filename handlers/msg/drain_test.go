package msg

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// drains starts to drain the server. The function that it returns waits until the server is
// drained.
func (w *world) drains(ctx context.Context) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- w.h.Drain(ctx) }()
	synctest.Wait()
	return func() error { return <-done }
}

// wantEnd checks whether the server has ended the connection, in order: the client can read
// what was sent before.
func (d *device) wantEnd(want bool) {
	d.w.t.Helper()
	synctest.Wait()
	if got := d.ended.Load(); got != want {
		d.w.t.Fatalf("connection ended by the server: %v, want %v", got, want)
	}
}

// TestDrainEndsIdleConnections drains a server with connections that are idle, and with
// some that are not: a message or a query is in flight, or bytes have arrived that are not
// read. The busy ones are served until they are idle.
func TestDrainEndsIdleConnections(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		idle, late := w.user(0, 1, win), w.connect(1)
		writes, asks, sends := w.user(0, 2, win), w.user(1, 3, win), w.user(1, 4, win)
		w.db.hold = true
		writes.send(2, text(1, "before"))
		asks.send(2, pb.IMUnreadMsgCntReq_builder{UserId: proto.Uint32(3)}.Build())
		sends.unread.Store(20)
		wait := w.drains(context.Background())
		time.Sleep(2 * drainEvery)
		idle.wantEnd(true)
		late.wantEnd(true)
		if w.h.Online() != 3 {
			t.Errorf("%d users online, want the three that are busy", w.h.Online())
		}
		busy := []*device{writes, asks, sends}
		time.Sleep(acceptLooks * drainEvery / 2)
		for _, d := range busy {
			d.wantEnd(false)
		}
		writes.send(3, text(1, "meanwhile"))
		sends.send(2, text(1, "was on its way"))
		sends.unread.Store(0)
		time.Sleep(2 * drainEvery)
		w.db.letGo()
		time.Sleep(2 * drainEvery)
		writes.want(pb.CmdMsgDataAck, pb.CmdMsgDataAck)
		asks.want(pb.CmdUnreadMsgCntRsp)
		sends.want(pb.CmdMsgDataAck)
		for _, d := range busy {
			d.wantEnd(true)
			d.send(9, text(1, "after the end"))
			d.hangUp()
		}
		idle.hangUp()
		before := time.Now()
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		// late does not close its connection, and has two seconds to do so.
		if waited := time.Since(before); waited > 2*time.Second {
			t.Errorf("drained %v later", waited)
		}
		if len(w.db.stored) != 3 || w.h.Online() != 0 {
			t.Errorf("%d messages stored, %d users online", len(w.db.stored), w.h.Online())
		}
	})
}

// TestDrainRefusesInTheEnd drains a server with a client that always has a message in
// flight, and with one that sent a part of a frame. After a second no message of the first is
// accepted. Those in flight are stored and acked, and the connections end.
func TestDrainRefusesInTheEnd(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		writes, half := w.user(0, 1, win), w.user(0, 2, win)
		half.unread.Store(5)
		w.db.hold = true
		writes.send(2, text(2, "before"))
		wait := w.drains(context.Background())
		half.wantEnd(false)
		time.Sleep((acceptLooks + 1) * drainEvery)
		half.wantEnd(true)
		writes.send(3, text(2, "too late"))
		writes.wantEnd(false)
		w.db.letGo()
		time.Sleep(2 * drainEvery)
		writes.want(pb.CmdMsgDataAck)
		writes.wantEnd(true)
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		dropped := w.counted("dropped_total", "shutdown")
		if len(w.db.stored) != 1 || dropped != 1 {
			t.Errorf("%d messages stored, %v dropped", len(w.db.stored), dropped)
		}
	})
}

// TestDrainReleasesAcks drains a server while an ack waits for the device of its receiver,
// which is about to be disconnected.
func TestDrainReleasesAcks(t *testing.T) {
	inWorld(t, Options{AckWait: time.Minute}, func(w *world) {
		alice, bob := w.user(0, 1, mac), w.user(1, 2, ios)
		alice.send(2, text(2, "acknowledged"))
		bob.acks(asPeer, 1, 1, inSingle)
		if !waitsFor(alice, 3, 2) {
			t.Fatal("the ack does not wait for the device")
		}
		bob.unread.Store(20) // bob's connection stays open for now
		wait := w.drains(context.Background())
		time.Sleep(2 * drainEvery)
		alice.want(pb.CmdMsgDataAck)
		alice.wantEnd(true)
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDrainEndsWithItsContext drains a server whose db_proxy does not answer.
func TestDrainEndsWithItsContext(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		alice := w.user(0, 1, win)
		w.db.hold = true
		alice.send(2, text(2, "in flight"))
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if err := w.h.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drained: %v", err)
		}
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("drained for %v", took)
		}
		w.db.letGo()
	})
}

// TestReleaseKeepsAPace releases clients over ten seconds. Each second a tenth of them is
// disconnected, and the others are served. One that is busy is left to Drain.
func TestReleaseKeepsAPace(t *testing.T) {
	inWorld(t, Options{Ack: AckStored}, func(w *world) {
		const clients = 20 // on two loops
		var all []*device
		for i := range clients {
			all = append(all, w.user(i%2, uint32(1+i), win))
		}
		w.db.hold = true
		all[3].send(2, text(1, "before"))
		done := make(chan struct{})
		go func() {
			w.h.Release(context.Background(), 10*time.Second)
			close(done)
		}()
		time.Sleep(releaseEvery / 2) // between two steps
		for second := 1; second <= 9; second++ {
			time.Sleep(time.Second)
			if want := clients - second*clients/10; w.h.Online() != want {
				t.Errorf("%d users online after %d s, want %d", w.h.Online(), second, want)
			}
		}
		all[3].wantEnd(false)
		all[3].send(3, text(1, "meanwhile"))
		<-done
		if w.h.Online() != 1 || len(w.db.held) != 2 {
			t.Errorf("%d users online, %d messages in flight", w.h.Online(), len(w.db.held))
		}
		for _, d := range all {
			d.hangUp()
		}
		w.db.letGo()
	})
}

// TestReleaseOfNobody returns at once when no client is connected, and when it is told to end.
func TestReleaseOfNobody(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		before := time.Now()
		w.h.Release(context.Background(), time.Minute)
		w.user(0, 1, win)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.h.Release(ctx, time.Minute)
		if took := time.Since(before); took > 2*time.Second || w.h.Online() != 1 {
			t.Errorf("returned after %v, with %d users online", took, w.h.Online())
		}
	})
}

// TestDraining lets a server drain and serve again. Login servers hear that it is full, and
// new connections are closed. Those that are open stay until Release.
func TestDraining(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		alice := w.user(0, 1, win)
		w.login.take()
		for _, on := range []bool{true, false} {
			w.h.SetDraining(on)
			got := w.login.take()
			if len(got) != 1 || got[0].m.Command() != pb.CmdMsgServInfo ||
				(got[0].m.(*pb.IMMsgServInfo).GetMaxConnCnt() == 0) != on {
				t.Fatalf("draining %v: the login server got %v", on, got)
			}
			var err error
			alice.on(func() {
				s := alice.loop.AddClient(netip.AddrPort{}, &device{w: w, loop: alice.loop})
				err = w.h.Open(s)
				alice.loop.Remove(&s.Conn, nil)
			})
			if (err != nil) != on {
				t.Errorf("draining %v: a new connection: %v", on, err)
			}
			alice.wantEnd(false)
		}
	})
}

// TestReleaseSendsAcks releases a client whose text is stored, while its ack waits for the device
// of the receiver. It gets the ack before its connection ends.
func TestReleaseSendsAcks(t *testing.T) {
	inWorld(t, Options{AckWait: time.Minute}, func(w *world) {
		alice, bob := w.user(0, 1, mac), w.user(1, 2, ios)
		alice.send(2, text(2, "acknowledged"))
		bob.acks(asPeer, 1, 1, inSingle)
		if !waitsFor(alice, 3, 2) {
			t.Fatal("the ack does not wait for the device")
		}
		w.h.Release(context.Background(), time.Second)
		alice.want(pb.CmdMsgDataAck)
		alice.wantEnd(true)
		alice.hangUp()
		bob.hangUp()
	})
}
