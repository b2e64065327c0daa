package mesh

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// inCluster runs a test with nodes of these names.
func inCluster(t *testing.T, f func(c *cluster, nodes []*node), names ...string) {
	t.Helper()
	synctestCluster(t, func(*cluster) {}, f, names...)
}

// synctestCluster is inCluster, with nodes that are started with settings.
func synctestCluster(t *testing.T, set func(c *cluster), f func(c *cluster, nodes []*node),
	names ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		set(c)
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

// TestWhereaboutsInTexts: db_proxy has read where the users of a text are. The text goes there
// without another look, behind those that were sent before it.
func TestWhereaboutsInTexts(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		a.login(1, windows)
		b.login(2, windows)
		settle()
		found := c.store.Lookup(t.Context(), []uint32{1, 2})
		said := whereabouts.OfMessage{Sender: found[0].Entries, Receiver: found[1].Entries}
		elsewhere := whereabouts.OfMessage{Sender: said.Sender, Receiver: []whereabouts.Entry{{
			Node:    whereabouts.Node{Name: "d", Epoch: d.epoch},
			Devices: found[1].Entries[0].Devices}}}
		untrusted := whereabouts.OfMessage{Receiver: elsewhere.Receiver}
		var looks atomic.Int32
		c.setHook(func(_ string, call whereaboutstest.Operation, after bool) error {
			if call == whereaboutstest.Lookup && !after {
				looks.Add(1)
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		with := func(id uint32, o whereabouts.OfMessage) {
			m := text(1, 2, id)
			m.Whereabouts = o.Encode()
			a.send(m)
		}
		with(1, said)
		settle()
		if n := looks.Load(); n != 0 {
			t.Errorf("the store was asked %d times", n)
		}
		a.send(text(1, 2, 2))
		with(3, said)
		with(4, elsewhere)
		with(5, untrusted)
		m := text(1, 2, 6)
		m.Whereabouts = []byte("no whereabouts")
		a.send(m)
		settle()
		got := take[*pb.MsgData](b)
		if !slices.Equal(ids(got), []uint32{1, 2, 3, 5, 6}) {
			t.Errorf("b got %v", ids(got))
		}
		for _, m := range got {
			if m.Whereabouts != nil {
				t.Errorf("text %d has whereabouts", m.MsgID)
			}
		}
		if got := ids(take[*pb.MsgData](d)); !slices.Equal(got, []uint32{4}) {
			t.Errorf("d got %v", got)
		}
	}, "a", "b", "d")
}
