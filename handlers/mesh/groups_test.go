package mesh

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/handlers/mesh/marks"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// wantMarks compares the marked message servers of a group.
func (c *cluster) wantMarks(what string, group uint32, names ...string) {
	c.t.Helper()
	if got, _ := c.store.Group(group); !slices.Equal(got, names) {
		c.t.Errorf("%s: %v have marks of group %d, want %v", what, got, group, names)
	}
}

// wantTexts compares the texts that each of some nodes got, and forgets them.
func (c *cluster) wantTexts(what string, want map[*node][]uint32) {
	c.t.Helper()
	for n, texts := range want {
		if got := ids(take[*pb.MsgData](n)); !slices.Equal(got, texts) {
			c.t.Errorf("%s: %s got %v, want %v", what, n.name, got, texts)
		}
	}
}

// forwards returns how many messages of groups a node has forwarded in a way.
func (n *node) forwards(to string) float64 {
	return testutil.ToFloat64(n.mesh.groups.forwards.WithLabelValues(to))
}

const group = 70

// TestGroupTextsReachMembersAlone: of four message servers two have members of a group. A text
// reaches no third one.
func TestGroupTextsReachMembersAlone(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, other, empty := nodes[0], nodes[1], nodes[2], nodes[3]
		c.db.set(group, 1, 2, 5)
		c.db.set(group+1, 3)
		a.login(1, windows)
		b.login(2, windows)
		other.login(3, windows)
		settle()
		c.wantMarks("after the logins", group, "a", "b")
		a.send(c.db.text(1, group, 1)) // nobody has looked where the members are
		settle()
		c.wantTexts("the first", map[*node][]uint32{a: nil, b: {1}, other: {1}, empty: {1}})
		for i := range uint32(50) {
			a.send(c.db.text(1, group, 2*i+2))
			b.send(c.db.text(2, group, 2*i+3))
		}
		settle()
		c.wantTexts("texts", map[*node][]uint32{other: nil, empty: nil})
		if got := ids(take[*pb.MsgData](b)); len(got) != 50 || !slices.IsSorted(got) {
			t.Errorf("b got %v", got)
		}
		if got := ids(take[*pb.MsgData](a)); len(got) != 50 || !slices.IsSorted(got) {
			t.Errorf("a got %v", got)
		}
		if marked, saved := a.forwards("marked"),
			testutil.ToFloat64(a.mesh.groups.saved); marked != 50 || saved != 100 {
			t.Errorf("%v to marked servers, %v frames saved", marked, saved)
		}
	}, "a", "b", "c", "d")
}

// TestFirstTextOfANewGroup: the first text of a group that a client here has made reaches the
// message servers with a member alone.
func TestFirstTextOfANewGroup(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, other := nodes[0], nodes[1], nodes[2]
		a.login(1, windows)
		b.login(2, windows)
		other.login(3, windows)
		settle()
		c.db.set(group, 1, 2, 5)
		a.send(madeGroup(group))
		settle()
		c.wantMarks("after it was made", group, "a", "b")
		a.send(c.db.text(1, group, 1))
		settle()
		c.wantTexts("the first", map[*node][]uint32{b: {1}, other: nil})
		if n := a.forwards("unsettled"); n != 0 {
			t.Errorf("%v texts went to all", n)
		}
		a.send(madeGroup(marks.Everything))
		settle()
		if got, _ := c.store.Group(marks.Everything); len(got) > 0 {
			t.Errorf("%v get everything", got)
		}
	}, "a", "b", "c")
}

// TestChangesReachThoseConcerned: a change of members reaches the message servers of the members,
// and of the user that was added or removed. Texts that follow reach that of an added user.
func TestChangesReachThoseConcerned(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		c.db.set(group, 1)
		a.login(1, windows)
		s := b.login(2, windows)
		settle()
		a.send(c.db.text(1, group, 1))
		settle()
		b.all()
		d.all()
		a.send(c.db.change(group, true, 2))
		a.send(c.db.text(1, group, 2))
		settle()
		got := b.all()
		if len(only[*pb.IMGroupChangeMemberNotify](got)) != 1 ||
			!slices.Equal(ids(only[*pb.MsgData](got)), []uint32{2}) {
			t.Errorf("the message server of the added user got %v", got)
		}
		if begun := only[*pb.IMRoleSet](got); len(begun) != 1 ||
			!slices.Equal(begun[0].GetBegunGroups(), []uint32{group}) {
			t.Errorf("it was told %v, want that it gets the group", begun)
		}
		a.send(c.db.change(group, false, 2))
		settle()
		if got := take[*pb.IMGroupChangeMemberNotify](b); len(got) != 1 {
			t.Errorf("the message server of the removed user got %v", got)
		}
		if got := d.all(); len(got) > 0 {
			t.Errorf("a third one got %v", got)
		}
		if unsettled := a.forwards("unsettled"); unsettled != 1 {
			t.Errorf("%v messages went to all, want the first alone", unsettled)
		}
		b.logout(s)
	}, "a", "b", "d")
}

