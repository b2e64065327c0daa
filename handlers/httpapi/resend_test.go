package httpapi

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// routeEnd takes what is sent on a link to a route server.
type routeEnd struct {
	sent []pb.Message
	full bool
}

func (r *routeEnd) SendMessage(_ uint16, m pb.Message) error {
	if r.full {
		return im.Errorf(im.Busy, "queue full")
	}
	r.sent = append(r.sent, m)
	return nil
}

func (*routeEnd) Close(error) {}

// wantSent checks what was sent since the last call: texts by their content, kicks by their
// user, each with its age.
func (r *routeEnd) wantSent(t *testing.T, want string) {
	t.Helper()
	var got []string
	for _, m := range r.sent {
		switch m := m.(type) {
		case *pb.MsgData:
			got = append(got, fmt.Sprintf("%s %v %d", m.Data, m.Resent, m.Age))
		case *pb.IMServerKickUser:
			got = append(got, fmt.Sprintf("kick %d %d", m.GetUserId(), m.GetAge()))
		}
	}
	r.sent = nil
	if fmt.Sprint(got) != want {
		t.Errorf("sent %q, want %s", got, want)
	}
}

// roleOf is what a route server says of its features, and of a message server that had no
// link.
func roleOf(features pb.ServerFeature, missed time.Duration) *pb.IMRoleSet {
	m := pb.IMRoleSet_builder{Master: proto.Uint32(0), Features: proto.Uint32(uint32(features))}
	if missed > 0 {
		m.Missed = proto.Uint32(uint32(missed.Milliseconds()))
	}
	return m.Build()
}

const resends = pb.ServerFeature_SERVER_FEATURE_RESENT

// openRoutes returns a Routes with a link, and its clock.
func openRoutes(t *testing.T) (*Routes, *session.Link, *routeEnd, *time.Time) {
	t.Helper()
	now := time.Now()
	r, end := NewRoutes(func() time.Time { return now }, nil), &routeEnd{}
	link := session.NewLink(session.NextID(), "route", end)
	if err := r.Open(link); err != nil {
		t.Fatal(err)
	}
	if m, ok := end.sent[0].(*pb.IMRoleSet); !ok || m.GetFeatures() != uint32(resends) {
		t.Errorf("the link opens with %v", end.sent)
	}
	end.sent = nil
	return r, link, end, &now
}

// TestResend: what a message server may have missed is sent again, with its age, and all of
// it on a new link. Nothing is sent to a C++ route server, whose message servers would take
// each text for a new one.
func TestResend(t *testing.T) {
	r, link, end, now := openRoutes(t)
	r.keepText(&pb.MsgData{Data: []byte("old")})
	r.keepKick(7, pb.ClientType_CLIENT_TYPE_IOS)
	*now = now.Add(36 * time.Second)
	r.keepText(&pb.MsgData{Data: []byte("new")})
	r.keepKick(8, pb.ClientType_CLIENT_TYPE_IOS)
	*now = now.Add(1500 * time.Microsecond)

	r.Message(link, 0, roleOf(resends, time.Millisecond))
	end.wantSent(t, "[kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(resends, 2*time.Second))
	end.wantSent(t, "[kick 7 36001 kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(resends, 0)) // the answer on a new link
	end.wantSent(t, "[kick 7 36001 kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(0, 0))
	r.Message(link, 0, pb.IMRoleSet_builder{Master: proto.Uint32(0)}.Build())
	r.Message(link, 0, &pb.MsgData{})
	end.full = true
	r.Message(link, 0, roleOf(resends, 0))
	end.full = false
	end.wantSent(t, "[]")
	*now = now.Add(10 * time.Minute)
	r.Message(link, 0, roleOf(resends, 0))
	end.wantSent(t, "[]")
}

// TestResendBounds: the oldest texts and kicks are forgotten and counted.
func TestResendBounds(t *testing.T) {
	r, link, end, _ := openRoutes(t)
	for range maxKicks + 2 {
		r.keepKick(7, pb.ClientType_CLIENT_TYPE_IOS)
	}
	for range maxTextBytes/(1<<20) + 1 {
		r.keepText(&pb.MsgData{Data: make([]byte, 1<<20)})
	}
	r.Message(link, 0, roleOf(resends, 0))
	if n := len(end.sent); n != maxKicks+maxTextBytes/(1<<20)-1 {
		t.Errorf("%d are sent again", n)
	}
	if r.texts.bytes > maxTextBytes || len(r.kicks.list) != maxKicks {
		t.Errorf("%d bytes of texts and %d kicks are kept", r.texts.bytes, len(r.kicks.list))
	}
}
