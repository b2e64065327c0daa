package tcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// frame encodes a frame.
func frame(t testing.TB, seq uint16, m pb.Message) []byte {
	t.Helper()
	b, err := pdu.Append(nil, seq, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// readFrame reads one frame.
func readFrame(t testing.TB, r io.Reader) (pdu.Header, pb.Message) {
	t.Helper()
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	h := pdu.ParseHeader(head)
	body := make([]byte, h.Length-pdu.HeaderLen)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		t.Fatal(err)
	}
	return h, m
}

func timeRsp(n uint32) pb.Message { return pb.IMClientTimeRsp_builder{ServerTime: new(n)}.Build() }

// TestConnReadsFramesInAnyPieces checks that the same frames arrive in any division of
// the bytes.
func TestConnReadsFramesInAnyPieces(t *testing.T) {
	var raw []byte
	const n = 10
	big := &pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: 3,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: bytes.Repeat([]byte("x"), 3*readBuffer)}
	for i := range uint32(n) {
		raw = append(raw, frame(t, 0, timeRsp(i))...)
		raw = append(raw, frame(t, 0, big)...)
	}
	for name, chunk := range map[string]int{"byte by byte": 1, "sevens": 7, "a buffer": readBuffer,
		"all": len(raw)} {
		t.Run(name, func(t *testing.T) {
			nc, server := tcpPair(t)
			got := make(chan pb.Message, 2*n)
			c := NewConn(nc, Options{OnFrame: func(_ *Conn, h pdu.Header, body []byte) {
				m, err := pdu.Decode(h.Command, body)
				if err != nil {
					t.Error(err)
				}
				got <- m
			}})
			defer c.Close()
			for b := raw; len(b) > 0; b = b[min(chunk, len(b)):] {
				if _, err := server.Write(b[:min(chunk, len(b))]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range uint32(n) {
				if m := (<-got).(*pb.IMClientTimeRsp); m.GetServerTime() != i {
					t.Fatalf("frame %d carries %d", i, m.GetServerTime())
				}
				if m := (<-got).(*pb.MsgData); !bytes.Equal(m.Data, big.Data) {
					t.Fatalf("big frame %d differs", i)
				}
			}
		})
	}
}

func TestConnEndsAtBadLength(t *testing.T) {
	for name, head := range map[string]string{
		"short": "\x00\x00\x00\x0f\x00\x01", "long": "\x7f\xff\xff\xff\x00\x01",
		"above the limit": "\x00\x00\x10\x01\x00",
	} {
		t.Run(name, func(t *testing.T) {
			nc, server := tcpPair(t)
			c := NewConn(nc, Options{MaxFrame: 4096})
			if _, err := server.Write([]byte(head)); err != nil {
				t.Fatal(err)
			}
			<-c.Done()
			if err := c.Err(); im.KindOf(err) != im.Malformed || !errors.Is(err, pdu.ErrLength) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// TestConnMatchesAnswersBySeq sends answers in another order. The answer to a call that
// was given up goes to OnFrame.
func TestConnMatchesAnswersBySeq(t *testing.T) {
	nc, server := tcpPair(t)
	late := make(chan pdu.Header, 1)
	c := NewConn(nc, Options{OnFrame: func(_ *Conn, h pdu.Header, _ []byte) { late <- h }})
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() { canceled <- c.Call(ctx, &pb.IMClientTimeReq{}, &pb.IMClientTimeRsp{}) }()
	h0, _ := readFrame(t, server)
	cancel()
	if err := <-canceled; im.KindOf(err) != im.Unavailable || !errors.Is(err, context.Canceled) {
		t.Fatalf("canceled call: %v", err)
	}
	type answer struct {
		n   uint32
		err error
	}
	first, second := make(chan answer, 1), make(chan answer, 1)
	call := func(ch chan answer) {
		var res pb.IMClientTimeRsp
		err := c.Call(t.Context(), &pb.IMClientTimeReq{}, &res)
		ch <- answer{res.GetServerTime(), err}
	}
	go call(first)
	h1, _ := readFrame(t, server)
	go call(second)
	h2, _ := readFrame(t, server)
	out := frame(t, h2.Seq, timeRsp(2))
	out = append(out, frame(t, h0.Seq, timeRsp(0))...)
	out = append(out, frame(t, h1.Seq, timeRsp(1))...)
	if _, err := server.Write(out); err != nil {
		t.Fatal(err)
	}
	if a, b := <-first, <-second; a != (answer{1, nil}) || b != (answer{2, nil}) {
		t.Errorf("answers %v and %v", a, b)
	}
	if h := <-late; h.Seq != h0.Seq {
		t.Errorf("late answer has seq %d, want %d", h.Seq, h0.Seq)
	}
}

// TestConnChecksAnswers sends an answer with another command, which goes to OnFrame, and
// one that does not decode, which fails the call.
func TestConnChecksAnswers(t *testing.T) {
	nc, server := tcpPair(t)
	pushed := make(chan pb.Command, 1)
	c := NewConn(nc, Options{OnFrame: func(_ *Conn, h pdu.Header, _ []byte) {
		pushed <- h.Command
	}})
	defer c.Close()
	done := make(chan error, 1)
	go func() { done <- c.Call(t.Context(), &pb.IMClientTimeReq{}, &pb.IMClientTimeRsp{}) }()
	h, _ := readFrame(t, server)
	out := frame(t, h.Seq, &pb.IMMsgServReq{})
	// The required field is missing.
	out = append(out, pdu.AppendHeader(nil, pb.CmdClientTimeRsp, h.Seq)...)
	if _, err := server.Write(out); err != nil {
		t.Fatal(err)
	}
	if cmd := <-pushed; cmd != pb.CmdMsgServReq {
		t.Errorf("pushed %v", cmd)
	}
	if err := <-done; im.KindOf(err) != im.Malformed {
		t.Errorf("call returned %v", err)
	}
}

func TestConnEndFailsCalls(t *testing.T) {
	nc, server := tcpPair(t)
	c := NewConn(nc, Options{MaxPending: 2})
	errs := make(chan error, 2)
	for range 2 {
		done := func(_ []byte, err error) { errs <- err }
		if _, err := c.Go(&pb.IMClientTimeReq{}, pb.CmdClientTimeRsp, done); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Go(&pb.IMClientTimeReq{}, pb.CmdClientTimeRsp, nil); im.KindOf(err) != im.Busy {
		t.Errorf("third request: %v", err)
	}
	server.Close()
	for range 2 {
		if err := <-errs; im.KindOf(err) != im.Unavailable {
			t.Errorf("waiting call: %v", err)
		}
	}
	<-c.Done()
	if _, err := c.Go(&pb.IMClientTimeReq{}, pb.CmdClientTimeRsp,
		nil); im.KindOf(err) != im.Unavailable {
		t.Errorf("request after the end: %v", err)
	}
	if err := c.Send(&pb.IMHeartBeat{}, 0); err == nil {
		t.Error("sent after the end")
	}
}

func TestConnEndsWithoutEchoOfHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, server := net.Pipe()
		c := NewConn(nc, Options{})
		start := time.Now()
		for i := 1; i <= 5; i++ { // while they are echoed, the connection stays open
			h, m := readFrame(t, server)
			if _, ok := m.(*pb.IMHeartBeat); !ok ||
				time.Since(start) != time.Duration(i)*30*time.Second {
				t.Fatalf("%v after %v", h.Command, time.Since(start))
			}
			if _, err := server.Write(frame(t, h.Seq, m)); err != nil {
				t.Fatal(err)
			}
		}
		var beats atomic.Int32
		go func() { // after that they are not echoed
			for {
				if _, err := io.ReadFull(server, make([]byte, pdu.HeaderLen)); err != nil {
					return
				}
				beats.Add(1)
			}
		}()
		<-c.Done()
		if err := c.Err(); im.KindOf(err) != im.Unavailable ||
			!strings.Contains(err.Error(), "silent") {
			t.Errorf("ended with %v", err)
		}
		if d := time.Since(start); d != 9*30*time.Second || beats.Load() != 3 {
			t.Errorf("dead after %v and %d beats", d, beats.Load())
		}
	})
}

func TestLogoutAcceptsClosedConnection(t *testing.T) {
	nc, server := tcpPair(t)
	c := NewConn(nc, Options{})
	done := make(chan error, 1)
	go func() { done <- c.Logout(t.Context()) }()
	if _, m := readFrame(t, server); m.Command() != pb.CmdLogoutReq {
		t.Fatalf("got %v", m.Command())
	}
	server.Close() // in place of an answer
	if err := <-done; err != nil {
		t.Errorf("logout: %v", err)
	}
}

// FuzzConn checks that any bytes end without a panic, and that the request fails exactly
// once.
func FuzzConn(f *testing.F) {
	f.Add([]byte{})
	f.Add(frame(f, 0, timeRsp(1)))
	f.Add(frame(f, 1, timeRsp(1)))
	f.Add(append(frame(f, 1, &pb.IMHeartBeat{}), frame(f, 2, timeRsp(7))[:9]...))
	f.Add([]byte("\x00\x00\x00\x0f garbage"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		nc, server := net.Pipe()
		c := Prepare(nc, Options{Heartbeat: -1, MaxFrame: 1 << 16,
			OnFrame: func(_ *Conn, h pdu.Header, body []byte) {
				if int(h.Length) != len(body)+pdu.HeaderLen {
					t.Errorf("header says %d, body has %d", h.Length, len(body))
				}
			}})
		answered := 0
		c.pending[1] = call{want: pb.CmdClientTimeRsp, done: func([]byte, error) { answered++ }}
		c.Start()
		_, _ = server.Write(raw)
		server.Close()
		<-c.Done()
		if c.Err() == nil || answered != 1 {
			t.Errorf("ended with %v, request answered %d times", c.Err(), answered)
		}
	})
}
