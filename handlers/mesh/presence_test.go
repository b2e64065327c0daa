package mesh

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// notes returns the changes of users that a node got as text, and forgets everything.
func notes(n *node) []string { return told(n.all()) }

// told returns the changes of users in messages, as text.
func told(got []pb.Message) (list []string) {
	for _, m := range got {
		if m, ok := m.(*pb.IMUserChangesNotify); ok {
			for _, c := range m.GetChanges() {
				list = append(list, asText(c))
			}
		}
	}
	return list
}

func asText(c *pb.UserChange) string {
	what := "offline"
	switch {
	case c.HasPcOnline() && c.GetPcOnline():
		what = "pc 1"
	case c.HasPcOnline():
		what = "pc 0"
	case c.HasSignInfo():
		what = "sign " + c.GetSignInfo()
	case c.HasAvatarUrl():
		what = "avatar " + c.GetAvatarUrl()
	case c.GetStatus() == on:
		what = "online"
	}
	return fmt.Sprintf("%d %s", c.GetUserId(), what)
}

// TestPresence: all message servers get the notifies of package handlers/route.
func TestPresence(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		var pc, phone, other *login
		for _, step := range []struct {
			what string
			do   func()
			want []string
		}{
			{"a PC comes", func() { pc = a.login(1, windows) }, []string{"1 pc 1", "1 online"}},
			{"a phone comes elsewhere", func() { phone = b.login(1, android) },
				[]string{"1 pc 1"}},
			{"the PC moves", func() { other = b.login(1, windows) },
				[]string{"1 pc 1", "1 online"}},
			{"the PC leaves", func() { b.logout(other) }, []string{"1 pc 0", "1 offline"}},
			{"the phone leaves", func() { b.logout(phone) }, nil},
			{"the PC comes back", func() { pc = a.login(1, windows) },
				[]string{"1 pc 1", "1 online"}},
			{"the last PC leaves", func() { a.logout(pc) }, []string{"1 offline"}},
		} {
			step.do()
			settle()
			for _, n := range nodes {
				if got := notes(n); !slices.Equal(got, step.want) {
					t.Errorf("%s: %s got %q, want %q", step.what, n.name, got, step.want)
				}
			}
		}
	}, "a", "b", "c")
}

// TestUsersOfAnEndedNode: the users of a message server that is gone go offline on the others,
// unless they are elsewhere as well.
func TestUsersOfAnEndedNode(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		b.login(1, windows)
		b.login(2, windows)
		b.login(3, windows)
		a.login(3, android)
		settle()
		notes(a)
		notes(d)
		b.stop(true)
		a.login(1, windows) // before the lease of b ends
		settle()
		if got := notes(a); !slices.Equal(got, []string{"1 pc 1", "1 online"}) {
			t.Errorf("before the end of the lease a got %q", got)
		}
		b.expire()
		settle()
		got := notes(a)
		slices.Sort(got)
		if want := []string{"2 offline", "3 offline", "3 pc 0"}; !slices.Equal(got, want) {
			t.Errorf("a got %q, want %q", got, want)
		}
		if users := c.store.Users(); !slices.Equal(users, []uint32{1, 3}) {
			t.Errorf("in the store are %v", users)
		}
		if got := notes(d); !slices.Contains(got, "2 offline") ||
			slices.Contains(got, "1 offline") {
			t.Errorf("d got %q", got)
		}
	}, "a", "b", "d")
}

// TestEndedNodeAndStoreAway: the users are looked at when the store works again.
func TestEndedNodeAndStoreAway(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(1, windows)
		settle()
		notes(a)
		c.setHook(func(string, whereaboutstest.Operation, bool) error { return errStoreAway })
		b.stop(true)
		b.expire()
		time.Sleep(10 * time.Second)
		if got := notes(a); len(got) > 0 {
			t.Errorf("while the store fails a got %q", got)
		}
		c.setHook(nil)
		settle()
		if got := notes(a); !slices.Equal(got, []string{"1 offline"}) {
			t.Errorf("a got %q", got)
		}
	}, "a", "b")
}

