package httpapi

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// routeEnd takes what is sent on a link to a route server.
type routeEnd struct {
	mu   sync.Mutex // guards the following fields
	sent []pb.Message
	full bool
}

func (r *routeEnd) SendMessage(_ uint16, m pb.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return im.Errorf(im.Busy, "queue full")
	}
	r.sent = append(r.sent, m)
	return nil
}

func (*routeEnd) Close(error) {}

func (r *routeEnd) setFull(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = full
}

// take returns what was sent since the last call.
func (r *routeEnd) take() []pb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// wantSent checks what was sent since the last call: texts by their content, kicks by their
// user, each with its age.
func (r *routeEnd) wantSent(t *testing.T, want string) {
	t.Helper()
	var got []string
	for _, m := range r.take() {
		switch m := m.(type) {
		case *pb.MsgData:
			got = append(got, fmt.Sprintf("%s %v %d", m.Data, m.Resent, m.Age))
		case *pb.IMServerKickUser:
			got = append(got, fmt.Sprintf("kick %d %d", m.GetUserId(), m.GetAge()))
		}
	}
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

const (
	resends  = pb.ServerFeature_SERVER_FEATURE_RESENT
	refusals = pb.ServerFeature_SERVER_FEATURE_REFUSALS
)

// openRoutes returns a Routes with a link.
func openRoutes(t *testing.T) (*Routes, *session.Link, *routeEnd) {
	t.Helper()
	r, end := NewRoutes(time.Now, nil), &routeEnd{}
	link := session.NewLink(session.NextID(), "route", end)
	if err := r.Open(link); err != nil {
		t.Fatal(err)
	}
	sent := end.take()
	if m, ok := sent[0].(*pb.IMRoleSet); !ok || m.GetFeatures() != uint32(resends|refusals) {
		t.Errorf("the link opens with %v", sent)
	}
	return r, link, end
}

// keepKick keeps a kick that a route server got.
func keepKick(t *testing.T, r *Routes, user uint32) {
	t.Helper()
	_, err := r.sendKick(&routePeer{}, &sentKick{user: user,
		class: pb.ClientType_CLIENT_TYPE_IOS, done: make(chan struct{})})
	if err != nil {
		t.Fatal(err)
	}
}

// TestResend: what a message server may have missed is sent again, with its age, and all of
// it on a new link. Nothing is sent to a C++ route server, whose message servers would take
// each text for a new one.
func TestResend(t *testing.T) { synctest.Test(t, testResend) }

func testResend(t *testing.T) {
	r, link, end := openRoutes(t)
	r.keepText(&pb.MsgData{Data: []byte("old")})
	keepKick(t, r, 7)
	time.Sleep(36 * time.Second)
	r.keepText(&pb.MsgData{Data: []byte("new")})
	keepKick(t, r, 8)
	time.Sleep(1500 * time.Microsecond)

	r.Message(link, 0, roleOf(resends, time.Millisecond))
	end.wantSent(t, "[kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(resends, 2*time.Second))
	end.wantSent(t, "[kick 7 36001 kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(resends, 0)) // the answer on a new link
	end.wantSent(t, "[kick 7 36001 kick 8 1 new true 2]")
	r.Message(link, 0, roleOf(0, 0))
	r.Message(link, 0, pb.IMRoleSet_builder{Master: proto.Uint32(0)}.Build())
	r.Message(link, 0, &pb.MsgData{})
	end.setFull(true)
	r.Message(link, 0, roleOf(resends, 0))
	end.setFull(false)
	end.wantSent(t, "[]")
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	end.wantSent(t, "[]")
	r.Message(link, 0, roleOf(resends, 0))
	end.wantSent(t, "[]")
}

// TestResendBounds: the oldest texts and kicks are forgotten and counted.
func TestResendBounds(t *testing.T) { synctest.Test(t, testResendBounds) }

func testResendBounds(t *testing.T) {
	r, link, end := openRoutes(t)
	for range maxKicks + 2 {
		keepKick(t, r, 7)
	}
	for range maxTextBytes/(1<<20) + 1 {
		r.keepText(&pb.MsgData{Data: make([]byte, 1<<20)})
	}
	r.Message(link, 0, roleOf(resends, 0))
	if n := len(end.take()); n != maxKicks+maxTextBytes/(1<<20)-1 {
		t.Errorf("%d are sent again", n)
	}
	if r.texts.bytes > maxTextBytes || len(r.kicks.list) != maxKicks {
		t.Errorf("%d bytes of texts and %d kicks are kept", r.texts.bytes, len(r.kicks.list))
	}
}
