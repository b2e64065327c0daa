package swarm

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"teamtalk/core/cert/certtest"
	"teamtalk/core/pdu"
	"teamtalk/core/websocket"
)

// overWebSocket answers the request of each connection, and sends its messages back, each in
// writes of most bytes. Frames with the seq 9 end it with a close frame.
func overWebSocket(t *testing.T, most int) func(net.Conn) {
	return func(nc net.Conn) {
		var in websocket.Reader
		var out websocket.Writer
		var got []byte
		upgraded := false
		buf := make([]byte, 8<<10)
		for {
			n, err := nc.Read(buf)
			if err != nil {
				return
			}
			got = append(got, buf[:n]...)
			if !upgraded {
				head, err := websocket.Head(got)
				if err != nil || head == 0 {
					continue
				}
				answer, err := websocket.Accept(got[:head], nil)
				if err != nil {
					t.Error(err)
				}
				write(nc, answer, most)
				got, upgraded = got[head:], true
			}
			for {
				f, err := in.Next(got, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				if f.Kind == websocket.More {
					break
				}
				h, _, n, err := pdu.Next(f.Payload, 1<<20)
				if err != nil || n != len(f.Payload) {
					t.Errorf("a message of %d bytes is no frame", len(f.Payload))
				}
				if h.Seq == 9 {
					write(nc, websocket.AppendClose(nil, websocket.CodeGoingAway), most)
					return
				}
				answer := websocket.AppendPong(nil, []byte("not asked for"))
				for rest := f.Payload; len(rest) > 0; {
					var run []byte
					answer, run, rest = out.Next(answer, rest)
					answer = append(answer, run...)
				}
				write(nc, answer, most)
				got = got[f.Used:]
			}
		}
	}
}

// write writes p in parts. An error shows at the other end.
func write(nc net.Conn, p []byte, most int) {
	for len(p) > 0 {
		n := min(most, len(p))
		_, _ = nc.Write(p[:n])
		p = p[n:]
	}
}

// TestWebSocket sends frames of all three forms of length, several in one write, over WebSocket,
// with TLS and without, to servers that send whole answers and single bytes.
func TestWebSocket(t *testing.T) {
	frames := [][]byte{frame(1, []byte{7}), frame(2, bytes.Repeat([]byte("x"), 300)),
		frame(3, bytes.Repeat([]byte("y"), 50_000)), frame(4, bytes.Repeat([]byte("z"), 70_000))}
	trusting := &tls.Config{RootCAs: certtest.Shared().Roots}
	for name, test := range map[string]struct {
		serve  func(net.Conn)
		config *tls.Config
	}{
		"plain":      {overWebSocket(t, 1<<20), nil},
		"in pieces":  {overWebSocket(t, 1000), nil},
		"with TLS":   {overTLS(overWebSocket(t, 1<<20)), trusting},
		"odd pieces": {overTLS(overWebSocket(t, 997)), trusting},
	} {
		addr := listen(t, test.serve)
		s := newSwarm(t, Options{TLS: test.config, WebSocket: true, MaxBody: 60_000})
		ended := make(chan error, 1)
		n := 0
		dial(s.Loops()[0], addr, &handler{
			open: func(c *Conn) { c.Write(bytes.Join(frames, nil)) },
			frame: func(c *Conn, h pdu.Header, body []byte) {
				want := frames[n]
				if int(h.Length) != len(want) ||
					!bytes.Equal(body, want[pdu.HeaderLen:min(len(want), pdu.HeaderLen+60_000)]) {
					t.Errorf("%s: frame %d came back changed", name, n)
				}
				if n++; n == len(frames) {
					c.Write(frame(9, nil))
				}
			},
			close: func(_ *Conn, err error) { ended <- err },
		})
		if err := wait(t, name, ended); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
}

// TestWebSocketRefused ends connections to servers that open no WebSocket.
func TestWebSocketRefused(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		want   error
	}{
		"no WebSocket": {"HTTP/1.1 404 Not Found\r\n\r\n", ErrUpgrade},
		"end":          {"HTTP/1.1 101 Switching", io.EOF},
		"masked":       {"HTTP/1.1 101 Switching\r\n\r\n\x82\x81\x00\x00\x00\x00x", pdu.ErrLength},
		"a part":       {"HTTP/1.1 101 Switching\r\n\r\n\x02\x01x", pdu.ErrLength},
		"a text":       {"HTTP/1.1 101 Switching\r\n\r\n\x81\x01x", pdu.ErrLength},
		"endless":      {string(bytes.Repeat([]byte("x"), 2*maxAnswer)), ErrUpgrade},
	} {
		addr := listen(t, func(nc net.Conn) {
			_, _ = nc.Read(make([]byte, 1<<10)) // the request
			write(nc, []byte(test.answer), len(test.answer))
		})
		s := newSwarm(t, Options{WebSocket: true})
		ended := make(chan error, 1)
		dial(s.Loops()[0], addr, &handler{close: func(_ *Conn, err error) { ended <- err }})
		if err := wait(t, name, ended); !errors.Is(err, test.want) {
			t.Errorf("%s: ended with %v, want %v", name, err, test.want)
		}
	}
}
