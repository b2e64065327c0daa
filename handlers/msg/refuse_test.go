package msg

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// tryFrom connects from an address and tries a password. It returns the connection.
func (w *world) tryFrom(loop int, addr string, user uint32, password string) *device {
	d := w.connectFrom(loop, netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
	m := loginReq(user, win)
	m.SetPassword(password)
	d.send(1, m)
	return d
}

// answeredAfter waits for the answer to a login and returns how long it took.
func (d *device) answeredAfter() (time.Duration, pb.ResultType) {
	d.w.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		for _, f := range d.got() {
			if res, ok := f.m.(*pb.IMLoginRes); ok {
				return time.Since(start).Round(time.Second), res.GetResultCode()
			}
		}
		if time.Since(start) > time.Minute {
			d.w.t.Fatal("no answer")
		}
	}
}

// TestRefusedLoginsWait: each refusal of an address and name is answered later than the
// one before, up to five seconds, whatever the login deadline. Other addresses and names
// are not slowed, nor is the right password, which also forgets the refusals. So does a
// quiet minute.
func TestRefusedLoginsWait(t *testing.T) {
	inWorld(t, Options{LoginDeadline: time.Second}, func(w *world) {
		wait := func(addr string, user uint32, password string, want time.Duration) {
			t.Helper()
			d := w.tryFrom(int(want/time.Second)%2, addr, user, password)
			took, code := d.answeredAfter()
			if in := code == 0; took != want*time.Second || in != (password == "right") ||
				in == d.isClosed() {
				t.Fatalf("answer %v after %v, closed %v, want it after %d s", code, took,
					d.isClosed(), want)
			}
		}
		for _, want := range []time.Duration{0, 1, 2, 3, 4, 5, 5} {
			wait("10.0.0.1", 1, "wrong", want)
		}
		wait("10.0.0.2", 1, "wrong", 0)
		wait("10.0.0.1", 2, "wrong", 0)
		time.Sleep(refusedMemory - time.Second)
		wait("10.0.0.1", 1, "wrong", 5)
		wait("10.0.0.1", 1, "right", 0)
		for _, want := range []time.Duration{0, 1} {
			wait("10.0.0.1", 1, "wrong", want)
		}
		time.Sleep(refusedMemory)
		wait("10.0.0.1", 1, "wrong", 0)
	})
}

// TestRefusedLoginGone: a client that goes while its answer waits is forgotten.
func TestRefusedLoginGone(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.tryFrom(0, "10.0.0.1", 1, "wrong")
		d := w.tryFrom(0, "10.0.0.1", 1, "wrong")
		if n := d.entries(); n != 3 {
			t.Fatalf("%d entries of a login that waits", n)
		}
		d.hangUp()
		if d.entries() != 0 {
			t.Error("it is still there")
		}
		time.Sleep(2 * time.Second)
		d.want()
	})
}

// TestLoginsGoOnAfterAnOutage: logins that wait because a server is missing, or because
// db_proxy cannot check them, are checked as soon as that is over. Those whose password was
// wrong still wait.
func TestLoginsGoOnAfterAnOutage(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(db *dbStand, out bool)
		most time.Duration // the longest time until the logins go on
	}{
		{"no db_proxy", func(db *dbStand, out bool) { db.down = out }, 150 * time.Millisecond},
		{"db_proxy has no store", func(db *dbStand, out bool) { db.broken = out },
			500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				for range 4 {
					w.tryFrom(0, "10.0.0.1", 2, "wrong").answeredAfter()
				}
				guess := w.tryFrom(0, "10.0.0.1", 2, "wrong")
				guess.on(func() { c.set(w.db, true) })
				for i := range 4 {
					took, code := w.tryFrom(0, "10.0.0.1", 1, "right").answeredAfter()
					if code != pb.ResultType_REFUSE_REASON_NO_DB_SERVER ||
						took != time.Duration(i)*time.Second {
						t.Fatalf("code %v after %v, want it after %d s", code, took, i)
					}
				}
				d, second := w.tryFrom(0, "10.0.0.1", 1, "right"),
					w.tryFrom(0, "10.0.0.1", 3, "right")
				time.Sleep(time.Second)
				d.want()
				second.want(pb.CmdLoginRes) // its first refusal
				second = w.tryFrom(0, "10.0.0.1", 3, "right")
				guess.on(func() { c.set(w.db, false) })
				time.Sleep(c.most)
				for _, d := range []*device{d, second} {
					res := d.want(pb.CmdLoginRes)[0].m.(*pb.IMLoginRes)
					if res.GetResultCode() != 0 {
						t.Fatalf("answer %v", res)
					}
				}
				guess.answeredAfter()
			})
		})
	}
}

// TestLongLoginsStayHere: a name or a password that no user can have is refused like a wrong
// one, and no db_proxy is asked.
func TestLongLoginsStayHere(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		asked := 0
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.IMValidateReq); ok {
				asked++
			}
			return nil, nil
		}
		for i, long := range []struct{ name, password int }{{129, 5}, {60_000, 5}, {1, 1025}} {
			d := w.connect(0)
			m := loginReq(1, win)
			m.SetUserName(strings.Repeat("b", long.name))
			m.SetPassword(strings.Repeat("x", long.password))
			d.send(1, m)
			_, code := d.answeredAfter()
			if code != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED || asked != 0 {
				t.Errorf("login %d: answer %v, db_proxy asked %d times", i, code, asked)
			}
		}
		w.user(0, 1, win)
		if asked != 1 {
			t.Errorf("db_proxy asked %d times for a right login", asked)
		}
	})
}
