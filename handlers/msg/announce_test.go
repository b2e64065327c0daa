package msg

import (
	"testing"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// given returns how many announcements of logins were taken back.
func (w *world) given() (n int) {
	for _, r := range w.route.take() {
		if m, ok := r.m.(*pb.IMUserStatusUpdate); ok && m.GetComes() {
			n++
		}
	}
	return n
}

// result returns the result of a login, and fails without an answer.
func (d *device) result() pb.ResultType {
	d.w.t.Helper()
	got := d.got()
	if len(got) == 0 {
		d.w.t.Fatal("the login is not answered")
	}
	res, _ := got[0].m.(*pb.IMLoginRes)
	return res.GetResultCode()
}

// TestLoginWaitsForItsAnnouncement: with a mesh a session begins when the other message servers can
// know of it. Until then its client gets nothing.
func TestLoginWaitsForItsAnnouncement(t *testing.T) {
	inWorld(t, Options{Announces: true}, func(w *world) {
		bob := w.user(1, 2, win)
		w.given()
		w.route.hold = true
		d := w.connect(0)
		d.send(1, loginReq(1, win))
		d.want()
		q := w.route.questions[len(w.route.questions)-1]
		if !q.HasComes() || q.GetComes() != win || q.GetUserIdList()[0] != 1 {
			t.Errorf("the announcement is %v", q)
		}
		bob.send(3, text(1, "in the history before the client reads it"))
		bob.got()
		if w.h.online.Count() != 1 {
			t.Error("the session has begun")
		}
		w.route.letGo()
		d.want(pb.CmdLoginRes)
		if n := w.given(); n != 0 {
			t.Errorf("%d announcements were taken back", n)
		}
	})
}

// TestLoginThatCannotBeAnnounced: it ends as without a route server, and is made when the mesh can
// announce it.
func TestLoginThatCannotBeAnnounced(t *testing.T) {
	inWorld(t, Options{Announces: true}, func(w *world) {
		w.route.lost = 1
		d := w.connect(0)
		d.send(1, loginReq(1, win))
		if code := d.result(); code != pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER {
			t.Errorf("the answer is %v", code)
		}
		w.route.withdrawn.Store(true)
		d = w.connect(0)
		d.send(1, loginReq(1, win))
		d.want() // it waits
		w.route.withdrawn.Store(false)
		time.Sleep(2 * session.TickInterval)
		if code := d.result(); code != 0 {
			t.Errorf("when the mesh is back, the answer is %v", code)
		}
	})
}

// TestLoginAnnouncedInVain: an announcement is taken back when its client is gone, or has a rival
// on another message server that was first.
func TestLoginAnnouncedInVain(t *testing.T) {
	inWorld(t, Options{Announces: true, Policy: KeepFirst}, func(w *world) {
		w.route.hold = true
		d := w.connect(0)
		d.send(1, loginReq(1, win))
		d.hangUp()
		w.route.letGo()
		if n := w.given(); n != 1 || w.h.online.Count() != 0 {
			t.Errorf("taken back %d times", n)
		}
		w.route.elsewhere = map[uint32]bool{1: true}
		d = w.connect(0)
		d.send(1, loginReq(1, win))
		if code := d.result(); code != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
			t.Errorf("the answer is %v", code)
		}
		if n := w.given(); n != 1 {
			t.Errorf("with a rival, taken back %d times", n)
		}
		w.user(0, 2, win)
		d = w.connect(1)
		d.send(1, loginReq(2, win)) // the rival is here
		if code := d.result(); code == 0 || w.given() != 1 {
			t.Errorf("the answer is %v", code)
		}
	})
}
