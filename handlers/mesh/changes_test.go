package mesh

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// sentChanges returns how many messages with changes of users a node has sent to others.
func (n *node) sentChanges() int {
	families, err := n.counts.Gather()
	if err != nil {
		n.c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "teamtalk_mesh_frames_sent_total" &&
				m.GetLabel()[0].GetValue() == pb.CmdUserChangesNotify.String() {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func signOf(user uint32, text string) *pb.IMSignInfoChangedNotify {
	return pb.IMSignInfoChangedNotify_builder{ChangedUserId: proto.Uint32(user),
		SignInfo: proto.String(text)}.Build()
}

// TestOneMessagePerWindow: each message server gets the changes of a window in one message.
func TestOneMessagePerWindow(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a := nodes[0]
		a.login(1000, windows) // opens the links
		settle()
		for _, n := range nodes {
			n.all()
		}
		before := a.sentChanges()
		var want []string
		for user := range uint32(100) {
			a.login(user+1, windows)
			want = append(want, fmt.Sprintf("%d pc 1", user+1), fmt.Sprintf("%d online", user+1))
		}
		slices.Sort(want)
		settle()
		if n := a.sentChanges() - before; n != 3 {
			t.Errorf("100 logins at the same time were %d messages to 3 message servers", n)
		}
		for _, n := range nodes {
			got := notes(n)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s got %q", n.name, got)
			}
		}
	}, "a", "b", "c", "d")
}

// TestLastStateOfAWindow: within a window the last state of each subject is sent, in the order of
// the first changes. A change that was taken back is told as well: a client may have asked between.
func TestLastStateOfAWindow(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		here := a.login(2, windows)
		settle()
		a.all()
		b.all()
		a.send(signOf(7, "first"))
		a.logout(here)
		time.Sleep(window / 5)
		s := a.login(1, windows)
		time.Sleep(window / 5)
		a.send(signOf(7, "second"))
		a.send(pb.IMAvatarChangedNotify_builder{ChangedUserId: proto.Uint32(7),
			AvatarUrl: proto.String("url")}.Build())
		a.logout(s)
		time.Sleep(window / 5)
		a.login(2, windows)
		settle()
		want := []string{"7 sign second", "2 online", "1 pc 1", "1 offline", "7 avatar url",
			"2 pc 1"}
		if got := notes(b); !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
	}, "a", "b")
}

// TestLargeWindow: changes that are too much for one message are sent in several, and those above
// the bound are dropped and counted.
func TestLargeWindow(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.mesh.mu.Lock()
		const most = maxChanges / 8 // more than one frame; all take 10 s with the race detector
		a.mesh.changes.most = most
		for user := range uint32(most + 3) {
			a.mesh.changes.add(pcOfUser(user+1, true))
		}
		a.mesh.changes.add(pcOfUser(1, false)) // has a place
		for _, c := range a.mesh.changes.list {
			c.SetVersion(1)
		}
		a.mesh.mu.Unlock()
		settle()
		if n := a.dropped("changes_full"); n != 3 {
			t.Errorf("%v changes were dropped, want 3", n)
		}
		got := b.all()
		if n := len(told(got)); n != most {
			t.Errorf("b got %d changes, want %d", n, most)
		}
		for _, m := range only[*pb.IMUserChangesNotify](got) {
			if n := proto.Size(m); n > maxChangesFrame+256 {
				t.Errorf("a message of %d bytes", n)
			}
		}
		if n := len(only[*pb.IMUserChangesNotify](got)); n < 2 {
			t.Errorf("b got %d messages", n)
		}
	}, "a", "b")
}

// TestChangesWhileCutOff: the changes that a message server misses while it is not reached are told
// when it is: users that came and those that left. Those that it knows are not told again.
func TestChangesWhileCutOff(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		gone, moved := a.login(1, windows), a.login(2, windows)
		a.login(3, windows)
		settle()
		a.all()
		b.all()
		c.setCut("a", "b", true)
		a.logout(gone)
		a.logout(moved)
		a.login(4, windows)
		time.Sleep(4 * versionsKept)
		b.login(2, windows)
		settle()
		b.all()
		c.setCut("a", "b", false)
		for range 3 {
			settle()
		}
		got := notes(b)
		slices.Sort(got)
		if want := []string{"1 offline", "4 online"}; !slices.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
		if got := notes(a); !slices.Contains(got, "2 online") {
			t.Errorf("a got %q", got)
		}
	}, "a", "b")
}

