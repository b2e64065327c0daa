package httpapi

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

const confirms = resends | pb.ServerFeature_SERVER_FEATURE_KICKS

// kickRig is a kick of user 7 with the route servers that get it.
type kickRig struct {
	*testing.T
	r     *Routes
	peer  *routePeer // takes what is sent to any route server
	ended chan error
}

// inKick runs a test on a clock of its own.
func inKick(t *testing.T, test func(k *kickRig)) {
	synctest.Test(t, func(t *testing.T) {
		test(&kickRig{T: t, r: NewRoutes(time.Now, nil), peer: &routePeer{},
			ended: make(chan error, 1)})
	})
}

// open opens a link to a route server with these features.
func (k *kickRig) open(features pb.ServerFeature) (*session.Link, *routeEnd) {
	end := &routeEnd{}
	link := session.NewLink(session.NextID(), "route", end)
	if err := k.r.Open(link); err != nil {
		k.Fatal(err)
	}
	if features != 0 {
		k.r.Message(link, 0, roleOf(features, 0))
	}
	end.take()
	return link, end
}

// kick calls kick, which may take 10 s.
func (k *kickRig) kick() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		k.ended <- k.r.Kick(ctx, k.peer, 7)
	}()
	synctest.Wait()
}

// want checks whether the call has been answered.
func (k *kickRig) want(what string, answered bool) {
	k.Helper()
	synctest.Wait()
	select {
	case err := <-k.ended:
		if !answered || err != nil {
			k.Errorf("%s: answered with %v", what, err)
		}
	default:
		if answered {
			k.Errorf("%s: not answered", what)
		}
	}
}

// numbered returns the kicks that were sent, and checks their age and that they have numbers.
func (k *kickRig) numbered(end *routeEnd, age uint32) []*pb.IMServerKickUser {
	k.Helper()
	var kicks []*pb.IMServerKickUser
	for _, m := range end.take() {
		kicks = append(kicks, m.(*pb.IMServerKickUser))
	}
	if len(kicks) != 2 || !kicks[0].HasNumber() || kicks[0].HasAge() != (age > 0) ||
		kicks[0].GetAge() != age || kicks[0].GetNumber() == kicks[1].GetNumber() ||
		kicks[0].GetClientType().SameClass(kicks[1].GetClientType()) {
		k.Fatalf("sent %v, want two numbered kicks of age %d", kicks, age)
	}
	return kicks
}

// TestKickConfirmed: a call is answered when a route server has confirmed the kicks of both
// device classes.
func TestKickConfirmed(t *testing.T) {
	inKick(t, func(k *kickRig) {
		_, cpp := k.open(0)
		link, ours := k.open(confirms)
		k.kick()
		kicks := k.numbered(ours, 0)
		cpp.wantSent(t, "[]")
		if n := len(k.peer.take()); n != 0 {
			t.Errorf("%d kicks to any route server", n)
		}
		time.Sleep(5 * time.Second)
		other := proto.CloneOf(kicks[0])
		other.SetNumber(99)
		k.r.Message(link, 0, other)
		other.ClearNumber() // of another HTTP server
		k.r.Message(link, 0, other)
		k.r.Message(link, 0, kicks[1])
		k.r.Message(link, 0, kicks[1])
		k.want("one is confirmed", false)
		k.r.Message(link, 0, kicks[0])
		k.want("both are confirmed", true)
	})
}

// TestKickLinkLost: when the route server is lost before it confirms, the next one gets the
// kicks with their age. Without one the call fails.
func TestKickLinkLost(t *testing.T) {
	inKick(t, func(k *kickRig) {
		link, end := k.open(confirms)
		k.kick()
		k.numbered(end, 0)
		k.r.Close(link, nil)
		time.Sleep(1500 * time.Millisecond)
		k.want("without a route server", false)
		link, end = k.open(0)
		k.r.Message(link, 0, roleOf(confirms, 0))
		for _, m := range k.numbered(end, 1500) {
			k.r.Message(link, 0, m)
		}
		k.want("confirmed", true)

		k.kick()
		k.r.Close(link, nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := <-k.ended; im.KindOf(err) != im.Unavailable {
			t.Errorf("never confirmed: %v", err)
		}
	})
}

// TestKickUnconfirmed: an older route server of ours gets each kick once more, and the call
// waits for that. A C++ route server gets it once. One that has not said what it understands
// may be neither.
func TestKickUnconfirmed(t *testing.T) {
	inKick(t, func(k *kickRig) {
		older, end := k.open(resends)
		k.kick()
		if n := len(k.peer.take()); n != 2 {
			t.Errorf("%d kicks to any route server", n)
		}
		time.Sleep(999 * time.Millisecond)
		k.want("before the second kick", false)
		end.wantSent(t, "[]")
		time.Sleep(time.Millisecond)
		k.want("after the second kick", true)
		end.wantSent(t, "[kick 7 1000 kick 7 1000]")
		k.r.Close(older, nil)

		cpp, end := k.open(0)
		k.kick()
		time.Sleep(999 * time.Millisecond)
		k.want("it may still say that it confirms kicks", false)
		time.Sleep(time.Millisecond)
		k.want("it does not", true)
		k.kick()
		k.want("it never does", true)
		end.wantSent(t, "[]")
		k.r.Close(cpp, nil)

		link, end := k.open(0)
		k.kick()
		k.r.Message(link, 0, roleOf(confirms, 0))
		if got := fmt.Sprint(len(end.take())); got != "8" { // those of the last ten minutes
			t.Errorf("%s kicks", got)
		}
		time.Sleep(3 * time.Second)
		k.want("it will confirm", false)
		time.Sleep(10 * time.Second)
		<-k.ended
	})
}