// TestUnknownChange: a member is added, or a group created, by a process that tells nobody. Texts
// reach it.
func TestUnknownChange(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		c.db.set(group, 1)
		a.login(1, windows)
		b.login(2, windows)
		settle()
		a.send(c.db.text(1, group, 1))
		settle()
		c.db.change(group, true, 2)
		b.all()
		d.all()
		for i := range uint32(3) {
			a.send(c.db.text(1, group, i+2))
			settle()
		}
		c.wantTexts("a member that nobody was told of", map[*node][]uint32{b: {2, 3, 4}, d: {2}})
		c.wantMarks("after the first text", group, "a", "b")
		c.db.set(group+1, 1, 2)
		for i := range uint32(3) {
			a.send(c.db.text(1, group+1, i+5))
			settle()
		}
		c.wantTexts("a new group", map[*node][]uint32{b: {5, 6, 7}, d: {5}})
		noVersion := c.db.text(1, group, 8)
		noVersion.GroupVersion = 0
		a.send(noVersion)
		settle()
		c.wantTexts("a text without a version", map[*node][]uint32{b: {8}, d: {8}})
	}, "a", "b", "d")
}

// TestGroupsAreNotKnown: db_proxy does not answer which groups a user is in. The login is answered
// all the same, and the message server gets everything until the groups are known.
func TestGroupsAreNotKnown(t *testing.T) {
	for _, slow := range []bool{false, true} {
		inCluster(t, func(c *cluster, nodes []*node) {
			a, b, d := nodes[0], nodes[1], nodes[2]
			c.db.set(group, 1, 2)
			a.login(1, windows)
			settle()
			a.send(c.db.text(1, group, 1))
			settle()
			c.db.setHook(func(by string, after bool) error {
				if by == "b" && slow {
					time.Sleep(5 * time.Second)
				}
				if by == "b" && !slow {
					return errDBAway
				}
				return nil
			})
			s := b.login(2, windows)
			time.Sleep(2 * time.Second)
			settle()
			if b.state(s) != "in" {
				t.Fatalf("the login is %s", b.state(s))
			}
			b.all()
			d.all()
			c.wantMarks("without an answer", marks.Everything, "b")
			a.send(c.db.text(1, group, 2))
			settle()
			c.wantTexts("without an answer", map[*node][]uint32{b: {2}, d: nil})
			c.db.setHook(nil)
			time.Sleep(30 * time.Second)
			c.wantMarks("with an answer", group, "a", "b")
			c.wantMarks("with an answer", marks.Everything)
			a.send(c.db.text(1, group, 3))
			settle()
			c.wantTexts("with an answer", map[*node][]uint32{b: {3}, d: nil})
		}, "a", "b", "d")
	}
}

// TestOldDBProxy: a db_proxy that leaves temporary groups out says so by its silence. The message
// server gets everything.
func TestOldDBProxy(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		c.db.old = true
		c.db.set(group, 1, 2)
		a.login(1, windows)
		s := b.login(2, windows)
		settle()
		if b.state(s) != "in" {
			t.Fatalf("the login is %s", b.state(s))
		}
		c.wantMarks("with an old db_proxy", marks.Everything, "a", "b")
		b.logout(s)
		time.Sleep(time.Minute)
		c.wantMarks("without the user", marks.Everything, "a")
	}, "a", "b")
}

// TestMarksAreRemoved: a message server whose last member of a group has left loses its mark after
// some minutes. A member that the mesh was not told of keeps it.
func TestMarksAreRemoved(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		c.db.set(group, 1, 2)
		c.db.set(group+1, 1, 2)
		a.login(1, windows)
		s := b.login(2, windows)
		b.login(3, windows)
		settle()
		for i := range uint32(2) {
			a.send(c.db.text(1, group+i, i+1))
		}
		settle()
		c.db.change(group+1, true, 3) // and nobody is told
		b.logout(s)
		settle()
		c.wantMarks("a moment later", group, "a", "b")
		time.Sleep(4 * time.Minute)
		again := b.login(2, windows) // no mark is written for this
		settle()
		b.logout(again)
		time.Sleep(4 * time.Minute)
		c.wantMarks("4 minutes later", group, "a", "b")
		time.Sleep(2 * time.Minute)
		c.wantMarks("6 minutes later", group, "a")
		c.wantMarks("6 minutes later, with a member", group+1, "a", "b")
		if n := testutil.ToFloat64(b.mesh.metrics.drops.WithLabelValues("login_timeout")); n > 0 {
			t.Errorf("%v logins timed out", n)
		}
		b.all()
		a.send(c.db.text(1, group+1, 3)) // the version is a later one
		a.send(c.db.text(1, group, 4))
		settle()
		c.wantTexts("the group that is left", map[*node][]uint32{b: {3}})
	}, "a", "b")
}

