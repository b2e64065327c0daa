package mesh

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// TestLongCutOff: a message server is cut off from the store for longer than texts and kicks are
// kept. Of two logins the later one is left all the same.
func TestLongCutOff(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		first, other := b.login(1, windows), b.login(2, windows)
		settle()
		c.setHook(func(by string, _ whereaboutstest.Operation, _ bool) error {
			if by == "b" {
				return errStoreAway
			}
			return nil
		})
		b.expire()
		settle()
		second := a.login(1, windows)
		time.Sleep(10 * time.Minute)
		c.setHook(nil)
		c.mu.Lock()
		c.all["b"] = b
		c.mu.Unlock()
		c.publish()
		for range 5 {
			settle()
		}
		if b.state(first) != "kicked" || a.state(second) != "in" || b.state(other) != "in" {
			t.Errorf("the first is %s, the second %s, the other user %s", b.state(first),
				a.state(second), b.state(other))
		}
	}, "a", "b")
}

// TestStoreLossAndStatuses: a store that has lost everything is read before all message servers
// have written their users again, because one was told to, or because a link was lost. In the end
// nobody counts as offline.
func TestStoreLossAndStatuses(t *testing.T) {
	for _, cut := range []bool{false, true} {
		inCluster(t, func(c *cluster, nodes []*node) {
			a, b := nodes[0], nodes[1]
			a.login(1, windows)
			b.login(2, windows)
			settle()
			a.all()
			c.store.Lose()
			if cut {
				c.setCut("a", "b", true)
				settle()
				c.setCut("a", "b", false)
				settle()
			} else {
				a.mesh.Reassert()
			}
			settle()
			b.mesh.Reassert()
			settle()
			last := ""
			for _, text := range notes(a) {
				if text == "2 offline" || text == "2 online" {
					last = text
				}
			}
			if last == "2 offline" {
				t.Errorf("link lost: %v: a was told last that user 2 is offline", cut)
			}
		}, "a", "b")
	}
}

// TestOldListRemovesNobody: a message server that was cut off from the store has a list that lacks
// another one, which has registered again and written its users meanwhile. It leaves them.
func TestOldListRemovesNobody(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(2, windows)
		settle()
		b.expire() // a reads no list from now on
		settle()
		b.view.Update([]registry.Node{{Role: "msg", Name: "a", Epoch: a.epoch, Addr: "a"},
			{Role: "msg", Name: "b", Epoch: b.epoch, Addr: "b"}}, true)
		time.Sleep(10 * time.Second)
		a.send(text(1, 2, 1))
		settle()
		c.mu.Lock()
		c.all["b"] = b
		c.mu.Unlock()
		c.publish()
		settle()
		a.send(text(1, 2, 2))
		settle()
		if got := ids(take[*pb.MsgData](b)); !slices.Contains(got, 2) {
			t.Errorf("b got %v", got)
		}
	}, "a", "b")
}

// TestToldAgain: the news that a user is online was lost, and one client asked. When it is sent
// again, all clients are told.
func TestToldAgain(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		b.login(1, android)
		settle()
		c.setCut("a", "b", true)
		a.login(2, windows)
		for range 5 {
			settle()
		}
		wantOnline(t, b, 2)
		b.all()
		c.setCut("a", "b", false)
		settle()
		if got := notes(b); !slices.Contains(got, "2 online") {
			t.Errorf("b got %q", got)
		}
	}, "a", "b")
}

// wantOnline asks for a user, as a client does.
func wantOnline(t *testing.T, n *node, user uint32) {
	t.Helper()
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(1), UserIdList: []uint32{user}}.Build()
	n.pipe.Call(nil, 0, 0, req, func(rsp pb.Message, err error) {
		if stat, ok := rsp.(*pb.IMUsersStatRsp); err != nil || !ok || !stat.IsOnline(user) {
			t.Errorf("%s was told %v (%v)", n.name, rsp, err)
		}
	})
	synctest.Wait()
}