// TestNoStatuses: if no client is told whether others are online, nothing is sent when a PC comes,
// unless its user has a phone elsewhere. The phone learns that the PC is gone, also when the
// message server of the PC is killed.
func TestNoStatuses(t *testing.T) {
	synctestCluster(t, func(c *cluster) { c.noStatuses = true }, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		a.login(1, windows)
		settle()
		if n := a.sentChanges(); n != 0 {
			t.Errorf("%d messages about a user without a phone", n)
		}
		a.all()
		b.login(1, android)
		settle()
		if got := notes(b); !slices.Contains(got, "1 pc 1") {
			t.Errorf("the phone that came was told %q", got)
		}
		b.login(2, android)
		settle()
		pc := a.login(2, windows)
		settle()
		if got := notes(b); !slices.Contains(got, "2 pc 1") {
			t.Errorf("the phone was told %q", got)
		}
		a.logout(pc)
		settle()
		if got := notes(b); !slices.Contains(got, "2 pc 0") {
			t.Errorf("the phone was told %q", got)
		}
		if n := b.mesh.status.elsewhere.Len(); n != 1 {
			t.Errorf("b remembers %d users elsewhere", n)
		}
		a.stop(true)
		a.expire()
		settle()
		if got := notes(b); !slices.Contains(got, "1 pc 0") {
			t.Errorf("after the end of a the phone was told %q", got)
		}
	}, "a", "b")
}

// encodes is a link that encodes what it sends, as one over TCP does.
type encodes struct {
	buf    []byte
	frames int
}

func (e *encodes) Send(_ uint64, seq uint16, m pb.Message) (err error) {
	e.frames++
	e.buf, err = pdu.Append(e.buf[:0], seq, m)
	return err
}

func (e *encodes) Close() error { return errors.New("not closed") }

// withPeers returns a mesh with links to so many message servers.
func withPeers(n int) (*Server, *encodes) {
	l := &encodes{}
	var answers []func() // to the introductions
	s := New(Options{Nodes: registry.NewView(), Name: "self",
		Self: func() Self { return Self{Epoch: 1} },
		Dial: func(n registry.Node, h session.LinkHandler) Link {
			answers = append(answers, func() {
				h.Message(nil, 0, pb.IMRoleSet_builder{Node: &n.Name, Epoch: &n.Epoch}.Build())
			})
			return l
		}})
	var list []registry.Node
	for i := range n {
		list = append(list, registry.Node{Role: "msg", Name: fmt.Sprintf("msg-%d", i),
			Epoch: uint64(i + 2), Addr: "x"})
	}
	s.setNodes(list)
	for _, p := range s.links.Every() {
		p.Send(&pb.IMHeartBeat{})
	}
	for _, answer := range answers {
		answer()
	}
	l.frames = 0
	return s, l
}

// BenchmarkChanges measures what the change of a user costs, up to the queues of the links to other
// message servers, told alone and with 24 others.
func BenchmarkChanges(b *testing.B) {
	for _, peers := range []int{1, 3, 7, 99} {
		for _, together := range []int{1, 25} {
			b.Run(fmt.Sprintf("peers=%d/together=%d", peers, together), func(b *testing.B) {
				s, l := withPeers(peers)
				u := &user{id: 1, devices: []device{{client: windows}}}
				b.ReportAllocs()
				for i := range b.N {
					s.mu.Lock()
					u.id, u.version = uint32(i%100_000), uint64(i+1)
					s.status.announce(u, statusOfUser(u.id, on))
					s.mu.Unlock()
					if i%together == together-1 {
						s.changes.flush()
					}
				}
				b.ReportMetric(float64(l.frames)/float64(b.N), "frames/op")
			})
		}
	}
}

// BenchmarkChangesReceived measures what the change of a user costs a message server that is told.
func BenchmarkChangesReceived(b *testing.B) {
	for _, together := range []int{1, 25} {
		b.Run(fmt.Sprintf("together=%d", together), func(b *testing.B) {
			s, _ := withPeers(1)
			s.here = session.NewLink(session.NextID(), "here", &stand{})
			from := session.NewLink(session.NextID(), "b", &stand{})
			from.Data = &end{node: whereabouts.Node{Name: "msg-0", Epoch: 2}}
			var list []*pb.UserChange
			b.ReportAllocs()
			for i := range b.N {
				c := statusOfUser(uint32(i%100_000), on)
				c.SetVersion(uint64(i + 1))
				if list = append(list, c); len(list) < together {
					continue
				}
				m := pb.IMUserChangesNotify_builder{Changes: list}.Build()
				frame, err := pdu.Append(nil, 0, m)
				if err != nil {
					b.Fatal(err)
				}
				s.Servers().Frame(from, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
				list = nil
				s.here = session.NewLink(session.NextID(), "here", &stand{})
			}
		})
	}
}
