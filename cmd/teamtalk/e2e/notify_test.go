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

// pushServer stands in for a push server. It records the requests of message servers.
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

// serve reads the frames of one message server.
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
				p.t.Errorf("frame to the push server: %v", err)
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

// take records a request, and answers that all pushes were sent.
func (p *pushServer) take(nc net.Conn, h pdu.Header, body []byte) error {
	req := &pb.IMPushToUserReq{}
	if h.Command != req.Command() || req.ParseBody(slices.Clone(body)) != nil {
		p.t.Errorf("the push server got %v", h.Command)
		return nil
	}
	p.reqs <- req
	var results []*pb.PushResult
	for _, tok := range req.GetUserTokenList() {
		results = append(results, pb.PushResult_builder{UserToken: new(tok.GetToken()),
			ResultCode: new(uint32(0))}.Build())
	}
	answer, err := pdu.Append(nil, h.Seq,
		pb.IMPushToUserRsp_builder{PushResultList: results}.Build())
	if err == nil {
		_, err = nc.Write(answer)
	}
	return err
}

// want checks the next request: the text, the data, and "user token client_type badge
// push_type" of each phone.
func (p *pushServer) want(flash, data string, phones ...string) {
	p.t.Helper()
	select {
	case req := <-p.reqs:
		var got []string
		for _, tok := range req.GetUserTokenList() {
			got = append(got, fmt.Sprint(tok.GetUserId(), " ", tok.GetToken(), " ",
				uint32(tok.GetUserType()), " ", tok.GetPushCount(), " ", tok.GetPushType()))
		}
		equal(p.t, "push", append(got, req.GetFlash(), req.GetData()),
			append(phones, flash, data))
	case <-time.After(patience):
		p.t.Fatalf("no push, want %q", flash)
	}
}

// TestPushDecision checks the requests to a push server for messages to users and groups:
// the phones with their badges, and whether a push is silent.
func TestPushDecision(t *testing.T) {
	t.Parallel()
	program(t)
	for shape, deploy := range map[string]func(testing.TB, settings) *deployment{
		allInOne: deployAllInOne, separate: deploySeparate,
	} {
		t.Run(shape, func(t *testing.T) {
			addr := reserve(t)
			push := startPushServer(t, addr)
			sys := deploy(t, settings{users: 4,
				flags: []string{"--msg.push", addr, "--msg.push-text", "5"}})
			for _, s := range sys.msg {
				awaitPushLink(t, s)
			}
			cipher, err := im.NewTextCipher("")
			if err != nil {
				t.Fatal(err)
			}
			d := &pushDecision{t: t, sys: sys, push: push, cipher: cipher}
			d.singles()
			d.groups()
			d.withoutToken()
		})
	}
}

// pushDecision has the users of TestPushDecision. alice is at a pc. bob has a phone that
// is offline, and later a pc. carol has a phone.
type pushDecision struct {
	t                       *testing.T
	sys                     *deployment
	push                    *pushServer
	cipher                  *im.TextCipher
	alice, bobPC, carol     *wire
	aliceID, bobID, carolID uint32
	single                  string // data of a push for a message of alice to a user
}

// body returns an encrypted text.
func (d *pushDecision) body(s string) string { return string(d.cipher.Encrypt(s)) }

// singles sends texts to bob: loud without a pc, and silent with one. A user without a
// phone gets no push.
func (d *pushDecision) singles() {
	here, there := d.sys.msgAddr[0], d.sys.msgAddr[1]
	d.alice, d.aliceID = loggedIn(d.t, here, "u00001", windows)
	d.bobID, d.carolID = d.aliceID+1, d.aliceID+2
	d.single = fmt.Sprintf(`{"msg_type":1,"from_id":%d}`, d.aliceID)
	bob, _ := loggedIn(d.t, there, "u00002", ios)
	bob.setTokenAsIs("bobs")
	bob.Close() // without a logout, so the token remains
	d.carol, _ = loggedIn(d.t, here, "u00003", android)
	d.carol.setTokenAsIs("carols")

	d.alice.sendText(3, d.bobID, d.body("你好,世界!"))
	d.push.want("u00001:你好,世界…", d.single, fmt.Sprint(d.bobID, " bobs 17 1 1"))
	d.bobPC, _ = loggedIn(d.t, there, "u00002", mac)
	d.alice.send(4, text(d.bobID, d.body("two")))
	m := &pb.MsgData{}
	d.bobPC.expect(m)
	d.bobPC.sendAck(m)
	d.alice.acked(4, d.bobID)
	d.push.want("u00001:two", d.single, fmt.Sprint(d.bobID, " bobs 17 2 2"))
	d.alice.sendText(5, d.aliceID+3, d.body("no phone"))
}

// groups sends texts to a group: before and after carol mutes it.
func (d *pushDecision) groups() {
	group := d.alice.createGroup(6, d.aliceID, d.bobID, d.carolID)
	data := fmt.Sprintf(`{"msg_type":17,"from_id":%d,"group_id":%d}`, d.aliceID, group)
	send := func(seq uint16, s string) {
		d.t.Helper()
		d.alice.send(seq, groupText(group, d.body(s)))
		d.alice.expectSeq(seq, &pb.IMMsgDataAck{})
		for _, w := range []*wire{d.bobPC, d.carol} {
			w.expect(&pb.MsgData{})
		}
	}
	send(7, "all")
	d.push.want("u00001:all", data, fmt.Sprint(d.bobID, " bobs 17 3 2"),
		fmt.Sprint(d.carolID, " carols 18 1 1"))
	d.carol.shieldGroup(8, group)
	send(9, "some")
	d.push.want("u00001:some", data, fmt.Sprint(d.bobID, " bobs 17 4 2"))
}

// withoutToken sends a text to carol after her phone deleted its token: the next push is
// that of a later text to bob.
func (d *pushDecision) withoutToken() {
	d.carol.setTokenAsIs("")
	d.alice.send(11, text(d.carolID, d.body("gone")))
	m := &pb.MsgData{}
	d.carol.expect(m)
	d.carol.sendAck(m)
	d.alice.acked(11, d.carolID)
	d.alice.send(12, text(d.bobID, d.body("last")))
	d.push.want("u00001:last", d.single, fmt.Sprint(d.bobID, " bobs 17 5 2"))
}

// setTokenAsIs sets the device token of a client, without a client type: the server knows
// the type from the login.
func (w *wire) setTokenAsIs(token string) {
	w.t.Helper()
	w.send(2, pb.IMDeviceTokenReq_builder{UserId: new(uint32(0)), DeviceToken: &token}.Build())
	w.expectSeq(2, &pb.IMDeviceTokenRsp{})
}
