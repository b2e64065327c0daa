package dbproxy_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

// TestAnswersInParts checks that a server that puts answers together gets one that is longer
// than a frame, shared or not, and that it is refused above the bound for it.
func TestAnswersInParts(t *testing.T) {
	h := open(t, options{users: 200, db: dbproxy.Options{MaxFrame: 4096, MaxAnswer: 6000}})
	whole, p := h.dial(), h.dial()
	both := features()
	both.SetFeatures(both.GetFeatures() | uint32(pb.ServerFeature_SERVER_FEATURE_PARTS))
	p.send(0, both)
	all := pb.IMAllUserReq_builder{UserId: proto.Uint32(1), LatestUpdateTime: proto.Uint32(0),
		AttachData: []byte("way back")}.Build()
	some := func(n uint32) pb.Message {
		return pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1), UserIdList: numbers(n),
			AttachData: []byte("way back")}.Build()
	}
	for seq, req := range []pb.Message{some(120), all} {
		p.send(uint16(seq+1), req)
		if req == all {
			m := answer[*pb.IMRequestRefused](p, uint16(seq+1))
			if !m.GetTooLong() || !strings.Contains(m.GetReason(), "link.max_answer") {
				t.Errorf("above the bound: %v", m)
			}
			continue
		}
		var body []byte
		parts := 0
		for total := 1; len(body) < total; parts++ {
			m := answer[*pb.IMAnswerPart](p, uint16(seq+1))
			if string(m.GetAttachData()) != "way back" || int(m.GetOffset()) != len(body) ||
				len(m.GetData()) > 2048 || m.GetCommand() != uint32(pb.CmdUsersInfoRsp) {
				t.Fatalf("part %d: %v", parts, m)
			}
			total = int(m.GetTotal())
			body = append(body, m.GetData()...)
		}
		var got pb.IMUsersInfoRsp
		err := got.ParseBody(body)
		if n := len(got.GetUserInfoList()); err != nil || n != 120 || parts < 3 {
			t.Errorf("%d users in %d parts, %v", n, parts, err)
		}
	}
	// A server that did not say so gets a short answer as before, and no part.
	rsp := ask[*pb.IMUsersInfoRsp](whole, 1, some(2))
	if !bytes.Equal(rsp.GetAttachData(), []byte("way back")) {
		t.Errorf("got %v", rsp)
	}
}

// TestAnswerInPartsArrives calls a db_proxy over a link that puts answers together.
func TestAnswerInPartsArrives(t *testing.T) {
	h := open(t, options{users: 200, db: dbproxy.Options{MaxFrame: 4096}})
	g := calls(t, h)
	got := make(chan pb.Message, 1)
	g.CallEncoded(nil, 1, 1, pb.IMAllUserReq_builder{UserId: proto.Uint32(1),
		LatestUpdateTime: proto.Uint32(0)}.Build(), func(m pb.Message, err error) {
		if err != nil {
			t.Error(err)
		}
		got <- m
	})
	m := <-got
	if e, ok := m.(*pb.Encoded); ok {
		m, _ = e.Decode()
	}
	if rsp, ok := m.(*pb.IMAllUserRsp); !ok || len(rsp.GetUserList()) != 200 {
		t.Errorf("got %v", m)
	}
}
