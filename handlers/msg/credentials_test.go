package msg

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// credentialStand answers as a db_proxy that knows credentials.
type credentialStand struct {
	now     string // credential of all users
	changed []*pb.Credential
	more    int // pages before the last one
	down    bool
	asked   []string // since and after of the requests
	checks  int      // logins
}

func (c *credentialStand) answer(db *dbStand) func(pb.Message) (pb.Message, error) {
	return func(req pb.Message) (pb.Message, error) {
		switch m := req.(type) {
		case *pb.IMValidateReq:
			c.checks++
			rsp := db.validate(m)
			if rsp.GetResultCode() == 0 {
				rsp.SetCredential([]byte(c.now))
			}
			return rsp, nil
		case *pb.IMCredentialsReq:
			c.asked = append(c.asked, fmt.Sprint(m.GetSince(), " ", m.GetAfter()))
			if c.down {
				return nil, im.Errorf(im.Unavailable, "away")
			}
			rsp := &pb.IMCredentialsRsp{}
			rsp.SetNextSince(100)
			if m.GetSince() != 0 {
				rsp.SetList(c.changed)
			}
			if c.more > 0 {
				c.more--
				rsp.SetMore(true)
				rsp.SetNextAfter(7)
			}
			return rsp, nil
		}
		return nil, nil
	}
}

func credential(user uint32, status im.UserStatus, digest string) *pb.Credential {
	c := &pb.Credential{}
	c.SetUserId(user)
	c.SetStatus(uint32(status))
	c.SetCredential([]byte(digest))
	return c
}

// change makes the stand answer with changed users.
func (w *world) change(st *credentialStand, list ...*pb.Credential) {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	st.changed = list
}

func inCredentialWorld(t *testing.T, f func(w *world, st *credentialStand)) {
	inWorld(t, Options{}, func(w *world) {
		st := &credentialStand{now: "first"}
		w.db.also = st.answer(w.db)
		f(w, st)
	})
}

// TestChangedUsersAreDisconnected: all clients of a user that was disabled, or that has
// another password, are told so and disconnected. Others stay.
func TestChangedUsersAreDisconnected(t *testing.T) {
	for reason, changed := range map[string]*pb.Credential{
		"disabled": credential(1, im.StatusDeparted, "first"),
		"password": credential(1, im.StatusOK, "second"),
	} {
		t.Run(reason, func(t *testing.T) {
			inCredentialWorld(t, func(w *world, st *credentialStand) {
				pc, phone, bob := w.user(0, 1, win), w.user(1, 1, ios), w.user(1, 2, win)
				time.Sleep(10 * time.Second)
				pc.want()
				w.toldOf(1)
				w.change(st, changed, credential(2, im.StatusOK, "first"),
					credential(3, im.StatusDeparted, "x"))
				time.Sleep(3 * time.Second)
				for _, d := range []*device{pc, phone} {
					got := d.got()
					k, ok := got[0].m.(*pb.IMKickUser)
					if len(got) != 1 || !ok || k.GetText() == "" ||
						k.GetKickReason() != pb.KickReasonType_KICK_REASON_DUPLICATE_USER {
						t.Fatalf("got %v", got)
					}
				}
				if n := w.counted("kicks_total", reason); n != 2 {
					t.Errorf("%v kicks counted", n)
				}
				pc.send(7, text(2, "too late"))
				pc.want()
				bob.want()
				time.Sleep(2 * time.Second)
				if !pc.isClosed() || !phone.isClosed() || bob.isClosed() {
					t.Error("not closed, or the wrong one")
				}
				if told := w.toldOf(1); len(told) != 3 {
					t.Errorf("told %q", told)
				}
				// A login that is checked against the new password stays.
				w.change(st, credential(1, im.StatusOK, "second"))
				w.db.mu.Lock()
				st.now = "second"
				w.db.mu.Unlock()
				again := w.user(0, 1, win)
				time.Sleep(10 * time.Second)
				again.want()
			})
		})
	}
}

// TestMovedPasswordDisconnectsNobody: a row that was moved from md5 to another form keeps the
// sessions from before. A later change of the password ends them, and so does a change to a
// password that was not moved.
func TestMovedPasswordDisconnectsNobody(t *testing.T) {
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		st.now = "8 bytes "
		alice, bob := w.user(0, 1, win), w.user(1, 2, win)
		time.Sleep(10 * time.Second)
		moved := func(user uint32, digest string) *pb.Credential {
			c := credential(user, im.StatusOK, digest)
			c.SetMoved(true)
			return c
		}
		w.change(st, moved(1, "digest of argon2"), moved(2, "the one of bob.."))
		time.Sleep(10 * time.Second)
		alice.want()
		bob.want()
		// Another digest of 16 bytes is another password, whether it was moved or not.
		w.change(st, moved(1, "another password"), moved(2, "the one of bob.."))
		time.Sleep(3 * time.Second)
		if got := alice.got(); len(got) != 1 || w.counted("kicks_total", "password") != 1 {
			t.Errorf("after a change of the password: %v", got)
		}
		w.change(st, credential(2, im.StatusOK, "set, not moved.."))
		time.Sleep(3 * time.Second)
		if got := bob.got(); len(got) != 1 || w.counted("kicks_total", "password") != 2 {
			t.Errorf("after a password was set: %v", got)
		}
	})
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		st.now = "8 bytes "
		alice := w.user(0, 1, win)
		time.Sleep(10 * time.Second)
		w.change(st, credential(1, im.StatusOK, "set, not moved.."))
		time.Sleep(3 * time.Second)
		if got := alice.got(); len(got) != 1 || w.counted("kicks_total", "password") != 1 {
			t.Errorf("after a password was set in another form: %v", got)
		}
	})
}

