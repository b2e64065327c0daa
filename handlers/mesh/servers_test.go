package mesh

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/core/whereabouts/whereaboutstest"
	"teamtalk/proto/pb"
)

// stand is the other end of a link that a server dialed.
type stand struct {
	got    []pb.Message
	closed bool
}

func (s *stand) SendMessage(_ uint16, m pb.Message) error {
	s.got = append(s.got, m)
	return nil
}

func (s *stand) Close(error) { s.closed = true }

// dialed returns a link of a server that has dialed a node.
func dialed(n *node) (*session.Link, *stand) {
	end := &stand{}
	l := session.NewLink(session.NextID(), "server", end)
	if err := n.mesh.Servers().Open(l); err != nil {
		n.c.t.Fatal(err)
	}
	return l, end
}

// fromMesh returns a link of a mesh that has introduced itself to a node.
func (*cluster) fromMesh(n *node, name string) *session.Link {
	l, _ := dialed(n)
	n.mesh.Servers().Message(l, 0, introduction(whereabouts.Node{Name: name, Epoch: 1000},
		whereabouts.Node{Name: n.name, Epoch: n.epoch}))
	return l
}

func TestIntroduction(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a := nodes[0]
		self := whereabouts.Node{Name: "a", Epoch: a.epoch}
		for _, c := range []struct {
			what     string
			from, to whereabouts.Node
			accepted bool
		}{
			{"a message server", whereabouts.Node{Name: "b", Epoch: 1000}, self, true},
			{"one that means another", whereabouts.Node{Name: "b", Epoch: 1000},
				whereabouts.Node{Name: "c", Epoch: a.epoch}, false},
			{"one that means an earlier process", whereabouts.Node{Name: "b", Epoch: 1000},
				whereabouts.Node{Name: "a", Epoch: a.epoch + 1}, false},
			{"one without an epoch", whereabouts.Node{Name: "b"}, self, false},
			{"one whose epoch is too large", whereabouts.Node{Name: "b", Epoch: 1 << 60}, self,
				false},
			{"one that leaves", whereabouts.Node{Name: "b", Epoch: 1}, self, true},
			{"a name that is none", whereabouts.Node{Name: "b/c", Epoch: 1000}, self, false},
			{"this server", self, self, false},
		} {
			l, end := dialed(a)
			a.mesh.Servers().Message(l, 0, introduction(c.from, c.to))
			if end.closed == c.accepted || (len(end.got) == 1) != c.accepted {
				t.Errorf("%s: closed %v, answered %v", c.what, end.closed, end.got)
			}
		}
	}, "a")
}

// TestOtherServers: a server that would use a route server is served as by one.
func TestOtherServers(t *testing.T) {
	inCluster(t, func(_ *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		one, two := a.login(1, windows), b.login(2, windows)
		settle()
		a.all()
		b.all()
		l, end := dialed(a)
		send := func(m pb.Message) {
			frame, err := pdu.Append(nil, 7, m)
			if err != nil {
				t.Fatal(err)
			}
			a.mesh.Servers().Frame(l, pdu.ParseHeader(frame), frame[pdu.HeaderLen:])
			settle()
		}
		send(text(1, 2, 1))
		group := text(1, 9, 2)
		group.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
		send(group)
		for _, n := range nodes {
			if got := ids(take[*pb.MsgData](n)); !slices.Equal(got, []uint32{1, 2}) {
				t.Errorf("%s got %v", n.name, got)
			}
		}
		send(pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
			UserIdList: []uint32{1, 2, 3}}.Build())
		if rsp, _ := end.got[0].(*pb.IMUsersStatRsp); !rsp.IsOnline(1) || !rsp.IsOnline(2) ||
			rsp.IsOnline(3) {
			t.Errorf("the answer is %v", rsp)
		}
		for i, user := range []uint32{1, 2} {
			kick := pb.IMServerKickUser_builder{UserId: proto.Uint32(user),
				ClientType: windows.Enum(), Number: proto.Uint32(uint32(i + 5)),
				Reason: proto.Uint32(1)}.Build()
			send(kick)
			if confirmed, _ := end.got[i+1].(*pb.IMServerKickUser); confirmed.GetNumber() !=
				uint32(i+5) {
				t.Errorf("the kick is confirmed by %v", end.got[i+1])
			}
		}
		if a.state(one) != "kicked" || b.state(two) != "kicked" {
			t.Errorf("one is %s, two is %s", a.state(one), b.state(two))
		}
		// Only other message servers may say that a user is online.
		send(pb.IMUserChangesNotify_builder{
			Changes: []*pb.UserChange{statusOfUser(1, on)}}.Build())
		if got := notes(a); slices.Contains(got, "1 online") {
			t.Error("changes of a stranger are passed on")
		}
	}, "a", "b")
}

