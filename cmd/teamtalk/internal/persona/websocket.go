package persona

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/gobwas/ws"

	"teamtalk/core/pdu"
)

// webSocket is the connection of a web client, as a stream of PDUs. Each Write is one PDU.
type webSocket struct {
	net.Conn
	in   io.Reader
	rest []byte // of a message
}

// openWebSocket connects as the web clients do: at the root, without a subprotocol and a cookie, as
// a page of the same host.
func openWebSocket(ctx context.Context, addr string) (net.Conn, error) {
	d := ws.Dialer{Timeout: dialTimeout, Header: ws.HandshakeHeaderHTTP{
		"Origin": {"http://" + addr}}}
	nc, early, _, err := d.Dial(ctx, "ws://"+addr+"/")
	if err != nil {
		return nil, err
	}
	c := &webSocket{Conn: nc, in: nc}
	if early != nil { // what the server sent behind its answer
		c.in = early
	}
	return c, nil
}

// Write sends p, one PDU, as one message.
func (c *webSocket) Write(p []byte) (int, error) {
	f := ws.MaskFrame(ws.NewBinaryFrame(bytes.Clone(p)))
	if err := ws.WriteFrame(c.Conn, f); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read reads the bytes of the next messages. A message that is not one PDU is an error: the web
// clients would misread it. They answer a close frame, which ends the stream.
func (c *webSocket) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		h, err := ws.ReadHeader(c.in)
		if err == nil && h.Length > pdu.MaxServerFrame {
			err = fmt.Errorf("persona: a frame of %d bytes", h.Length)
		}
		if err != nil {
			return 0, err
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return 0, err
		}
		switch {
		case h.OpCode == ws.OpClose:
			_ = ws.WriteFrame(c.Conn, ws.MaskFrame(ws.NewCloseFrame(payload))) // it ends anyway
			return 0, io.EOF
		case h.OpCode == ws.OpPing || h.OpCode == ws.OpPong:
		case h.OpCode != ws.OpBinary || !h.Fin || h.Masked || len(payload) < pdu.HeaderLen ||
			int(binary.BigEndian.Uint32(payload)) != len(payload):
			return 0, fmt.Errorf("persona: %+v: no message that is one PDU", h)
		default:
			c.rest = payload
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
