package engine

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

func startEcho(t testing.TB, opt EchoOptions) *Echo {
	t.Helper()
	opt.Addr = "127.0.0.1:0"
	e, err := StartEcho(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func dialEcho(t testing.TB, e *Echo) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", e.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t}
}

// TestBareEcho sends frames in segments of several sizes, and reads them back in order.
func TestBareEcho(t *testing.T) {
	e := startEcho(t, EchoOptions{Loops: 2})
	a, b := dialEcho(t, e), dialEcho(t, e)
	var stream []byte
	for i := range 50 {
		stream = append(stream, frameOf(pb.CmdMsgData, uint16(i),
			bytes.Repeat([]byte{byte(i)}, i*7))...)
	}
	for _, c := range []*client{a, b} {
		for part := stream; len(part) > 0; {
			n := min(len(part), 97)
			c.send(part[:n])
			part = part[n:]
		}
	}
	a.want(stream)
	b.want(stream)
	if got := e.Frames(); got != 100 {
		t.Errorf("%d frames counted, want 100", got)
	}
}

// TestBareEchoWaitsForWholeFrames sends a part of a frame, and the other part later.
func TestBareEchoWaitsForWholeFrames(t *testing.T) {
	e := startEcho(t, EchoOptions{})
	c := dialEcho(t, e)
	first, second := frameOf(pb.CmdHeartBeat, 1, nil), frameOf(pb.CmdMsgData, 2, make([]byte, 64))
	c.send(append(bytes.Clone(first), second[:20]...))
	c.want(first)
	if got := e.Frames(); got != 1 {
		t.Errorf("%d frames counted, want the whole one only", got)
	}
	c.send(second[20:])
	c.want(second)
}

func TestBareEchoLimit(t *testing.T) {
	e := startEcho(t, EchoOptions{MaxFrame: 100})
	for _, length := range []uint32{pdu.HeaderLen - 1, 101} {
		c := dialEcho(t, e)
		c.send(binary.BigEndian.AppendUint32(nil, length))
		c.wantEnd()
	}
}

func TestBareEchoReportsAPortInUse(t *testing.T) {
	e := startEcho(t, EchoOptions{})
	if second, err := StartEcho(EchoOptions{Addr: e.Addr().String()}); err == nil {
		second.Close()
		t.Fatal("two listeners opened one port")
	}
}

func TestBareEchoCloseEndsConnectionsWithoutAnError(t *testing.T) {
	e := startEcho(t, EchoOptions{})
	c := dialEcho(t, e)
	c.echo(frameOf(pb.CmdHeartBeat, 1, nil))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c.wantEnd()
	if err := e.Err(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// BenchmarkBareEcho measures the ceiling of a listener: 100 connections, each with a
// window of frames of 64 bytes in flight. It reports frames/s. The clients, one goroutine
// each, use a part of the machine.
func BenchmarkBareEcho(b *testing.B) {
	for name, window := range map[string]int{"window=1": 1, "window=16": 16} {
		b.Run(name, func(b *testing.B) {
			const conns = 100
			e := startEcho(b, EchoOptions{})
			batch := bytes.Repeat(frameOf(pb.CmdMsgData, 1, make([]byte, 64)), window)
			clients := make([]*client, conns)
			for i := range clients {
				clients[i] = dialEcho(b, e)
				_ = clients[i].SetDeadline(time.Time{})
			}
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			rounds := (b.N + conns*window - 1) / (conns * window)
			for _, c := range clients {
				wg.Go(func() {
					in := make([]byte, len(batch))
					for range rounds {
						if _, err := c.Write(batch); err != nil {
							b.Error(err)
							return
						}
						if _, err := io.ReadFull(c, in); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(rounds*conns*window)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}
