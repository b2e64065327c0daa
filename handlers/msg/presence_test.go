package msg

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/proto/pb"
)

// updates is what a route server was told of clients, as "user client_type status".
func updates(got []received) []string {
	var list []string
	for _, g := range got {
		if m, ok := g.m.(*pb.IMUserStatusUpdate); ok {
			list = append(list, fmt.Sprint(m.GetUserId(), " ", uint32(m.GetClientType()), " ",
				m.GetUserStatus()))
		}
	}
	return list
}

// TestGoneWithoutRoute: a user whose PC left while no route server was connected is
// announced once one is: as a user that comes and leaves, since a route server that was
// restarted does not know of users that left before.
func TestGoneWithoutRoute(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		stays, goes, phone := w.user(0, 1, win), w.user(1, 2, mac), w.user(0, 3, ios)
		link := w.route.link
		link.Close(w.route.s, nil)
		w.route.take()
		goes.on(goes.Close)
		phone.on(phone.Close)
		time.Sleep(10 * time.Second)
		if got := w.route.take(); len(got) != 0 {
			t.Fatalf("told %v without a link", got)
		}
		if err := link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		if got := w.route.take(); len(got) != 2 { // role and list
			t.Fatalf("told %v at first", got)
		}
		time.Sleep(missedAfter - time.Second)
		synctest.Wait()
		if got := updates(w.route.take()); len(got) != 0 {
			t.Fatalf("told %v before the others are back", got)
		}
		time.Sleep(3 * time.Second)
		if got := updates(w.route.take()); !slices.Equal(got, []string{"2 2 1", "2 2 2"}) {
			t.Errorf("told %v", got)
		}
		// A route server is told nothing twice, and a user that is back is not told to be
		// gone.
		stays.on(stays.Close)
		if got := updates(w.route.take()); !slices.Equal(got, []string{"1 1 2"}) {
			t.Errorf("told %v", got)
		}
		back := w.user(0, 4, win)
		link.Close(w.route.s, nil)
		back.on(back.Close)
		if err := link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		w.user(1, 4, win)
		w.route.take()
		time.Sleep(10 * time.Second)
		if got := updates(w.route.take()); len(got) != 0 {
			t.Errorf("told %v of a user that is back", got)
		}
		if kept(t, w.h.peers, "missed") != 0 {
			t.Errorf("left over: %d", kept(t, w.h.peers, "missed"))
		}
	})
}
