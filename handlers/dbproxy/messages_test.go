package dbproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

func text(from, to uint32, body string) *pb.MsgData {
	return &pb.MsgData{FromUserID: from, ToSessionID: to, CreateTime: 1_700_000_000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// TestPreviousIsAskedFor: only a message server that asks for the id before a message
// receives it.
func TestPreviousIsAskedFor(t *testing.T) {
	p := open(t, options{}).dial()
	for i, asks := range []bool{true, false, true} {
		m := text(1, 2, "a")
		m.HasPrevID = asks
		rsp := ask[*pb.MsgData](p, 7, m)
		if id := uint32(i + 1); rsp.MsgID != id || rsp.HasPrevID != asks ||
			rsp.PrevID != 0 && rsp.PrevID != id-1 {
			t.Errorf("asked %v, answered %+v", asks, rsp)
		}
	}
}

// twoProcesses is a store whose messages follow those of another process.
type twoProcesses struct{ im.Store }

func (s twoProcesses) AppendMessages(ctx context.Context, batch []*im.Message) {
	s.Store.AppendMessages(ctx, batch)
	for _, m := range batch {
		if m.AskPrevious {
			m.Previous = m.ID - 1
		}
	}
}

// TestPreviousOfAnotherProcess: the first message behind that of another db_proxy names it.
func TestPreviousOfAnotherProcess(t *testing.T) {
	h := open(t, options{stored: func(s im.Store) im.Store { return twoProcesses{s} }})
	h.store.AppendMessages(t.Context(), []*im.Message{{From: 2, To: 1, Created: 1_700_000_000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("first")}})
	m := text(1, 2, "second")
	m.HasPrevID = true
	if rsp := ask[*pb.MsgData](h.dial(), 7, m); rsp.MsgID != 2 || rsp.PrevID != 1 {
		t.Errorf("answered %+v", rsp)
	}
}

// TestMessage checks the answer to each kind of message, and what the store contains
// afterwards.
func TestMessage(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	with := func(m *pb.MsgData, change func(m *pb.MsgData)) *pb.MsgData { change(m); return m }
	for i, test := range []struct {
		name string
		m    *pb.MsgData
		id   uint32
		dup  bool
	}{
		{"first", text(1, 2, "a"), 1, false},
		{"back", text(2, 1, "b"), 2, false},
		{"same content is another message", text(2, 1, "b"), 3, false},
		{"other conversation", text(3, 1, "c"), 1, false},
		{"id of the client is ignored", with(text(1, 2, "d"), func(m *pb.MsgData) { m.MsgID = 77 }),
			4, false},
		{"client id", with(text(1, 2, "e"), func(m *pb.MsgData) { m.ClientMsgID = []byte("x") }), 5,
			false},
		{"client id again", with(text(1, 2, "e"),
			func(m *pb.MsgData) { m.ClientMsgID = []byte("x") }), 5, true},
		{"empty client id is none", with(text(1, 2, "f"),
			func(m *pb.MsgData) { m.ClientMsgID = []byte{} }), 6, false},
		{"empty client id again", with(text(1, 2, "f"),
			func(m *pb.MsgData) { m.ClientMsgID = []byte{} }), 7, false},
		{"client id too long", with(text(1, 2, "g"),
			func(m *pb.MsgData) { m.ClientMsgID = make([]byte, im.MaxClientID+1) }), 0, false},
		{"nobody", with(text(1, 99, "h"), func(m *pb.MsgData) { m.MsgID = 77 }), 0, false},
		{"to self", text(1, 1, "i"), 0, false},
		{"from nobody", text(0, 1, "i"), 0, false},
		{"empty", text(1, 2, ""), 0, false},
		{"too long", text(1, 2, strings.Repeat("x", im.MaxContent+1)), 0, false},
		{"audio", with(text(1, 2, "j"),
			func(m *pb.MsgData) { m.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO }), 0, false},
		{"group", with(text(1, 2, "j"),
			func(m *pb.MsgData) { m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT }), 0, false},
		{"after failures", text(1, 2, "k"), 8, false},
		{"long attachment", with(text(1, 2, "l"),
			func(m *pb.MsgData) { m.AttachData = bytes.Repeat([]byte{9}, 5000) }), 9, false},
		{"empty attachment", with(text(1, 2, "m"), func(m *pb.MsgData) { m.AttachData = []byte{} }),
			10, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			seq := uint16(100 + i)
			want := *test.m
			want.MsgID, want.Duplicate = test.id, test.dup
			p.send(seq, test.m)
			_, m, got := p.read()
			if test.dup { // by the clock of the store, which does not keep that of the message
				want.CreateTime = m.(*pb.MsgData).CreateTime
			}
			if frame, err := pdu.Append(nil, seq, &want); err != nil || !bytes.Equal(got, frame) {
				t.Errorf("got %+v, want %+v, %v", m, &want, err)
			}
		})
	}
	if n, err := h.store.LatestID(t.Context(), 1, 2); err != nil || n != 10 {
		t.Errorf("latest id %d, %v", n, err)
	}
}

// TestOrder: many servers write in the same conversations at the same time. Each receives
// its answers with increasing ids per conversation, every id is assigned once, and the
// history contains each message under the id in its answer.
func TestOrder(t *testing.T) {
	h := open(t, options{batches: pool.BatchOptions[*dbproxy.Pending]{MaxItems: 16}})
	const servers, each = 4, 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := map[uint32]string{}
	for n := range servers {
		p := h.dial()
		wg.Go(func() {
			var frames []byte
			for i := range each {
				from, to := uint32(1+(n+i)%2), uint32(1+(n+i+1)%2)
				var err error
				if frames, err = pdu.Append(frames, uint16(i),
					text(from, to, fmt.Sprintf("%d/%d", n, i))); err != nil {
					t.Error(err)
					return
				}
			}
			p.write(frames)
			last := uint32(0)
			for i := range each {
				m := answer[*pb.MsgData](p, uint16(i)) // in the order of the requests
				if m.MsgID <= last {
					t.Errorf("id %d after %d", m.MsgID, last)
				}
				last = m.MsgID
				mu.Lock()
				if other, twice := given[m.MsgID]; twice {
					t.Errorf("id %d for %s and %s", m.MsgID, other, m.Data)
				}
				given[m.MsgID] = string(m.Data)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	list, err := h.store.History(t.Context(), 1, 2, 0, servers*each)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range list {
		if want := uint32(servers*each - i); m.ID != want || given[m.ID] != string(m.Data) {
			t.Errorf("history %d is %d %q, want %d %q", i, m.ID, m.Data, want, given[want])
		}
	}
	if len(list) != servers*each {
		t.Errorf("%d messages in history", len(list))
	}
}

// TestFailures checks the answers when the store fails or panics.
func TestFailures(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	for name, hook := range map[string]func() error{
		"unavailable": func() error { return im.Errorf(im.Unavailable, "database is away") },
		"internal":    func() error { return errors.New("broken") },
		"panic":       func() error { panic("test") },
	} {
		t.Run(name, func(t *testing.T) {
			h.store.set(hook)
			p.send(1, unreadOf(2)) // not answered
			if m := ask[*pb.MsgData](p, 2, text(1, 2, "a")); m.MsgID != 0 {
				t.Errorf("message stored: %+v", m)
			}
			first := validateReq("u00001", "pw").(*pb.IMValidateReq)
			first.ClearTellFailure() // as servers of the first implementation do
			p.send(5, first)         // not answered
			rsp := ask[*pb.IMValidateRsp](p, 3, validateReq("u00001", "pw"))
			if rsp.GetResultCode() != 2 || rsp.GetResultString() != "服务端内部错误" ||
				rsp.HasUserInfo() || string(rsp.GetAttachData()) != "way back" {
				t.Errorf("login answered %v", rsp)
			}
			h.store.set(nil)
			if rsp := ask[*pb.IMValidateRsp](p, 4,
				validateReq("u00001", "pw")); rsp.GetResultCode() != 0 {
				t.Errorf("login afterwards answered %v", rsp)
			}
		})
	}
	if m := ask[*pb.MsgData](p, 2, text(1, 2, "a")); m.MsgID != 1 {
		t.Errorf("message afterwards: %+v", m)
	}
}

// gate blocks calls of the store: reached receives one value for each call that waits,
// and open lets one call pass.
type gate struct{ reached, open chan struct{} }

func (h *house) gate() *gate {
	g := &gate{make(chan struct{}, 100), make(chan struct{})}
	h.store.set(func() error {
		g.reached <- struct{}{}
		<-g.open
		return nil
	})
	return g
}

// TestBusy: with full queues all requests are refused at once.
func TestBusy(t *testing.T) {
	h := open(t, options{pool: pool.Options{Workers: 2, BatchWorkers: 1, Queue: 1, StrandQueue: 1},
		batches: pool.BatchOptions[*dbproxy.Pending]{QueueItems: 1}})
	g := h.gate()
	p := h.dial()
	p.send(1, unreadOf(1)) // on the worker
	<-g.reached
	p.send(2, unreadOf(1)) // refused without an answer
	rsp := ask[*pb.IMValidateRsp](p, 3, validateReq("u00001", "pw"))
	if rsp.GetResultCode() != 2 || rsp.GetResultString() != "服务器繁忙，请稍后再试" {
		t.Errorf("login answered %v", rsp)
	}
	p.send(4, text(1, 2, "in the store"))
	<-g.reached
	p.send(5, text(1, 2, "in the queue"))
	if m := ask[*pb.MsgData](p, 6, text(1, 2, "refused")); m.MsgID != 0 {
		t.Errorf("refused message has id %d", m.MsgID)
	}
	h.store.set(nil)
	close(g.open)
	got := map[uint16]pb.Message{}
	for range 3 {
		seq, m, _ := p.read()
		got[seq] = m
	}
	if m, ok := got[4].(*pb.MsgData); !ok || m.MsgID != 1 {
		t.Errorf("first message: %+v", got[4])
	}
	if m, ok := got[5].(*pb.MsgData); !ok || m.MsgID != 2 {
		t.Errorf("second message: %+v", got[5])
	}
	if _, ok := got[1].(*pb.IMUnreadMsgCntRsp); !ok {
		t.Errorf("query: %+v", got[1])
	}
}

// TestTooLate: a request that waited until its caller gave up is not run.
func TestTooLate(t *testing.T) {
	h := open(t, options{pool: pool.Options{Workers: 2, BatchWorkers: 1, Strands: 1},
		db: dbproxy.Options{Timeout: 10 * time.Second}})
	g := h.gate()
	p := h.dial()
	p.send(1, unreadOf(1))
	p.send(2, text(1, 2, "in time"))
	<-g.reached
	<-g.reached
	p.send(3, unreadOf(1)) // waits behind 1, is never answered
	p.send(4, validateReq("u00001", "pw"))
	p.send(5, text(1, 2, "too late"))
	// The answer shows that the others are in their queues.
	if m := ask[*pb.MsgData](p, 6, text(1, 2, "")); m.MsgID != 0 {
		t.Errorf("empty message: %+v", m)
	}
	h.clock.Add(11 * time.Second)
	h.store.set(nil)
	close(g.open)
	got := map[uint16]pb.Message{}
	for range 4 {
		seq, m, _ := p.read()
		got[seq] = m
	}
	if m, ok := got[2].(*pb.MsgData); !ok || m.MsgID != 1 {
		t.Errorf("message in time: %+v", got[2])
	}
	if m, ok := got[5].(*pb.MsgData); !ok || m.MsgID != 0 {
		t.Errorf("message too late: %+v", got[5])
	}
	if rsp, ok := got[4].(*pb.IMValidateRsp); !ok || rsp.GetResultCode() != 2 ||
		rsp.GetResultString() != "服务器繁忙，请稍后再试" {
		t.Errorf("login too late: %+v", got[4])
	}
	if _, ok := got[1].(*pb.IMUnreadMsgCntRsp); !ok {
		t.Errorf("query in time: %+v", got[1])
	}
	if m := ask[*pb.MsgData](p, 7, text(1, 2, "after")); m.MsgID != 2 {
		t.Errorf("message after: %+v", m)
	}
}

// TestTooLateToStore: a message is refused as soon as storing it could take longer than
// its caller waits.
func TestTooLateToStore(t *testing.T) {
	h := open(t, options{pool: pool.Options{Workers: 1, BatchWorkers: 1, Strands: 1},
		db: dbproxy.Options{Timeout: 10 * time.Second}})
	g := h.gate()
	p := h.dial()
	p.send(1, text(1, 2, "in time"))
	<-g.reached
	p.send(2, text(1, 2, "too late"))
	// The answer shows that the other is in its queue.
	if m := ask[*pb.MsgData](p, 3, text(1, 2, "")); m.MsgID != 0 {
		t.Errorf("empty message: %+v", m)
	}
	h.clock.Add(6 * time.Second)
	h.store.set(nil)
	close(g.open)
	for want := range 2 {
		if seq, m, _ := p.read(); m.(*pb.MsgData).MsgID != uint32(1-want) {
			t.Errorf("message %d: %+v", seq, m)
		}
	}
}

// TestDrain: accepted requests are completed, later ones are refused.
func TestDrain(t *testing.T) {
	h := open(t, options{})
	g := h.gate()
	p, q := h.dial(), h.dial()
	if rsp := ask[*pb.IMDeviceTokenRsp](q, 1,
		pb.IMDeviceTokenReq_builder{UserId: proto.Uint32(1),
			DeviceToken: proto.String("")}.Build()); !rsp.HasAttachData() {
		t.Error("no attach_data") // the first implementation always sends it
	}
	p.send(1, text(1, 2, "a"))
	<-g.reached

	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.server.Drain(short); im.KindOf(err) != im.Closed ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("drain without patience: %v", err)
	}
	for _, c := range []*peer{p, q} {
		if m := answer[*pb.IMStopReceivePacket](c, 0); m.GetResult() != 0 {
			t.Errorf("stop: %v", m)
		}
	}
	q.send(2, unreadOf(1)) // not answered
	if m := ask[*pb.MsgData](q, 3, text(2, 1, "b")); m.MsgID != 0 {
		t.Errorf("message while draining: %+v", m)
	}
	if rsp := ask[*pb.IMValidateRsp](q, 4, validateReq("u00001", "pw")); rsp.GetResultCode() != 2 {
		t.Errorf("login while draining: %v", rsp)
	}
	drained := make(chan error, 1)
	go func() { drained <- h.server.Drain(context.Background()) }()
	select {
	case err := <-drained:
		t.Fatalf("drained before the message was stored: %v", err)
	case g.open <- struct{}{}:
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if m := answer[*pb.MsgData](p, 1); m.MsgID != 1 {
		t.Errorf("accepted message: %+v", m)
	}
}

func unreadOf(user uint32) pb.Message {
	return pb.IMUnreadMsgCntReq_builder{UserId: proto.Uint32(user),
		AttachData: []byte("way back")}.Build()
}

func validateReq(name, password string) pb.Message {
	return pb.IMValidateReq_builder{UserName: proto.String(name),
		Password:   proto.String(im.ClientPassword(password)),
		AttachData: []byte("way back"), TellFailure: proto.Bool(true)}.Build()
}
