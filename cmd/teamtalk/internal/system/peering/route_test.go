package peering

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// told is a handler that passes on the names in the messages that arrive.
type told chan string

func (h told) Open(*session.Link) error                      { return nil }
func (h told) Close(*session.Link, error)                    { h <- "closed" }
func (h told) Frame(_ *session.Link, _ pdu.Header, _ []byte) { h <- "frame" }
func (h told) Message(_ *session.Link, _ uint16, m pb.Message) {
	h <- m.(*pb.IMFileNotify).GetFileName()
}

// TestRouteServerLeaves: the messages that a route server passes on arrive after it has left, until
// it closes the link.
func TestRouteServerLeaves(t *testing.T) {
	a, got := newStand("a").listen(t), make(told, 10)
	l, v := newLinker(t, nil)
	g := open(t, l, Peers{Role: "route", Handler: got})
	v.Update([]registry.Node{a.node("route", "a")}, true)
	up(t, g, 1)
	v.Update(nil, true)
	eventually(t, "the end of requests", func() bool { return g.Empty() })
	var far *session.Link
	eventually(t, "the route server to have the link", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		far = a.last
		return far != nil
	})
	if err := far.Send(0, pb.IMFileNotify_builder{FromUserId: proto.Uint32(1),
		ToUserId: proto.Uint32(2), FileName: proto.String("late"), FileSize: proto.Uint32(1),
		TaskId: proto.String("1"), TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
		OfflineReady: proto.Uint32(0)}.Build()); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "late" {
		t.Errorf("got %s", m)
	}
	far.Close(nil)
	if m := <-got; m != "closed" {
		t.Errorf("got %s", m)
	}
}
