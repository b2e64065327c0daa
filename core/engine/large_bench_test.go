package engine

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// directoryRsp is the answer with a directory of n users. It has about 3 MB for 20,000.
func directoryRsp(n int) *pb.IMAllUserRsp {
	text := string(slices.Repeat([]byte{'x'}, 20))
	users := make([]*pb.UserInfo, n)
	for i := range users {
		users[i] = pb.UserInfo_builder{
			UserId: new(uint32(i + 1)), UserGender: new(uint32(1)), UserNickName: &text,
			AvatarUrl: &text, DepartmentId: new(uint32(3)), Email: &text,
			UserRealName: &text, UserTel: &text, UserDomain: &text, Status: new(uint32(0)),
		}.Build()
	}
	return pb.IMAllUserRsp_builder{UserId: new(uint32(7)),
		LatestUpdateTime: new(uint32(1700000000)), UserList: users}.Build()
}

// BenchmarkLargeAnswers sends a directory of 20,000 users to fifty clients at once on one
// loop. "decoded" encodes the answer on the loop for each client, as a message server
// does with a message that it understands. "encoded" encodes it once. Another client of
// the loop sends heartbeats in the meantime, and the benchmark reports how long it waits
// for the echo.
func BenchmarkLargeAnswers(b *testing.B) {
	m := directoryRsp(20_000)
	e, err := pb.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	for name, answer := range map[string]pb.Message{"decoded": m, "encoded": e} {
		b.Run(name, func(b *testing.B) { benchLargeAnswers(b, answer, len(e.Shared())) })
	}
}

func benchLargeAnswers(b *testing.B, answer pb.Message, size int) {
	const clients = 50
	s, err := Start(Options{Addr: "127.0.0.1:0", Loops: 1, Clients: &largeHandler{answer}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(b.Context()) })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	asking := make([]net.Conn, clients)
	for i := range asking {
		asking[i] = dial()
	}
	other := dial()
	var echoes []time.Duration
	b.SetBytes(int64(clients * size))
	for b.Loop() {
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				began := time.Now()
				exchange(b, other, pb.CmdHeartBeat)
				echoes = append(echoes, time.Since(began))
				select {
				case <-quit:
					return
				default:
				}
			}
		}()
		var wg sync.WaitGroup
		for _, c := range asking {
			wg.Go(func() { exchange(b, c, pb.CmdAllUserReq) })
		}
		wg.Wait()
		close(quit)
		<-done
	}
	slices.Sort(echoes)
	b.ReportMetric(float64(echoes[len(echoes)-1].Microseconds())/1000, "echo-max-ms")
	b.ReportMetric(float64(echoes[len(echoes)/2].Microseconds())/1000, "echo-p50-ms")
}

// exchange sends an empty frame and reads the answer.
func exchange(b *testing.B, c net.Conn, cmd pb.Command) {
	if _, err := c.Write(pdu.AppendHeader(nil, cmd, 1)); err != nil {
		b.Error(err)
		return
	}
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(c, head); err != nil {
		b.Error(err)
		return
	}
	if _, err := io.CopyN(io.Discard, c,
		int64(pdu.ParseHeader(head).Length)-pdu.HeaderLen); err != nil {
		b.Error(err)
	}
}

// largeHandler answers heartbeats at once, and every other frame the way another server's
// answer is sent.
type largeHandler struct{ answer pb.Message }

func (h *largeHandler) Open(*session.Client) error                  { return nil }
func (h *largeHandler) Message(*session.Client, uint16, pb.Message) {}
func (h *largeHandler) Close(*session.Client, error)                {}
func (h *largeHandler) Frame(s *session.Client, hd pdu.Header, _ []byte) {
	if hd.Command == pb.CmdHeartBeat {
		s.SendFrame(pdu.AppendHeader(nil, pb.CmdHeartBeat, hd.Seq))
		return
	}
	go s.Loop().PostResult(func(m pb.Message, _ error) { _ = s.Send(hd.Seq, m) }, h.answer, nil)
}
