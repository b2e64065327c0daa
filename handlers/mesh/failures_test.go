package mesh

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// TestPartition: what is sent while two message servers do not reach each other is asked for again
// when they do.
func TestPartition(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		b.login(2, windows)
		settle()
		c.setCut("a", "b", true)
		a.text(text(1, 2, 1))
		time.Sleep(10 * time.Second)
		if got := take[*pb.MsgData](b); len(got) > 0 {
			t.Fatalf("b got %v", ids(got))
		}
		take[*pb.IMRoleSet](a)
		c.setCut("a", "b", false)
		a.text(text(1, 2, 2))
		settle()
		got := ids(take[*pb.MsgData](b))
		slices.Sort(got)
		if !slices.Equal(got, []uint32{1, 2}) {
			t.Errorf("b got %v", got)
		}
		var missed time.Duration
		for _, m := range take[*pb.IMRoleSet](a) {
			missed = max(missed, time.Duration(m.GetMissed())*time.Millisecond)
		}
		if missed < 45*time.Second || missed > 47*time.Second { // from 35 s before the loss on
			t.Errorf("a was told that b missed %v", missed)
		}
	}, "a", "b")
}

// TestLinkInUse: a link is lost after it was used. Both sides are told, and the last 35 s count.
func TestLinkInUse(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(2, windows)
		settle()
		a.text(text(1, 2, 1))
		settle()
		take[*pb.IMRoleSet](a)
		take[*pb.IMRoleSet](b)
		c.setCut("a", "b", true)
		c.setCut("a", "b", false)
		a.text(text(1, 2, 2))
		settle()
		for _, n := range nodes { // each has a link to the other
			lost, missed := false, uint32(0)
			for _, m := range take[*pb.IMRoleSet](n) {
				lost, missed = lost || m.GetLost(), max(missed, m.GetMissed())
			}
			if !lost || missed < 35_000 || missed > 37_000 {
				t.Errorf("%s was told of %d ms, and of losses: %v", n.name, missed, lost)
			}
		}
	}, "a", "b")
}

// TestUnusedLinkIsClosed: a link without messages is closed, which is no loss.
func TestUnusedLinkIsClosed(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.login(2, windows)
		settle()
		a.text(text(1, 2, 1))
		settle()
		if n := len(c.each()); n != 2 { // b has announced its user on the other one
			t.Errorf("%d links, want 2", n)
		}
		take[*pb.IMRoleSet](a)
		time.Sleep(6 * time.Minute)
		if n := len(c.each()); n != 0 {
			t.Errorf("%d links after 6 minutes", n)
		}
		take[*pb.MsgData](b)
		a.text(text(1, 2, 2))
		settle()
		if got := ids(take[*pb.MsgData](b)); !slices.Equal(got, []uint32{2}) {
			t.Errorf("b got %v", got)
		}
		if roles := take[*pb.IMRoleSet](a); len(roles) > 0 {
			t.Errorf("a was told of a loss: %v", roles)
		}
	}, "a", "b")
}

// TestStoreAway: while the store fails, texts reach users elsewhere all the same, nobody can log
// in, and the others stay. When it works again, texts are asked for again.
func TestStoreAway(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		s := b.login(2, windows)
		settle()
		take[*pb.IMRoleSet](a)
		c.setHook(func(string, whereaboutstest.Operation, bool) error { return errStoreAway })
		var want []uint32
		for i := range uint32(10) {
			want = append(want, i+1)
			a.text(text(1, 2, i+1))
			time.Sleep(time.Second)
		}
		if got := ids(take[*pb.MsgData](b)); !slices.Equal(got, want) {
			t.Errorf("b got %v", got)
		}
		late := b.login(3, windows)
		time.Sleep(5 * time.Second)
		if b.state(s) != "in" || b.state(late) != "refused" {
			t.Errorf("the client is %s, the one that logs in %s", b.state(s), b.state(late))
		}
		if !a.pipe.Withdrawn() || !b.pipe.Withdrawn() {
			t.Error("the message servers were not told that the store fails")
		}
		c.setHook(nil)
		settle()
		if a.pipe.Withdrawn() || b.pipe.Withdrawn() {
			t.Error("the message servers were not told that the store works")
		}
		roles := take[*pb.IMRoleSet](a)
		if len(roles) != 1 || roles[0].GetMissed() < 15_000 {
			t.Errorf("a was told %v", roles)
		}
		again := b.login(3, windows)
		settle()
		a.text(text(1, 3, 11))
		settle()
		if got := ids(take[*pb.MsgData](b)); b.state(again) != "in" || !slices.Equal(got,
			[]uint32{11}) {
			t.Errorf("after the failure: %s, b got %v", b.state(again), got)
		}
	}, "a", "b")
}

