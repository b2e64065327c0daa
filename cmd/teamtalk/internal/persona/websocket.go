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
		f, err := ws.ReadFrame(c.in)
		switch {
		case err != nil:
			return 0, err
		case f.Header.OpCode == ws.OpClose:
			_ = ws.WriteFrame(c.Conn, ws.MaskFrame(ws.NewCloseFrame(f.Payload))) // it ends anyway
			return 0, io.EOF
		case f.Header.OpCode == ws.OpPing || f.Header.OpCode == ws.OpPong:
		case f.Header.OpCode != ws.OpBinary || !f.Header.Fin || f.Header.Masked ||
			len(f.Payload) < pdu.HeaderLen ||
			int(binary.BigEndian.Uint32(f.Payload)) != len(f.Payload):
			return 0, fmt.Errorf("persona: %+v: no message that is one PDU", f.Header)
		default:
			c.rest = f.Payload
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