// TestOldNotify: a notify that arrives after a later one is dropped.
func TestOldNotify(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a := nodes[0]
		a.mesh.mu.Lock()
		a.mesh.status.isNews(subject{1, statusChange}, 8)
		a.mesh.status.isNews(subject{1, pcChange}, 8)
		a.mesh.mu.Unlock()
		link := (&cluster{}).fromMesh(a, "b")
		for _, version := range []uint64{7, 8, 9} {
			status, pc := statusOfUser(1, on), pcOfUser(1, version == 9)
			status.SetVersion(version)
			pc.SetVersion(version)
			a.mesh.Servers().Message(link, 0, pb.IMUserChangesNotify_builder{
				Changes: []*pb.UserChange{status, pc}}.Build())
		}
		settle()
		if got := notes(a); !slices.Equal(got, []string{"1 online", "1 pc 1"}) {
			t.Errorf("a got %q", got)
		}
	}, "a")
}

// TestQuestions: the message server asks whether users are online.
func TestQuestions(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		b.login(2, windows)
		b.login(3, android)
		settle()
		b.send(pb.IMUserStatusUpdate_builder{UserStatus: proto.Uint32(uint32(on)),
			UserId: proto.Uint32(3), ClientType: android.Enum(), Acks: proto.Bool(true)}.Build())
		settle()
		anyScope, acks := pb.DeviceScope_DEVICE_SCOPE_ANY, pb.DeviceScope_DEVICE_SCOPE_ACKS
		for _, c := range []struct {
			what string
			req  *pb.IMUsersStatReq
			want []bool
		}{
			{"a PC", pb.IMUsersStatReq_builder{}.Build(), []bool{true, true, false, false}},
			{"any device", pb.IMUsersStatReq_builder{Scope: anyScope.Enum()}.Build(),
				[]bool{true, true, true, false}},
			{"acks", pb.IMUsersStatReq_builder{Scope: acks.Enum()}.Build(),
				[]bool{false, false, true, false}},
			{"a phone elsewhere", pb.IMUsersStatReq_builder{SameClass: android.Enum(),
				Scope: anyScope.Enum()}.Build(), []bool{false, false, true, false}},
			{"a PC elsewhere", pb.IMUsersStatReq_builder{SameClass: windows.Enum()}.Build(),
				[]bool{false, true, false, false}},
		} {
			users := []uint32{1, 2, 3, 4}
			c.req.SetUserId(1)
			c.req.SetUserIdList(users)
			answered := make(chan *pb.IMUsersStatRsp, 1)
			a.pipe.Call(nil, 0, 0, c.req, func(rsp pb.Message, err error) {
				stat, _ := rsp.(*pb.IMUsersStatRsp)
				answered <- stat
			})
			rsp := <-answered
			for i, u := range users {
				if rsp.IsOnline(u) != c.want[i] {
					t.Errorf("%s: user %d is online: %v", c.what, u, rsp.IsOnline(u))
				}
			}
		}
	}, "a", "b")
}

// TestFirstListIsNoLoss: a message server has a user before the list of message servers has the
// server. When it is listed, this is no news: nothing is announced or sent again.
func TestFirstListIsNoLoss(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		a.login(1, windows)
		c.hides = "b"
		b := c.start("b")
		b.login(2, windows)
		settle()
		nodes[1].stop(false)
		nodes[1].expire() // makes another list without b
		time.Sleep(2 * outgoing.RecentLasts)
		if got := notes(a); !slices.Contains(got, "2 online") {
			t.Errorf("a got %q", got)
		}
		b.all()
		a.all()
		c.hides = ""
		c.publish()
		time.Sleep(2 * outgoing.RecentLasts)
		for _, n := range []*node{a, b} {
			if got := n.all(); len(got) > 0 {
				t.Errorf("%s got %v", n.name, got)
			}
		}
		c.hides = "b" // the registration ends
		c.publish()
		time.Sleep(time.Second)
		b.all()
		c.hides = ""
		c.publish()
		time.Sleep(2 * outgoing.RecentLasts)
		if got := notes(b); !slices.Contains(got, "2 online") {
			t.Errorf("b got %q after it was gone from the list", got)
		}
	}, "a", "other")
}