// TestMarksAreLost: the store loses what it has. No text is missed then, and later ones go to the
// members alone.
func TestMarksAreLost(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		c.db.set(group, 1, 2)
		a.login(1, windows)
		b.login(2, windows)
		d.login(3, windows)
		settle()
		a.text(c.db.text(1, group, 1))
		settle()
		c.store.Lose()
		a.text(c.db.text(1, group, 2))
		c.db.set(group+1, 1, 2, 3)
		a.text(c.db.text(1, group+1, 3))
		settle() // some have written their users again, and others not
		a.mesh.Reassert()
		a.text(c.db.text(1, group, 4))
		settle()
		a.text(c.db.text(1, group, 5))
		a.send(c.db.change(group, true, 3)) // the store does not have the user
		settle()
		a.text(c.db.text(1, group, 6))
		b.mesh.Reassert()
		d.mesh.Reassert()
		settle()
		time.Sleep(time.Minute)
		a.text(c.db.text(1, group, 7))
		settle()
		a.text(c.db.text(1, group, 8))
		settle()
		for n, want := range map[*node][]uint32{b: {1, 2, 3, 4, 5, 6, 7, 8}, d: {3, 6, 7, 8}} {
			got := ids(take[*pb.MsgData](n))
			for _, id := range want {
				if !slices.Contains(got, id) {
					t.Errorf("%s lacks text %d of %v", n.name, id, got)
				}
			}
		}
		c.wantMarks("in the end", marks.Everything)
		c.wantMarks("in the end", group, "a", "b", "d")
	}, "a", "b", "d")
}

// TestMarksOfEndedProcesses count as absent, and are removed when they are met.
func TestMarksOfEndedProcesses(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		c.db.set(group, 1, 2)
		a.login(1, windows)
		b.login(2, windows)
		settle()
		a.send(c.db.text(1, group, 1))
		settle()
		b.stop(true)
		b.expire()
		settle()
		c.wantMarks("after its end", group, "a", "b")
		a.send(c.db.text(1, group, 2))
		settle()
		c.wantMarks("after a text", group, "a")
		time.Sleep(outgoing.RecentLasts) // messages for all are kept
		b = c.start("b")
		settle()
		b.login(2, windows)
		settle()
		a.send(c.db.text(1, group, 3))
		settle()
		c.wantTexts("after its restart", map[*node][]uint32{b: {3}})
	}, "a", "b")
}

// TestGroupTextOfAnotherServer: a text that the HTTP API sends reaches the message servers with a
// member, and the one that it is sent through only if it has one.
func TestGroupTextOfAnotherServer(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		c.db.set(group, 1, 2)
		a.login(1, windows)
		settle()
		l, _ := dialed(b)
		send := func(m pb.Message) {
			b.mesh.Servers().Message(l, 0, m)
			settle()
		}
		send(c.db.text(1, group, 1))
		c.wantTexts("the first", map[*node][]uint32{a: {1}, b: {1}, d: {1}})
		send(c.db.text(1, group, 2))
		c.wantTexts("the second", map[*node][]uint32{a: {2}, b: nil, d: nil})
		b.login(3, windows)
		settle()
		b.all()
		send(c.db.change(group, true, 3))
		if n := len(take[*pb.IMGroupChangeMemberNotify](b)); n != 1 {
			t.Errorf("the message server of the added user got %d changes", n)
		}
		send(c.db.text(1, group, 3))
		c.wantTexts("after the change", map[*node][]uint32{a: {3}, b: {3}, d: nil})
	}, "a", "b", "d")
}

// TestStoreAwayForGroups: while the store fails, texts and changes of groups go to all.
func TestStoreAwayForGroups(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b, d := nodes[0], nodes[1], nodes[2]
		c.db.set(group, 1, 2)
		a.login(1, windows)
		b.login(2, windows)
		settle()
		a.send(c.db.text(1, group, 1))
		settle()
		b.all()
		d.all()
		c.setHook(func(_ string, _ whereaboutstest.Operation, after bool) error {
			if after {
				return nil
			}
			return errStoreAway
		})
		a.send(c.db.text(1, group, 2))
		a.send(c.db.change(group, true, 3))
		settle()
		for _, n := range []*node{b, d} {
			got := n.all()
			if len(only[*pb.IMGroupChangeMemberNotify](got)) != 1 ||
				!slices.Equal(ids(only[*pb.MsgData](got)), []uint32{2}) {
				t.Errorf("%s got %v", n.name, got)
			}
		}
		c.setHook(nil)
		settle()
		a.send(c.db.text(1, group, 3)) // the change was not settled
		settle()
		a.send(c.db.text(1, group, 4))
		settle()
		c.wantTexts("later", map[*node][]uint32{b: {3, 4}, d: {3}})
	}, "a", "b", "d")
}

// TestNodesOfOneName is about the marks that another process of the node has.
func TestNodesOfOneName(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		later := whereabouts.Node{Name: "a", Epoch: a.epoch + 5}
		c.store.Mark(t.Context(), []whereabouts.Mark{{Group: group, Version: 1,
			Nodes: []whereabouts.Node{later, {Name: "gone", Epoch: 1}}}})
		c.db.set(group, 1)
		a.login(1, windows)
		settle()
		a.send(c.db.text(1, group, 1))
		settle()
		_, g := c.store.LookupAll(t.Context(), nil, []uint32{group})
		if want := []whereabouts.Node{later}; !slices.Equal(g[0].Nodes, want) {
			t.Errorf("the marks are %v, want %v", g[0].Nodes, want)
		}
	}, "a")
}