// TestStoreLoss: a store that has lost everything gets the users again.
func TestStoreLoss(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		b.login(2, windows)
		settle()
		a.all()
		c.store.Lose()
		a.mesh.Reassert()
		b.mesh.Reassert()
		settle()
		if n := len(c.store.Users()); n != 2 {
			t.Errorf("%d users in the store", n)
		}
		got := a.all()
		if notes := only[*pb.IMUserChangesNotify](got); len(notes) > 0 {
			t.Errorf("what did not change was announced: %v", notes)
		}
		if roles := only[*pb.IMRoleSet](got); len(roles) != 1 || roles[0].GetMissed() < 35_000 {
			t.Errorf("a was asked to send again: %v", roles)
		}
	}, "a", "b")
}

// TestRestart: a message server that was killed comes back under its name.
func TestRestart(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		b.login(2, windows)
		b.login(3, windows)
		settle()
		b.stop(true)
		a.text(text(1, 2, 1))
		settle()
		again := c.start("b")
		s := again.login(3, windows)
		settle()
		a.text(text(1, 2, 2))
		a.text(text(1, 3, 3))
		settle()
		if got := ids(take[*pb.MsgData](again)); again.state(s) != "in" ||
			!slices.Equal(got, []uint32{3}) {
			t.Errorf("it is %s, and got %v", again.state(s), got)
		}
		if users := c.store.Users(); !slices.Equal(users, []uint32{1, 3}) {
			t.Errorf("in the store are %v: an entry of the former process was left", users)
		}
	}, "a", "b")
}

// TestNewNodeIsNotKnownYet: a message server has clients before the others know of it. It gets what
// they have sent to all meanwhile.
func TestNewNodeIsNotKnownYet(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		c.mu.Lock()
		c.late = true
		c.mu.Unlock()
		b := c.start("b")
		b.login(2, windows)
		time.Sleep(100 * time.Millisecond)
		a.login(1, windows)
		group := text(1, 9, 1)
		group.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		a.send(group)
		a.text(text(1, 2, 2))
		settle()
		if got := b.all(); len(only[*pb.MsgData](got)) > 0 {
			t.Fatalf("b got %v", got)
		}
		c.mu.Lock()
		c.late = false
		c.mu.Unlock()
		c.publish()
		settle()
		got := b.all()
		texts := ids(only[*pb.MsgData](got))
		slices.Sort(texts)
		if !slices.Equal(texts, []uint32{1, 2}) || !slices.Contains(told(got), "1 online") {
			t.Errorf("b got %v", got)
		}
	}, "a")
}

// TestCutOffFromTheStore: a message server is cut off from the store alone, and a user of it logs
// in elsewhere meanwhile. Then the later session is left, and the texts of the last time arrive.
func TestCutOffFromTheStore(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		first, other := b.login(1, windows), b.login(2, windows)
		a.login(3, windows)
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
		settle()
		a.text(text(3, 2, 1)) // user 2 counts as gone
		b.text(text(2, 3, 2)) // goes to all
		settle()
		if got := ids(take[*pb.MsgData](a)); !slices.Equal(got, []uint32{2}) {
			t.Errorf("a got %v", got)
		}
		if b.state(first) != "in" || a.state(second) != "in" {
			t.Errorf("the first is %s, the second %s", b.state(first), a.state(second))
		}
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
		if got := ids(take[*pb.MsgData](b)); !slices.Equal(got, []uint32{1}) {
			t.Errorf("b got %v", got)
		}
	}, "a", "b")
}

