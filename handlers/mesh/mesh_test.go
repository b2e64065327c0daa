package mesh

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/proto/pb"
)

// inCluster runs a test with nodes of these names.
func inCluster(t *testing.T, f func(c *cluster, nodes []*node), names ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var nodes []*node
		for _, name := range names {
			nodes = append(nodes, c.start(name))
		}
		defer c.end()
		settle()
		f(c, nodes)
	})
}

// settle waits until everything that was begun has happened.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestTextsReachUsersElsewhere(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b, other := nodes[0], nodes[1], nodes[2]
		a.login(1, windows)
		s := b.login(2, windows)
		settle()
		for i := range uint32(100) {
			a.send(text(1, 2, i+1))
		}
		settle()
		got := ids(take[*pb.MsgData](b))
		if len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("b got %v", got)
		}
		if got := take[*pb.MsgData](other); len(got) > 0 {
			t.Errorf("a message server without the users got %v", got)
		}
		b.send(text(2, 1, 101))
		b.logout(s)
		settle()
		a.send(text(1, 2, 102))
		settle()
		if got := ids(take[*pb.MsgData](a)); !slices.Equal(got, []uint32{101}) {
			t.Errorf("a got %v", got)
		}
		if got := take[*pb.MsgData](b); len(got) > 0 {
			t.Errorf("the message server that the user has left got %v", ids(got))
		}
	}, "a", "b", "c")
}

func TestLaterLoginKicksTheEarlier(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		first, phone := a.login(1, windows), a.login(1, android)
		settle()
		second := b.login(1, windows)
		settle()
		if a.state(first) != "kicked" || a.state(phone) != "in" || b.state(second) != "in" {
			t.Errorf("first %s, phone %s, second %s", a.state(first), a.state(phone),
				b.state(second))
		}
	}, "a", "b")
}
