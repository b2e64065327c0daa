//go:build linux

package e2e

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// rawFrame is a frame of any content, with any length in its header.
func rawFrame(length uint32, cmd pb.Command, seq uint16, body []byte) []byte {
	b := pdu.AppendHeader(nil, cmd, seq)
	binary.BigEndian.PutUint32(b, length)
	return append(b, body...)
}

// malformed is a frame whose body does not parse.
func malformed(cmd pb.Command) []byte {
	return rawFrame(pdu.HeaderLen+3, cmd, 9, []byte{0xff, 0xff, 0xff})
}

// TestBadClients has clients do what clients must not do, and checks what they get, while two people talk and notice nothing.
func TestBadClients(t *testing.T) {
	t.Parallel()
	// Each login has a user of its own. A second login of a user would kick a connection that
	// the server has not seen end, and wait for its turn.
	s := settings{users: 20, flags: []string{"--msg.login-deadline", "3s", "--msg.ack", "stored", "--msg.rate", "0"}}
	forEachShape(t, s, func(t *testing.T, sys *deployment) {
		addr := sys.msgAddr[0]
		a, b := newTalker(t, "u00001", where{addr: addr}), newTalker(t, "u00002", where{addr: sys.msgAddr[1]})
		talk(a, b)
		silent := dial(t, addr)
		for _, x := range []struct {
			name string
			run  func(t *testing.T, addr string)
		}{
			{"byte by byte", byteByByte}, {"ten in one", tenInOne}, {"wrong length", wrongLength}, {"garbage", garbage},
			{"malformed bodies", malformedBodies}, {"unknown commands", unknownCommands}, {"before login", beforeLogin},
			{"second login", secondLogin}, {"unfit messages", unfitMessages}, {"vanishing", vanishing},
		} {
			t.Run(x.name, func(t *testing.T) { x.run(t, addr) })
		}
		if t.Failed() {
			return // connections that stay open would be waited for, one by one
		}
		t.Run("memory", func(t *testing.T) { memory(t, sys) })
		silent.closed() // it never logged in

		awaitTalk(t, a, b, 2*maxWaiting+1)
		hush(t, a, b)
		check(t, a, b, false)
		if a.lost+b.lost != 0 {
			t.Errorf("the two who talk lost %d and %d connections", a.lost, b.lost)
		}
	})
}

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
			if err := ack.ParseBody(f.body); err != nil || f.Seq != acks || ack.GetMsgId() != last+1 && last != 0 {
				t.Fatalf("ack %d of message %d (%v), want %d of message %d", f.Seq, ack.GetMsgId(), err, acks, last+1)
			}
			acks, last = acks+1, ack.GetMsgId()
		default:
			t.Fatalf("got %s", f.Command)
		}
	}
}

func wrongLength(t *testing.T, addr string) {
	for i, length := range []uint32{0, 8, pdu.HeaderLen - 1, pdu.MaxClientFrame + 1, 1 << 31, 1<<32 - 1} {
		w, _ := loggedIn(t, addr, fmt.Sprintf("u%05d", 15+i), android)
		w.write(append(encode(t, 7, &pb.IMHeartBeat{}), rawFrame(length, pb.CmdHeartBeat, 8, nil)...))
		w.expectSeq(7, &pb.IMHeartBeat{}) // what came before is served
		w.closed()
	}
	// The longest frame is taken. It is no message that anybody knows.
	w, _ := loggedIn(t, addr, "u00008", android)
	w.write(rawFrame(pdu.MaxClientFrame, 0x0999, 1, make([]byte, pdu.MaxClientFrame-pdu.HeaderLen)))
	w.alive()
}

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

func unknownCommands(t *testing.T, addr string) {
	w, _ := loggedIn(t, addr, "u00010", android)
	for _, cmd := range []pb.Command{0, 0x0199, 0x0999, 0xffff} {
		w.write(rawFrame(pdu.HeaderLen+3, cmd, 1, []byte{0xff, 0xff, 0xff}))
	}
	// What servers say to each other is nothing that a client may say: nobody is kicked by it.
	kick := pb.IMServerKickUser_builder{UserId: new(uint32(1)), ClientType: windows.Enum(), Reason: new(uint32(1))}.Build()
	for range 4 {
		w.send(1, kick)
	}
	w.alive()
}

func beforeLogin(t *testing.T, addr string) {
	w := dial(t, addr)
	w.send(1, text(1, "who am I"))
	w.send(2, pb.IMUnreadMsgCntReq_builder{UserId: new(uint32(1))}.Build())
	w.send(3, &pb.IMLogoutReq{})
	w.send(4, pb.IMKickPCClientReq_builder{UserId: new(uint32(1))}.Build())
	w.alive()
	w.login("u00011", android)
	w.alive()
}

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

	w = dial(t, addr) // while the first is being checked
	w.write(append(encode(t, 1, loginReq("u00014", "pw", android)), encode(t, 2, loginReq("u00004", "pw", android))...))
	w.expectSeq(1, &pb.IMLoginRes{})
	w.alive()
}

// unfitMessages are taken by nobody: no ack, and the connection stays.
func unfitMessages(t *testing.T, addr string) {
	w, user := loggedIn(t, addr, "u00013", android)
	w.send(10, text(4, ""))
	w.send(11, text(user, "to myself"))
	w.send(12, text(4, strings.Repeat("x", im.MaxContent+1)))
	group := text(4, "to a group that is not there")
	group.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	w.send(13, group)
	w.send(14, text(99, "to nobody"))
	w.say(15, 4, strings.Repeat("x", im.MaxContent))
	w.alive()
}

// vanishing clients go in the middle of a frame.
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

// memory opens and ruins many connections; the server holds no more for it.
func memory(t *testing.T, sys *deployment) {
	const parallel = 20
	ruin := func(n int) {
		var wg sync.WaitGroup
		for p := range parallel {
			wg.Go(func() {
				for i := p; i < n; i += parallel {
					w := dial(t, sys.msgAddr[0])
					switch i % 5 {
					case 0:
						w.write(rawFrame(1<<31, pb.CmdHeartBeat, 0, nil))
					case 1:
						w.write(slices.Concat(malformed(pb.CmdLoginReq), malformed(pb.CmdLoginReq), malformed(pb.CmdLoginReq)))
					case 2: // half of a long frame stays behind
						w.write(rawFrame(200_000, pb.CmdLoginReq, 0, make([]byte, 100_000)))
					case 3: // each time another name: refusals of one are answered later and later
						w.write(encode(t, 1, loginReq(fmt.Sprint("nobody", n, "-", i), "pw", windows)))
					case 4:
						w.write([]byte("anybody there?"))
					}
					if i%5 == 2 {
						w.Close()
						continue
					}
					for {
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
	server := sys.msg[0]
	open := func() float64 { return server.metric("teamtalk_session_open", `listener="clients"`) }
	ruin(1500) // what a server takes once, it has taken
	rss, goroutines := server.rss(), server.metric("go_goroutines", "")
	ruin(2000)
	// Those that talk, the silent one, and whoever of the other tests the server has not seen go.
	until(t, "the server to have forgotten the connections", func() bool { return open() <= 3 })
	more := server.rss() - rss
	t.Logf("RSS %d kB, %+d kB after 2000 connections", rss>>10, more>>10)
	if more > 32<<20 {
		t.Errorf("RSS grew by %d kB over 2000 bad connections", more>>10)
	}
	if now := server.metric("go_goroutines", ""); now > goroutines+10 {
		t.Errorf("%v goroutines, %v before", now, goroutines)
	}
}