// TestOneUserIsSpoilt: one user cannot be written and read. The others are served, and texts for it
// go to all message servers.
func TestOneUserIsSpoilt(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(9, windows)
		c.bad.Store(1)
		spoilt := a.login(1, windows)
		for range 5 {
			settle()
		}
		good := a.login(2, windows)
		settle()
		a.text(text(9, 1, 1))
		settle()
		if a.state(spoilt) != "refused" || a.state(good) != "in" || a.pipe.Withdrawn() {
			t.Errorf("the user is %s, another one %s, no logins are served: %v", a.state(spoilt),
				a.state(good), a.pipe.Withdrawn())
		}
		if got := ids(take[*pb.MsgData](b)); !slices.Equal(got, []uint32{1}) {
			t.Errorf("b got %v", got)
		}
		c.bad.Store(0)
		settle()
		again := a.login(1, windows)
		settle()
		if a.state(again) != "in" || !slices.Equal(c.store.Users(), []uint32{1, 2, 9}) {
			t.Errorf("afterwards the user is %s, in the store are %v", a.state(again),
				c.store.Users())
		}
	}, "a", "b")
}

// TestAcksWaitForNoBrokenLink: a message server is killed. The other one is told at once that acks
// may be lost, and that no device of the killed one acknowledges, until the link is open again.
func TestAcksWaitForNoBrokenLink(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.acknowledges(2)
		a.text(text(1, 2, 1))
		settle()
		wantAcks(t, a, 2, true)
		wantLost(t, a, false)
		c.setCut("a", "b", true)
		synctest.Wait()
		wantLost(t, a, true)
		wantAcks(t, a, 2, false)
		c.setCut("a", "b", false)
		a.text(text(1, 2, 2))
		settle()
		wantAcks(t, a, 2, true)
	}, "a", "b")
}

// TestAcksWaitForNoSlowLink: the first link to a message server does not open.
func TestAcksWaitForNoSlowLink(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		b.acknowledges(2)
		c.setCut("a", "b", true)
		a.text(text(1, 2, 1))
		synctest.Wait()
		wantAcks(t, a, 2, true)
		time.Sleep(time.Second)
		wantAcks(t, a, 2, false)
	}, "a", "b")
}

// acknowledges logs a user in whose device acknowledges deliveries.
func (n *node) acknowledges(user uint32) {
	n.login(user, windows)
	settle()
	acks := statusOf(user, windows, on)
	acks.SetAcks(true)
	n.send(acks)
	settle()
}

// wantAcks checks what a node is told of the devices elsewhere that acknowledge.
func wantAcks(t *testing.T, n *node, user uint32, want bool) {
	t.Helper()
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(1), UserIdList: []uint32{user},
		Scope: pb.DeviceScope_DEVICE_SCOPE_ACKS.Enum()}.Build()
	n.pipe.Call(nil, 0, 0, req, func(rsp pb.Message, err error) {
		if stat, ok := rsp.(*pb.IMUsersStatRsp); err != nil || !ok || stat.IsOnline(user) != want {
			t.Errorf("%s was told %v (%v), want %v", n.name, rsp, err, want)
		}
	})
	synctest.Wait()
}

// wantLost checks whether a node was told of a loss, and forgets all that it got.
func wantLost(t *testing.T, n *node, want bool) {
	t.Helper()
	lost := false
	for _, m := range take[*pb.IMRoleSet](n) {
		lost = lost || m.GetLost()
	}
	if lost != want {
		t.Errorf("%s was told of a loss: %v, want %v", n.name, lost, want)
	}
}
