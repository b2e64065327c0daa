package mesh

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// clusterSize returns the number of message servers of a large cluster. The test with a hundred
// of them uses ten times the processor time of that with thirty: each of them looks several
// times a second after each of the others.
func clusterSize() int {
	if long {
		return 100
	}
	return 30
}

// serverNames returns the names of n message servers.
func serverNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("msg-%02d", i))
	}
	return names
}

// closeSoon makes links that nobody uses end sooner, which saves most of the test's looks.
func closeSoon(c *cluster) { c.linkIdle = 30 * time.Second }

// TestManyServers: in a large cluster only message servers with something for each other are
// linked. A text takes one frame however many message servers there are, and the changes of a
// window one frame to each. Links that nobody uses are closed.
func TestManyServers(t *testing.T) {
	many := clusterSize()
	synctestCluster(t, closeSoon, func(c *cluster, nodes []*node) {
		if n := len(c.each()); n != 0 {
			t.Errorf("%d links between idle message servers", n)
		}
		var phones []*login
		for i, n := range nodes {
			phones = append(phones, n.login(uint32(1+i), android))
		}
		settle()
		for i, n := range nodes {
			if s := n.state(phones[i]); s != "in" {
				t.Fatalf("%s: the login is %q", n.name, s)
			}
			n.all()
		}
		// Each user writes to that of the next message server.
		for i, n := range nodes {
			n.text(text(uint32(1+i), uint32(1+(i+1)%many), uint32(1000+i)))
		}
		settle()
		if n := len(c.each()); n != many {
			t.Errorf("%d links for %d pairs of message servers", n, many)
		}
		texts := 0
		for _, n := range nodes {
			texts += len(take[*pb.MsgData](n))
		}
		if texts != many {
			t.Errorf("%d texts arrived, want one on each message server", texts)
		}
		// A PC concerns all. Many at the same time are told in one frame.
		for user := range uint32(20) {
			nodes[0].login(5000+user, windows)
		}
		settle()
		links := len(c.each())
		if links > many+many-1 {
			t.Errorf("%d links, want those of before and one to each from the first", links)
		}
		for _, n := range nodes[1:] {
			frames := take[*pb.IMUserChangesNotify](n)
			users := map[uint32]bool{}
			for _, f := range frames {
				for _, u := range f.GetChanges() {
					users[u.GetUserId()] = true
				}
			}
			if len(users) != 20 || len(frames) != 1 {
				t.Errorf("%s was told of %d users in %d frames, want 20 in one", n.name, len(users),
					len(frames))
			}
		}
		time.Sleep(c.linkIdle + time.Second)
		if n := len(c.each()); n != 0 {
			t.Errorf("%d links after %v without a message", n, c.linkIdle)
		}
	}, serverNames(many)...)
}
