package link

import (
	"bytes"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// largeRsp returns an answer to m with n users that echoes attach_data, as servers do.
func largeRsp(m pb.Message, n int) *pb.IMUsersStatRsp {
	rsp := statRsp(m)
	list := make([]*pb.UserStat, n)
	for i := range list {
		list[i] = pb.UserStat_builder{UserId: new(uint32(i + 1)),
			Status: pb.UserStatType_USER_STATUS_ONLINE.Enum()}.Build()
	}
	rsp.SetUserStatList(list)
	return rsp
}

// TestOnlyCallEncodedGetsEncodedAnswers checks that Call and CallEncoded return the same
// answer, and that Call never returns it encoded, also when the peer sent it encoded.
func TestOnlyCallEncodedGetsEncodedAnswers(t *testing.T) {
	for _, sends := range []string{"typed", "encoded"} {
		t.Run(sends, func(t *testing.T) {
			eachKind(t, func(t *testing.T, join joiner) {
				testEncodedAnswers(t, join, sends == "encoded")
			})
		})
	}
}

func testEncodedAnswers(t *testing.T, join joiner, encoded bool) {
	callee := newRecorder()
	callee.message = func(s *session.Link, seq uint16, m pb.Message) {
		rsp := pb.Message(largeRsp(m, 5000))
		if encoded {
			e, err := pb.Encode(rsp)
			if err != nil {
				t.Error(err)
			}
			rsp = e
		}
		if err := s.Send(seq, rsp); err != nil {
			t.Error(err)
		}
	}
	p := join(newRecorder(), callee)
	want, err := largeRsp(statReq(5), 5000).AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(t)
	var wg sync.WaitGroup
	for name, p := range map[string]Peer{"peer": p, "group": groupOf(p),
		"class": groupOf(p, p).Class(ClassLogin)} {
		wg.Add(2)
		p.Call(l, 1, 7, statReq(5), func(m pb.Message, err error) {
			defer wg.Done()
			rsp, ok := m.(*pb.IMUsersStatRsp)
			if !ok || err != nil || len(rsp.GetUserStatList()) != 5000 || rsp.HasAttachData() {
				t.Errorf("%s: Call: got %T, %v", name, m, err)
			}
		})
		p.CallEncoded(l, 1, 7, statReq(5), func(m pb.Message, err error) {
			defer wg.Done()
			if err != nil || m.(pb.Attachment).HasAttachData() {
				t.Errorf("%s: CallEncoded: %T, %v", name, m, err)
				return
			}
			body, err := m.AppendBody(nil)
			if err != nil || !bytes.Equal(body, want) {
				t.Errorf("%s: CallEncoded: another answer, %v", name, err)
			}
		})
	}
	wg.Wait()
}

// TestLargeAnswersArriveUndecoded checks answers of another process with attach_data at
// the beginning and at the end. A small answer is decoded.
func TestLargeAnswersArriveUndecoded(t *testing.T) {
	r := newRig(t)
	caller := newRecorder()
	p := dial(t, Options{Name: "peer", Addr: r.addr(), Handler: caller})
	w := r.accept()
	<-caller.opened
	call := func() chan result {
		c := make(chan result, 2)
		p.CallEncoded(nil, 1, 7, statReq(5), func(m pb.Message, err error) { c <- result{m, err} })
		return c
	}
	answer := func(n int, first bool) {
		seq, m := w.read()
		rsp := largeRsp(m, n)
		attach := rsp.GetAttachData()
		if first {
			rsp.ClearAttachData()
		}
		frame, err := pdu.Append(nil, seq, rsp)
		if err != nil {
			t.Fatal(err)
		}
		if first {
			tag := protowire.AppendTag(nil, 20, protowire.BytesType)
			body := protowire.AppendBytes(tag, attach)
			body = append(body, frame[pdu.HeaderLen:]...)
			frame = pdu.AppendHeader(nil, rsp.Command(), seq)
			frame = append(frame, body...)
			frame[2], frame[3] = byte(len(frame)>>8), byte(len(frame))
			frame[1] = byte(len(frame) >> 16)
		}
		w.write(frame)
	}
	for _, first := range []bool{true, false} {
		c := call()
		answer(20_000, first)
		got := <-c
		e, ok := got.m.(*pb.Encoded)
		if !ok || got.err != nil || e.HasAttachData() {
			t.Fatalf("got %T, %v", got.m, got.err)
		}
		m, err := e.Decode()
		if err != nil || len(m.(*pb.IMUsersStatRsp).GetUserStatList()) != 20_000 {
			t.Errorf("it does not decode: %v", err)
		}
	}
	c := call()
	answer(1, false)
	if got := <-c; got.err != nil {
		t.Error(got.err)
	} else if _, ok := got.m.(*pb.IMUsersStatRsp); !ok {
		t.Errorf("a small answer came as %T", got.m)
	}
}

// TestMalformedAnswerIsNotPassedOn checks that the call still gets the well-formed answer
// behind it.
func TestMalformedAnswerIsNotPassedOn(t *testing.T) {
	r := newRig(t)
	caller := newRecorder()
	p := dial(t, Options{Name: "peer", Addr: r.addr(), Handler: caller})
	w := r.accept()
	<-caller.opened
	c := make(chan result, 1)
	p.CallEncoded(nil, 1, 7, statReq(5), func(m pb.Message, err error) { c <- result{m, err} })
	seq, m := w.read()
	frame, err := pdu.Append(nil, seq, largeRsp(m, 20_000))
	if err != nil {
		t.Fatal(err)
	}
	for i := pdu.HeaderLen; i < pdu.HeaderLen+20; i++ {
		frame[i] = 0xff
	}
	w.write(frame)
	w.send(seq, largeRsp(m, 20_000))
	if got := <-c; got.err != nil {
		t.Error(got.err)
	} else if e, ok := got.m.(*pb.Encoded); !ok || len(e.Shared()) == 0 {
		t.Errorf("got %T", got.m)
	}
}

func TestCallFailsWhenAnswerDoesNotDecode(t *testing.T) {
	callee := newRecorder()
	callee.message = func(s *session.Link, seq uint16, m pb.Message) {
		e, err := pb.ParseEncoded(pb.CmdUsersStatRsp, nil) // without the required user_id
		if err != nil {
			t.Error(err)
		}
		e.SetAttachData(m.(pb.Attachment).GetAttachData())
		if err := s.Send(seq, e); err != nil {
			t.Error(err)
		}
	}
	local, err := startLocal(LocalOptions{CallTimeout: patience, Callee: callee})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	wantKind(t, (<-ask(nil, local, 1, 7, statReq(5))).err, im.Malformed)
}
