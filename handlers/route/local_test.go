package route_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/handlers/route"
	"teamtalk/proto/pb"
)

// heard is a message server in the process of the route server. It collects the messages
// that it receives.
type heard struct{ messages chan pb.Message }

func (h heard) Open(*session.Link) error                        { return nil }
func (h heard) Frame(*session.Link, pdu.Header, []byte)         {}
func (h heard) Message(_ *session.Link, _ uint16, m pb.Message) { h.messages <- m }
func (h heard) Close(*session.Link, error)                      { close(h.messages) }

// TestInProcess: a message server in the route server's process and one behind TCP
// receive each other's notifies and messages.
func TestInProcess(t *testing.T) {
	l := listen(t)
	dial := l.serve(t, route.Options{})
	here := heard{make(chan pb.Message, 100)}
	pipe, err := link.Local(link.LocalOptions{Name: "route", Caller: here, Callee: l,
		CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	there := dial()
	send := func(m pb.Message) {
		t.Helper()
		if err := pipe.Send(0, 0, m); err != nil {
			t.Fatal(err)
		}
	}
	expectHere := func(want ...pb.Message) {
		t.Helper()
		for _, w := range want {
			if m := <-here.messages; toFrame(t, 0, m) != toFrame(t, 0, w) {
				t.Errorf("here: %v, want %v", m, w)
			}
		}
	}
	send(online(1, windows))
	expectHere(pcNotify(1, 1), statNotify(1, statOnline))
	handled(t, pipe) // the notifies to there follow those to here
	expect(t, "there", there.settle(), pcNotify(1, 1), statNotify(1, statOnline))
	there.send(0, online(2, windows))
	there.settle()
	expectHere(pcNotify(2, 1), statNotify(2, statOnline))

	message := &pb.MsgData{FromUserID: 2, ToSessionID: 1, MsgID: 3, CreateTime: 4,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("text")}
	there.send(0, message)
	expectHere(message)
	answered := make(chan *pb.IMUsersStatRsp, 1)
	pipe.Call(nil, 0, 0, pb.IMUsersStatReq_builder{UserId: proto.Uint32(1),
		UserIdList: []uint32{2}}.Build(), func(m pb.Message, err error) {
		if err != nil {
			t.Error(err)
		}
		rsp, _ := m.(*pb.IMUsersStatRsp)
		answered <- rsp
	})
	if rsp := <-answered; rsp.GetUserStatList()[0].GetStatus() != statOnline {
		t.Errorf("answer %v", rsp)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	got := append(there.settle(), there.settle()...)
	expect(t, "there", got[len(got)-1:], statNotify(1, statOffline))
}

// handled waits until the messages that were sent through a pipe are handled, one after the
// other: an answer says that those before it are.
func handled(t *testing.T, pipe *link.Pipe) {
	t.Helper()
	done := make(chan error, 1)
	pipe.Call(nil, 0, 0, pb.IMUsersStatReq_builder{UserId: proto.Uint32(0)}.Build(),
		func(_ pb.Message, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