// TestQuestionRefused: while the store fails, a server that understands a refusal is told so, and
// asks another message server, or this one again.
func TestQuestionRefused(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a := nodes[0]
		c.setHook(func(string, whereaboutstest.Operation, bool) error { return errStoreAway })
		for _, understands := range []bool{false, true} {
			l, end := dialed(a)
			role := &pb.IMRoleSet{}
			role.SetMaster(0)
			role.SetFeatures(0)
			if understands {
				role.SetFeatures(uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS))
			}
			a.mesh.Servers().Message(l, 0, role)
			end.got = nil
			a.mesh.Servers().Message(l, 7, pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
				UserIdList: []uint32{1}, AttachData: []byte("call")}.Build())
			settle()
			if !understands {
				if len(end.got) > 0 {
					t.Errorf("a server that understands no refusal got %v", end.got)
				}
				continue
			}
			if len(end.got) != 1 {
				t.Fatalf("the answer is %v", end.got)
			}
			m, _ := end.got[0].(*pb.IMRequestRefused)
			if !m.GetElsewhere() || m.GetKind() != pb.RefusalKind_REFUSAL_KIND_UNAVAILABLE ||
				string(m.GetAttachData()) != "call" {
				t.Errorf("the answer is %v", end.got[0])
			}
		}
	}, "a")
}

// TestNumberedKickArrivesLate: a kick of the HTTP API reaches a message server that could not be
// reached when it was confirmed, and ends no later login.
func TestNumberedKickArrivesLate(t *testing.T) {
	inCluster(t, func(c *cluster, nodes []*node) {
		a, b := nodes[0], nodes[1]
		one := b.login(1, windows)
		settle()
		c.setCut("a", "b", true)
		l, _ := dialed(a)
		a.mesh.Servers().Message(l, 1, pb.IMServerKickUser_builder{UserId: proto.Uint32(1),
			ClientType: windows.Enum(), Number: proto.Uint32(5), Reason: proto.Uint32(1)}.Build())
		for range 20 {
			settle()
		}
		later := b.login(2, windows)
		if b.state(one) != "in" {
			t.Fatal("the kick has arrived")
		}
		c.setCut("a", "b", false)
		a.send(text(9, 2, 1)) // dials
		settle()
		if b.state(one) != "kicked" || b.state(later) != "in" {
			t.Errorf("one is %s, the later one %s", b.state(one), b.state(later))
		}
	}, "a", "b")
}

// FuzzServers gives bytes of other servers to a mesh.
func FuzzServers(f *testing.F) {
	for _, m := range []pb.Message{introduction(whereabouts.Node{Name: "b", Epoch: 1000},
		whereabouts.Node{Name: "a", Epoch: 1}), missedNote(5), pb.IMUserChangesNotify_builder{
		Changes: []*pb.UserChange{statusOfUser(1, on), pcOfUser(1, true)}}.Build(),
		text(1, 2, 3), &pb.IMUsersStatReq{}, &pb.IMServerKickUser{}} {
		body, _ := m.AppendBody(nil)
		f.Add(uint16(m.Command()), body, true)
	}
	f.Fuzz(func(t *testing.T, cmd uint16, body []byte, introduced bool) {
		inCluster(t, func(c *cluster, nodes []*node) {
			l, _ := dialed(nodes[0])
			if introduced {
				l = c.fromMesh(nodes[0], "b")
			}
			nodes[0].mesh.Servers().Frame(l, pdu.Header{Command: pb.Command(cmd)}, body)
			settle()
		}, "a")
	})
}
