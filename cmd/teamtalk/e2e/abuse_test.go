//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// rawFrame returns a frame with any body, and any length in its header.
func rawFrame(length uint32, cmd pb.Command, seq uint16, body []byte) []byte {
	b := pdu.AppendHeader(nil, cmd, seq)
	binary.BigEndian.PutUint32(b, length)
	return append(b, body...)
}

// malformed returns a frame whose body does not parse.
func malformed(cmd pb.Command) []byte {
	return rawFrame(pdu.HeaderLen+3, cmd, 9, []byte{0xff, 0xff, 0xff})
}

// TestBadClients lets clients break the rules of the protocol, and checks the reactions
// of the server. Two users write to each other meanwhile, without an interruption.
func TestBadClients(t *testing.T) {
	t.Parallel()
	// Each login has a user of its own. A second login of a user would kick a connection
	// whose end the server has not noticed yet, and wait for its turn.
	s := settings{users: 20, flags: []string{"--msg.login-deadline", "3s",
		"--msg.ack", "stored", "--msg.rate", "0", "--admin.pprof"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		a, b := newTalker(t, "u00001", where{addr: addr}),
			newTalker(t, "u00002", where{addr: sys.msgAddr[1]})
		talk(a, b)
		silent := dial(t, addr)
		for _, x := range []struct {
			name string
			run  func(t *testing.T, addr string)
		}{
			{"byte by byte", byteByByte}, {"ten in one", tenInOne}, {"wrong length", wrongLength},
			{"garbage", garbage},
			{"malformed bodies", malformedBodies}, {"unknown commands", unknownCommands},
			{"before login", beforeLogin},
			{"second login", secondLogin}, {"unfit messages", unfitMessages},
			{"vanishing", vanishing},
		} {
			t.Run(x.name, func(t *testing.T) { x.run(t, addr) })
		}
		if t.Failed() {
			return // memory would wait for each connection that is still open
		}
		t.Run("memory", func(t *testing.T) { memory(t, sys) })
		silent.closed() // at its login deadline

		awaitTalk(t, a, b, 2*maxWaiting+1)
		hush(t, a, b)
		check(t, a, b, false)
		if a.lost+b.lost != 0 {
			t.Errorf("the writing users lost %d and %d connections", a.lost, b.lost)
		}
	})
}

// byteByByte sends frames in segments of one byte. The server serves them.
func byteByByte(t *testing.T, addr string) {
	w := dial(t, addr)
	slowly := func(seq uint16, m pb.Message) {
		for _, c := range encode(t, seq, m) {
			w.write([]byte{c})
		}
	}
	slowly(5, loginReq("u00006", "pw", android))
	w.expectSeq(5, &pb.IMLoginRes{})
	slowly(6, &pb.IMHeartBeat{})
	w.expectSeq(6, &pb.IMHeartBeat{})
	slowly(7, text(4, "bit by bit"))
	w.acked(7, 4)
}

// tenInOne sends twenty frames in one segment. The server answers each strand in order.
func tenInOne(t *testing.T, addr string) {
	w, _ := loggedIn(t, addr, "u00007", android)
	var segment []byte
	for seq := range uint16(10) {
		segment = append(segment, encode(t, 100+seq, text(5, "one of ten"))...)
		segment = append(segment, encode(t, 200+seq, &pb.IMHeartBeat{})...)
	}
	w.write(segment)
	beats, acks, last := uint16(200), uint16(100), uint32(0)
	for range 20 {
		f := w.next()
		switch f.Command {
		case pb.CmdHeartBeat:
			if f.Seq != beats {
				t.Fatalf("heartbeat %d, want %d", f.Seq, beats)
			}
			beats++
		case pb.CmdMsgDataAck:
			ack := &pb.IMMsgDataAck{}
			if err := ack.ParseBody(f.body); err != nil || f.Seq != acks ||
				ack.GetMsgId() != last+1 && last != 0 {
				t.Fatalf("ack %d of message %d (%v), want %d of message %d", f.Seq, ack.GetMsgId(),
					err, acks, last+1)
			}
			acks, last = acks+1, ack.GetMsgId()
		default:
			t.Fatalf("got %s", f.Command)
		}
	}
}

