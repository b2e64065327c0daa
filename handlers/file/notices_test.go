package file_test

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// routeEnd takes what is sent to a route server.
type routeEnd struct {
	mu   sync.Mutex // guards the following fields
	sent []*pb.IMFileNotify
	full bool
}

func (r *routeEnd) SendMessage(_ uint16, m pb.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return im.Errorf(im.Busy, "queue full")
	}
	if n, ok := m.(*pb.IMFileNotify); ok {
		r.sent = append(r.sent, n)
	}
	return nil
}

func (*routeEnd) Close(error) {}

// of returns the notifies of a task.
func (r *routeEnd) of(task string) (list []*pb.IMFileNotify) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.sent {
		if n.GetTaskId() == task {
			list = append(list, n)
		}
	}
	return list
}

// join opens a link to a route server with these features.
func join(t *testing.T, r *file.Routes, features pb.ServerFeature, full bool) (*session.Link,
	*routeEnd) {
	t.Helper()
	end := &routeEnd{}
	link := session.NewLink(session.NextID(), "route", end)
	if err := r.Open(link); err != nil {
		t.Fatal(err)
	}
	end.full = full
	r.Message(link, 0, pb.IMRoleSet_builder{Master: proto.Uint32(0),
		Features: proto.Uint32(uint32(features))}.Build())
	return link, end
}

// TestNoticesRepeated: while a sender waits, the receiver's notify is repeated over a route
// server that passes it on, until the receiver has logged in.
func TestNoticesRepeated(t *testing.T) {
	routes := &file.Routes{}
	h := open(t, file.Options{Routes: routes})
	_, older := join(t, routes, pb.ServerFeature_SERVER_FEATURE_RESENT, false)
	gone, _ := join(t, routes, pb.ServerFeature_SERVER_FEATURE_FILES, false)
	routes.Close(gone, nil)
	_, full := join(t, routes, pb.ServerFeature_SERVER_FEATURE_FILES, true)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.server.RunNotices(ctx) })
	defer running.Wait()
	defer cancel()

	unwanted, met, waits := h.task(1, 2, 100, online), h.task(1, 2, 100, online),
		h.task(1, 2, 100, online)
	h.in(1, met, sender)
	h.in(2, met, receiver)
	h.in(1, waits, sender)
	h.until("no route server takes it", func() bool {
		return h.metric("teamtalk_file_notices_repeated_total") > 0
	})
	_, end := join(t, routes, pb.ServerFeature_SERVER_FEATURE_FILES, false)
	h.until("the notify is repeated", func() bool { return len(end.of(waits)) >= 2 })
	n := end.of(waits)[0]
	want := pb.IMFileNotify_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(2),
		FileName: proto.String("a.bin"), FileSize: proto.Uint32(100), TaskId: &waits,
		IpAddrList: []*pb.IpAddr{pb.IpAddr_builder{Ip: proto.String("127.0.0.1"),
			Port: proto.Uint32(15860)}.Build()}, TransMode: online.Enum(),
		OfflineReady: proto.Uint32(0), Age: proto.Uint32(n.GetAge())}.Build()
	if !proto.Equal(n, want) || n.GetAge() < 1000 || n.GetAge() >= end.of(waits)[1].GetAge() {
		t.Errorf("notify %v, want %v", n, want)
	}
	if len(end.of(unwanted)) > 0 || len(end.of(met)) > 0 {
		t.Error("a notify is repeated without a sender that waits")
	}
	if len(older.of(waits)) > 0 || len(full.of(waits)) > 0 {
		t.Error("a notify went to another route server")
	}

	h.in(2, waits, receiver)
	before, next := len(end.of(waits)), h.task(1, 2, 100, online)
	h.in(1, next, sender)
	h.until("the next notify is repeated", func() bool { return len(end.of(next)) >= 2 })
	// One may have been sent while the receiver logged in.
	if after := len(end.of(waits)); after > before+1 {
		t.Errorf("%d notifies after the login of the receiver", after-before)
	}
}
