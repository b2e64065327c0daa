package msg

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// kicksOf are the kicks among what a route server was told, with their ages in seconds.
func kicksOf(got []received) (list []string) {
	for _, r := range got {
		if m, ok := r.m.(*pb.IMServerKickUser); ok {
			age := "at once"
			if m.HasAge() {
				age = fmt.Sprint(m.GetAge()/1000, "s")
			}
			list = append(list, fmt.Sprint(m.GetUserId(), " ", m.GetClientType(), " ",
				m.GetReason(), " ", age))
		}
	}
	return list
}

// wantKicks checks the kicks that the route server was told since the last call.
func (w *world) wantKicks(what string, want ...string) {
	w.t.Helper()
	if got := kicksOf(w.route.take()); !slices.Equal(got, want) {
		w.t.Fatalf("%s: kicks %q, want %q", what, got, want)
	}
}

// TestKickIsSentLate: a kick that the route server did not get is sent when it is connected
// again, and once more when the other message servers are. It says how old it is.
func TestKickIsSentLate(t *testing.T) {
	const pc1 = "1 CLIENT_TYPE_WINDOWS 1 "
	inWorld(t, Options{}, func(w *world) {
		time.Sleep(10 * time.Second)
		w.route.take()
		w.route.setFull(true)
		w.user(0, 1, win)
		gone := w.user(1, 2, win)
		w.wantKicks("the link is full")
		time.Sleep(4500 * time.Millisecond)
		gone.hangUp()
		w.route.setFull(false)
		time.Sleep(time.Second)
		w.wantKicks("it is not any more", pc1+"5s")

		time.Sleep(20 * time.Second)
		w.wantKicks("nothing happens")
		w.user(0, 3, ios)
		w.wantKicks("a login", "3 CLIENT_TYPE_IOS 1 at once")
		w.route.link.Close(w.route.s, nil) // perhaps before the kick was written
		time.Sleep(10 * time.Second)
		if err := w.route.link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.wantKicks("the link opened again", pc1+"36s", "3 CLIENT_TYPE_IOS 1 10s")
		time.Sleep(3 * time.Second)
		w.wantKicks("the other servers are back", pc1+"39s", "3 CLIENT_TYPE_IOS 1 13s")
		w.route.link.Close(w.route.s, nil)
		time.Sleep(time.Minute)
		if err := w.route.link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.route.take()
		time.Sleep(time.Minute)
		w.route.link.Close(w.route.s, nil)
		if err := w.route.link.Open(w.route.s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.wantKicks("all have arrived")
	})
}

// TestLateKickSparesLaterLogins: a kick that was sent late ends the sessions of logins
// before it, and none after it.
func TestLateKickSparesLaterLogins(t *testing.T) {
	inWorld(t, Options{Policy: OneClient}, func(w *world) {
		kick := func(user, age uint32) {
			m := &pb.IMServerKickUser{}
			m.SetUserId(user)
			m.SetClientType(win)
			m.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
			m.SetAge(age)
			w.route.link.Message(w.route.s, 0, m)
		}
		older, newer := w.user(0, 1, win), w.user(1, 2, ios)
		time.Sleep(5 * time.Second)
		kick(1, 4000)
		older.want(pb.CmdKickUser)
		kick(2, 6000)
		newer.want()
		if len(w.h.online.Of(2)) != 1 {
			t.Fatal("the later login is not online")
		}
	})
}

// TestKickIsSentAgainToAServerThatWasAway: when the route server says that another message
// server had no link, the kicks of that time are sent again, of clients that are still here.
func TestKickIsSentAgainToAServerThatWasAway(t *testing.T) {
	const pc1, ios2 = "1 CLIENT_TYPE_WINDOWS 1 ", "2 CLIENT_TYPE_IOS 1 "
	away := func(w *world, how time.Duration) {
		m := hello()
		m.SetMissed(uint32(how.Milliseconds()))
		w.route.link.Message(w.route.s, 0, m)
	}
	for policy, again := range map[DevicePolicy]bool{DeviceClass: true, OneClient: true,
		Unlimited: false, KeepFirst: false} {
		t.Run(string(policy), func(t *testing.T) {
			inWorld(t, Options{Policy: policy}, func(w *world) {
				w.user(0, 1, win)
				time.Sleep(30 * time.Second)
				w.user(1, 2, ios)
				gone := w.user(0, 3, win)
				time.Sleep(time.Minute)
				gone.hangUp()
				w.route.take()
				var older, both []string
				if again {
					older = []string{ios2 + "60s"}
					both = []string{pc1 + "100s", ios2 + "70s"}
				}
				away(w, 2*time.Second)
				w.wantKicks("away for 2 s")
				away(w, 40*time.Second)
				w.wantKicks("away for 40 s", older...)
				time.Sleep(10 * time.Second)
				away(w, time.Hour)
				got := kicksOf(w.route.take())
				slices.Sort(got)
				if !slices.Equal(got, both) {
					t.Errorf("away for an hour: kicks %q, want %q", got, both)
				}
				time.Sleep(10 * time.Second)
				w.wantKicks("later")
			})
		})
	}
}