// wrongLength sends frames whose length is not allowed. The server serves the frame
// before, and closes the connection.
func wrongLength(t *testing.T, addr string) {
	for i, length := range []uint32{0, 8, pdu.HeaderLen - 1, pdu.MaxClientFrame + 1, 1 << 31,
		1<<32 - 1} {
		w, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", 15+i), android)
		w.write(append(encode(t, 7, &pb.IMHeartBeat{}),
			rawFrame(length, pb.CmdHeartBeat, 8, nil)...))
		w.expectSeq(7, &pb.IMHeartBeat{})
		w.closed()
	}
	// The server accepts the longest frame, and ignores its unknown command.
	w, _ := loggedIn(t, addr, "u00008", android)
	w.write(rawFrame(pdu.MaxClientFrame, 0x0999, 1, make([]byte, pdu.MaxClientFrame-pdu.HeaderLen)))
	w.alive()
}

// garbage sends bytes that are no frames. The server closes the connection.
func garbage(t *testing.T, addr string) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		b := make([]byte, 16+rnd.IntN(4096))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		b[0] |= 0x80 // a length in the billions, as text and encrypted bytes have
		w := dial(t, addr)
		w.write(b)
		w.closed()
	}
	w := dial(t, addr)
	w.write([]byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"))
	w.closed()
}

// malformedBodies sends bodies that do not parse. The server closes the connection at the
// third one in a row.
func malformedBodies(t *testing.T, addr string) {
	w, _ := loggedIn(t, addr, "u00009", android)
	two := slices.Concat(malformed(pb.CmdMsgData), malformed(pb.CmdUnreadMsgCntReq))
	for range 3 { // never three in a row
		w.write(two)
		w.alive()
	}
	w.write(append(two, malformed(pb.CmdMsgDataReadAck)...))
	w.closed()

	w = dial(t, addr)
	for range 3 {
		w.write(malformed(pb.CmdLoginReq))
	}
	w.closed()
}

// unknownCommands sends commands that the server ignores: unknown ones, and those of
// other servers.
func unknownCommands(t *testing.T, addr string) {
	w, _ := loggedIn(t, addr, "u00010", android)
	for _, cmd := range []pb.Command{0, 0x0199, 0x0999, 0xffff} {
		w.write(rawFrame(pdu.HeaderLen+3, cmd, 1, []byte{0xff, 0xff, 0xff}))
	}
	// Servers send this command to each other. From a client it kicks no user.
	kick := pb.IMServerKickUser_builder{
		UserId: new(uint32(1)), ClientType: windows.Enum(), Reason: new(uint32(1)),
	}.Build()
	for range 4 {
		w.send(1, kick)
	}
	w.alive()
}

// beforeLogin sends requests before the login. The server ignores them.
func beforeLogin(t *testing.T, addr string) {
	w := dial(t, addr)
	w.send(1, text(1, "before the login"))
	w.send(2, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
	w.send(3, &pb.IMLogoutReq{})
	w.send(4, pb.IMKickPCClientReq_builder{UserId: new(uint32(1))}.Build())
	w.alive()
	w.login("u00011", android)
	w.alive()
}

// secondLogin sends a second login after the first, and while the server checks the
// first. The server ignores it.
func secondLogin(t *testing.T, addr string) {
	w, user := loggedIn(t, addr, "u00012", android)
	w.send(2, loginReq("u00004", "pw", android))
	w.send(3, loginReq("u00012", "wrong", android))
	w.send(4, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(4))}.Build())
	rsp := &pb.IMUnreadMsgCntRsp{}
	w.expectSeq(4, rsp)
	if rsp.GetUserId() != user {
		t.Errorf("logged in as %d, asked as %d", user, rsp.GetUserId())
	}

	w = dial(t, addr)
	w.write(append(encode(t, 1, loginReq("u00014", "pw", android)),
		encode(t, 2, loginReq("u00004", "pw", android))...))
	w.expectSeq(1, &pb.IMLoginRes{})
	w.alive()
}

