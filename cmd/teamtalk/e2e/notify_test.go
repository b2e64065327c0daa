//go:build linux

package e2e

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// pushServer stands in for a push server: it keeps what message servers ask of it.
type pushServer struct {
	t    testing.TB
	reqs chan *pb.IMPushToUserReq

	mu    sync.Mutex
	conns []net.Conn
}

// startPushServer listens for message servers.
func startPushServer(t testing.TB, addr string) *pushServer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &pushServer{t: t, reqs: make(chan *pb.IMPushToUserReq, 100)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, nc)
			p.mu.Unlock()
			wg.Go(func() { p.serve(nc) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, nc := range p.conns {
			nc.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

// serve takes the frames of one message server.
func (p *pushServer) serve(nc net.Conn) {
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := nc.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			h, body, n, err := pdu.Next(buf, pdu.MaxServerFrame)
			if err != nil {
				p.t.Errorf("to the push server: %v", err)
				return
			}
			if n == 0 {
				break
			}
			buf = buf[n:]
			if h.Command == pb.CmdHeartBeat {
				continue
			}
			if err := p.take(nc, h, body); err != nil {
				return
			}
		}
	}
}

// take keeps a request, and answers that everything was sent.
func (p *pushServer) take(nc net.Conn, h pdu.Header, body []byte) error {
	req := &pb.IMPushToUserReq{}
	if h.Command != req.Command() || req.ParseBody(slices.Clone(body)) != nil {
		p.t.Errorf("the push server got %v", h.Command)
		return nil
	}
	p.reqs <- req
	var results []*pb.PushResult
	for _, tok := range req.GetUserTokenList() {
		results = append(results, pb.PushResult_builder{UserToken: new(tok.GetToken()), ResultCode: new(uint32(0))}.Build())
	}
	answer, err := pdu.Append(nil, h.Seq, pb.IMPushToUserRsp_builder{PushResultList: results}.Build())
	if err == nil {
		_, err = nc.Write(answer)
	}
	return err
}

// want checks the next request: the text, the data, and for each phone "user token client_type badge push_type".
func (p *pushServer) want(flash, data string, phones ...string) {
	p.t.Helper()
	select {
	case req := <-p.reqs:
		var got []string
		for _, tok := range req.GetUserTokenList() {
			got = append(got, fmt.Sprint(tok.GetUserId(), " ", tok.GetToken(), " ", uint32(tok.GetUserType()), " ", tok.GetPushCount(), " ", tok.GetPushType()))
		}
		if req.GetFlash() != flash || req.GetData() != data || !slices.Equal(got, phones) {
			p.t.Fatalf("push %q %s %q, want %q %s %q", req.GetFlash(), req.GetData(), got, flash, data, phones)
		}
	case <-time.After(patience):
		p.t.Fatalf("no push, want %q", flash)
	}
}

// TestPushDecision: what reaches a push server for messages between two and in groups, whose badge, loud or silent.
func TestPushDecision(t *testing.T) {
	t.Parallel()
	program(t)
	for shape, deploy := range map[string]func(testing.TB, settings) *deployment{allInOne: deployAllInOne, separate: deploySeparate} {
		t.Run(shape, func(t *testing.T) {
			addr := reserve(t)
			push := startPushServer(t, addr)
			sys := deploy(t, settings{users: 4, flags: []string{"--msg.push", addr, "--msg.push-text", "5"}})
			for _, s := range sys.msg {
				until(t, "the link to the push server", func() bool { return s.metric("teamtalk_link_up", `peer="push"`) == 1 })
			}
			testPushDecision(t, sys, push)
		})
	}
}

func testPushDecision(t *testing.T, sys *deployment, push *pushServer) {
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	body := func(s string) string { return string(cipher.Encrypt(s)) }
	here, there := sys.msgAddr[0], sys.msgAddr[1]
	alice, aliceID := loggedIn(t, here, "u00001", windows)
	bobID, carolID := aliceID+1, aliceID+2
	token := func(w *wire, token string) {
		w.send(2, pb.IMDeviceTokenReq_builder{UserId: new(uint32(0)), DeviceToken: &token}.Build())
		w.expectSeq(2, &pb.IMDeviceTokenRsp{})
	}
	bob, _ := loggedIn(t, there, "u00002", ios)
	token(bob, "bobs")
	bob.Close() // a phone that is asleep has a token all the same
	carol, _ := loggedIn(t, here, "u00003", android)
	token(carol, "carols")

	single := fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, aliceID)
	alice.say(3, bobID, body("你好,世界!"))
	push.want("u00001:你好,世界…", single, fmt.Sprint(bobID, " bobs 17 1 1"))
	bobPC, _ := loggedIn(t, there, "u00002", mac)
	alice.send(4, text(bobID, body("two")))
	m := &pb.MsgData{}
	bobPC.expect(m)
	bobPC.heard(m)
	alice.acked(4, bobID)
	push.want("u00001:two", single, fmt.Sprint(bobID, " bobs 17 2 2"))
	alice.say(5, aliceID+3, body("no phone")) // nothing comes of it

	alice.send(6, pb.IMGroupCreateReq_builder{UserId: new(aliceID), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new("g"),
		GroupAvatar: new(""), MemberIdList: []uint32{aliceID, bobID, carolID}}.Build())
	created := &pb.IMGroupCreateRsp{}
	alice.expectSeq(6, created)
	group := created.GetGroupId()
	inGroup := func(seq uint16, s string) {
		t.Helper()
		alice.send(seq, &pb.MsgData{ToSessionID: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte(body(s))})
		alice.expectSeq(seq, &pb.IMMsgDataAck{})
		for _, w := range []*wire{bobPC, carol} {
			w.expect(&pb.MsgData{})
		}
	}
	data := fmt.Sprintf(`{"msg_type":17,"from_id":%d,"group_id":%d}`, aliceID, group)
	inGroup(7, "all")
	push.want("u00001:all", data, fmt.Sprint(bobID, " bobs 17 3 2"), fmt.Sprint(carolID, " carols 18 1 1"))
	carol.send(8, pb.IMGroupShieldReq_builder{UserId: new(carolID), GroupId: new(group), ShieldStatus: new(uint32(1))}.Build())
	carol.expectSeq(8, &pb.IMGroupShieldRsp{})
	inGroup(9, "some")
	push.want("u00001:some", data, fmt.Sprint(bobID, " bobs 17 4 2"))

	token(carol, "") // no phone any more
	alice.send(11, text(carolID, body("gone")))
	carol.expect(m)
	carol.heard(m)
	alice.acked(11, carolID)
	alice.send(12, text(bobID, body("last")))
	push.want("u00001:last", single, fmt.Sprint(bobID, " bobs 17 5 2"))
}
