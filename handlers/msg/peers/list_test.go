package peers

import (
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// smallestFrame is the smallest allowed value of the setting link.max_frame.
const smallestFrame = 1 << 20

// routeStand takes what a route server is told. It refuses frames that are longer than
// smallestFrame, and everything after room frames.
type routeStand struct {
	room  int
	lists []*pb.IMOnlineUserInfo
}

func (r *routeStand) SendMessage(seq uint16, m pb.Message) error {
	if r.room--; r.room < 0 {
		return im.Errorf(im.Busy, "queue full")
	}
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		return err
	}
	if list, ok := m.(*pb.IMOnlineUserInfo); ok {
		r.lists = append(r.lists, list)
	}
	return pdu.TooLong(m.Command(), len(frame), smallestFrame)
}

func (r *routeStand) Close(error) {}

// linksWith returns Links with clients of n users, whose entries in a list are as long as
// they get.
func linksWith(n uint32) *Links {
	online := session.NewRegistry()
	for i := range n {
		online.Add(&session.Client{User: 1<<32 - 1 - i,
			ClientType: pb.ClientType_CLIENT_TYPE_ANDROID})
	}
	return New(Options{Online: online, Acks: func(*session.Client) bool { return true },
		RouteChanged: func() {}, Now: time.Now})
}

// wantOnce checks that lists have n users, each once, and that each part says what was
// before it.
func wantOnce(t *testing.T, lists []*pb.IMOnlineUserInfo, n int) {
	t.Helper()
	seen := map[uint32]bool{}
	for i, m := range lists {
		if len(lists) == 1 && (m.HasOffset() || m.HasTotal()) {
			t.Errorf("the only list says that it is a part of %d", m.GetTotal())
		}
		if len(lists) > 1 && (m.GetOffset() != uint32(len(seen)) || m.GetTotal() != uint32(n)) {
			t.Errorf("part %d is at %d of %d, after %d users of %d", i, m.GetOffset(),
				m.GetTotal(), len(seen), n)
		}
		for _, u := range m.GetUserStatList() {
			if seen[u.GetUserId()] {
				t.Fatalf("user %d is listed twice", u.GetUserId())
			}
			seen[u.GetUserId()] = true
		}
	}
	if len(seen) != n {
		t.Errorf("%d users in %d lists, want %d", len(seen), len(lists), n)
	}
}

// TestLongListOfClients: the list of more clients than a frame has room for is sent in
// parts, when a link opens and when it missed an update.
func TestLongListOfClients(t *testing.T) {
	const n = 72_000
	p := linksWith(n)
	end := p.RouteEnd(router.New[*session.Link](router.Options{Role: "msg"}))
	stand := &routeStand{room: 100}
	link := session.NewLink(session.NextID(), "route", stand)
	if err := end.Open(link); err != nil {
		t.Fatalf("the link does not open: %v", err)
	}
	wantOnce(t, stand.lists, n)

	p.behind[link] = struct{}{}
	stand.room, stand.lists = 1, nil
	p.CatchUp()
	stand.room, stand.lists = 100, nil
	p.CatchUp()
	wantOnce(t, stand.lists, n)
	if len(p.behind) > 0 {
		t.Error("the link is still behind")
	}
}

// TestShortListOfClients: a list that fits a frame is sent whole, as servers of the first
// implementation send it.
func TestShortListOfClients(t *testing.T) {
	for _, n := range []uint32{0, 3} {
		p := linksWith(n)
		stand := &routeStand{room: 100}
		end := p.RouteEnd(router.New[*session.Link](router.Options{Role: "msg"}))
		if err := end.Open(session.NewLink(session.NextID(), "route", stand)); err != nil {
			t.Fatal(err)
		}
		if len(stand.lists) != 1 {
			t.Errorf("%d lists for %d clients", len(stand.lists), n)
		}
		wantOnce(t, stand.lists, int(n))
	}
}