// TestDisabledWithoutARouteServer: a user is disconnected while the server has no link to a
// route server, which hears of it afterwards.
func TestDisabledWithoutARouteServer(t *testing.T) {
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		phone := w.user(1, 1, ios)
		w.route.link.Close(w.route.s, nil)
		time.Sleep(time.Minute)
		w.change(st, credential(1, im.StatusDeparted, "first"))
		time.Sleep(5 * time.Second)
		if !phone.isClosed() || w.counted("kicks_total", "disabled") != 1 {
			t.Error("the disabled user is not disconnected")
		}
		w.route.take()
		if err := w.route.link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		list := w.route.take()[1].m.(*pb.IMOnlineUserInfo).GetUserStatList()
		if len(list) != 0 {
			t.Errorf("the route server is told of %v", list)
		}
	})
}

// TestOlderAnswerDisconnectsNobody: an answer may be older than the check of a login.
func TestOlderAnswerDisconnectsNobody(t *testing.T) {
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		w.user(0, 2, win)
		time.Sleep(5 * time.Second)
		w.change(st, credential(1, im.StatusOK, "older"))
		a := w.user(1, 1, win)
		time.Sleep(1900 * time.Millisecond)
		w.change(st)
		time.Sleep(10 * time.Second)
		a.want()
	})
}

// TestCredentialRequests: nothing is asked of a db_proxy that sent no credential. Then
// the requests follow the answers, in pages, and one that failed is repeated.
func TestCredentialRequests(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		w.user(0, 1, win)
		time.Sleep(10 * time.Second)
		for _, m := range w.db.asked {
			if _, ok := m.(*pb.IMCredentialsReq); ok {
				t.Fatal("asked")
			}
		}
	})
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		w.user(0, 1, win)
		take := func() []string {
			w.db.mu.Lock()
			defer w.db.mu.Unlock()
			asked := st.asked
			st.asked = nil
			return asked
		}
		set := func(f func()) {
			w.db.mu.Lock()
			defer w.db.mu.Unlock()
			f()
		}
		time.Sleep(3500 * time.Millisecond) // requests leave at whole seconds
		if got := fmt.Sprint(take()); got != "[0 0 100 0]" {
			t.Errorf("asked %s", got)
		}
		set(func() { st.more = 2 })
		time.Sleep(2 * time.Second)
		if got := fmt.Sprint(take()); got != "[100 0 100 7 100 7]" {
			t.Errorf("asked for pages %s", got)
		}
		set(func() { st.down = true })
		time.Sleep(4 * time.Second)
		if got := fmt.Sprint(take()); got != "[100 0 100 0]" {
			t.Errorf("asked while away %s", got)
		}
	})
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		st.down = true
		w.user(0, 1, win)
		time.Sleep(40 * time.Second)
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		if last := st.asked[len(st.asked)-1]; last != "1 0" {
			t.Errorf("after a first answer that came late: asked %s", last)
		}
	})
}

// TestLastingLackOfCredentialsIsLoggedOnceAMinute: requests for changed users are repeated every
// two seconds, and a db_proxy that is away for hours does not fill the log.
func TestLastingLackOfCredentialsIsLoggedOnceAMinute(t *testing.T) {
	var log strings.Builder
	opt := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	inWorld(t, opt, func(w *world) {
		st := &credentialStand{now: "first", down: true}
		w.db.also = st.answer(w.db)
		w.user(0, 1, win)
		time.Sleep(90 * time.Second)
	})
	if n := strings.Count(log.String(), "changed users not read"); n != 2 {
		t.Errorf("logged %d times in 90 s:\n%s", n, log.String())
	}
}

// TestWaitingLoginIsCheckedAgain: the answer with a change may come while a login waits
// for its turn. So a login that waited long is checked again.
func TestWaitingLoginIsCheckedAgain(t *testing.T) {
	inCredentialWorld(t, func(w *world, st *credentialStand) {
		for range 11 { // each kicks the one before, and has its turn 5 s later
			w.loginFrom(0, "10.0.0.1", win)
		}
		checks := func() int {
			w.db.mu.Lock()
			defer w.db.mu.Unlock()
			return st.checks
		}
		time.Sleep(25 * time.Second)
		if n := checks(); n != 11 {
			t.Errorf("%d checks of 11 logins", n)
		}
		time.Sleep(25 * time.Second)
		if n := checks(); n == 11 {
			t.Error("no login that waited longer than 30 s was checked again")
		}
	})
}
