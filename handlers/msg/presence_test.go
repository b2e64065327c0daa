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
		time.Sleep(time.Minute)
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
		// A route server is told nothing twice.
		time.Sleep(time.Minute)
		stays.on(stays.Close)
		if got := updates(w.route.take()); !slices.Equal(got, []string{"1 1 2"}) {
			t.Errorf("told %v", got)
		}
	})
}

// TestChangesOnADeadLinkAreToldAgain: a route server that is gone without a sign takes no
// change, and one that was restarted tells nobody of the users that are in the list. So what
// was told it within 35 s is told again, and again when that may be lost as well. A further
// client that comes and leaves makes a route server tell the status of the user.
func TestChangesOnADeadLinkAreToldAgain(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		old := w.user(0, 1, win)
		goes := w.user(0, 2, win)
		time.Sleep(time.Minute)
		w.user(1, 3, mac)
		w.user(1, 4, ios)
		goes.on(goes.Close)
		time.Sleep(30 * time.Second)
		old.on(old.Close)
		w.user(1, 1, mac) // back: clients are told that it is online
		again := []string{"1 2 1", "1 2 2", "2 1 1", "2 1 2", "3 2 1", "3 2 2"}
		for range 2 {
			w.route.link.Close(w.route.s, nil)
			w.route.take()
			if err := w.route.link.Open(w.route.s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(missedAfter - time.Second)
			if got := updates(w.route.take()); len(got) != 0 {
				t.Fatalf("told %v before the others are back", got)
			}
			time.Sleep(10 * time.Second)
			if got := updates(w.route.take()); !slices.Equal(got, again) {
				t.Errorf("told %q, want %q", got, again)
			}
		}
		time.Sleep(40 * time.Second)
		w.route.link.Close(w.route.s, nil)
		w.route.take()
		if err := w.route.link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := updates(w.route.take()); len(got) != 0 {
			t.Errorf("told %v of changes that had arrived", got)
		}
		if n := kept(t, w.h.peers, "statuses", "unheard"); n != 0 {
			t.Errorf("left over: %d", n)
		}
	})
}