// unfitMessages sends messages that the server refuses: without an ack, and the
// connection remains.
func unfitMessages(t *testing.T, addr string) {
	w, user := loggedIn(t, addr, "u00013", android)
	w.send(10, text(4, ""))
	w.send(11, text(user, "to myself"))
	w.send(12, text(4, strings.Repeat("x", im.MaxContent+1)))
	group := text(4, "to a group that does not exist")
	group.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	w.send(13, group)
	w.send(14, text(99, "to nobody"))
	w.sendText(15, 4, strings.Repeat("x", im.MaxContent))
	w.alive()
}

// vanishing closes connections in the middle of a frame.
func vanishing(t *testing.T, addr string) {
	for n := 1; n < 40; n += 3 {
		w := dial(t, addr)
		w.write(encode(t, 1, loginReq("u00004", "pw", android))[:n])
		w.Close()
	}
	w, _ := loggedIn(t, addr, "u00004", android)
	w.write(rawFrame(pdu.MaxClientFrame, pb.CmdMsgData, 1, make([]byte, 1<<19)))
	w.Close()
}

// memory opens many connections that break the rules. The memory that the server keeps does
// not grow. The garbage is collected first, so that the result does not depend on when the
// runtime collects it: on a loaded machine that is late.
func memory(t *testing.T, sys *deployment) {
	const connections, each = 1000, 4 << 10 // each: less than any buffer of a connection
	server := sys.msg[0]
	open := func() float64 {
		return server.metric("teamtalk_session_open", `listener="clients"`)
	}
	kept := func() (bytes, goroutines float64) {
		// The users that write, and the silent client, remain.
		until(t, "the end of all other connections", func() bool { return open() <= 3 })
		for range 2 { // a pool keeps its items over one collection
			equal(t, "status of the profile", server.probe("/debug/pprof/heap?gc=1"), http.StatusOK)
		}
		return server.metric("go_memstats_heap_alloc_bytes", ""), server.metric("go_goroutines", "")
	}
	ruin(t, sys, connections/2) // the server allocates once
	heap, goroutines := kept()
	ruin(t, sys, connections)
	after, now := kept()
	t.Logf("heap %.0f kB, %+.0f kB after %d connections", after/1024, (after-heap)/1024,
		connections)
	if after-heap > connections*each {
		t.Errorf("the heap grew by %.0f kB over %d bad connections", (after-heap)/1024, connections)
	}
	if now > goroutines+10 {
		t.Errorf("%v goroutines, %v before", now, goroutines)
	}
}

// ruin opens n connections, twenty at a time, that break the rules in five ways.
func ruin(t *testing.T, sys *deployment, n int) {
	const parallel = 20
	var wg sync.WaitGroup
	for p := range parallel {
		wg.Go(func() {
			for i := p; i < n; i += parallel {
				w := dial(t, sys.msgAddr[0])
				switch i % 5 {
				case 0:
					w.write(rawFrame(1<<31, pb.CmdHeartBeat, 0, nil))
				case 1:
					w.write(bytes.Repeat(malformed(pb.CmdLoginReq), 3))
				case 2: // half of a long frame
					w.write(rawFrame(200_000, pb.CmdLoginReq, 0, make([]byte, 100_000)))
				case 3: // another name each time, as each refusal of a name takes longer
					name := fmt.Sprint("nobody", n, "-", i)
					w.write(encode(t, 1, loginReq(name, "pw", windows)))
				case 4:
					w.write([]byte("anybody there?"))
				}
				for i%5 != 2 { // until the server closes the connection
					if _, err := w.read(); err != nil {
						break
					}
				}
				w.Close()
			}
		})
	}
	wg.Wait()
}
