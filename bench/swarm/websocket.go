package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"teamtalk/core/pdu"
)

// webSocket is the WebSocket of a connection (RFC 6455). Loop only.
type webSocket struct {
	c    *Conn
	out  []byte // frames to send as messages; borrowed from the loop, nil when empty
	rest []byte // beginning of a frame, or of the answer; borrowed from the loop, nil when empty
	head []byte // beginning of a message's header, at most 10 bytes
	left uint64 // bytes of a message that follow
	kind byte   // of that message
}

// ErrUpgrade is the error of a server that answers the request for a WebSocket with something else.
var ErrUpgrade = errors.New("the server opens no WebSocket")

// maxAnswer is the longest answer to a request, in bytes.
const maxAnswer = 8 << 10

// The kinds of messages, the bit of the last part, and that of a mask.
const (
	wsBinary, wsClose, wsPing, wsPong = 2, 8, 9, 10

	wsFin, wsMask = 0x80, 0x80
)

// upgrade asks for a WebSocket.
func (c *Conn) upgrade() {
	c.state = shaking
	c.ws = &webSocket{c: c}
	out := c.sealed()
	*out = fmt.Appendf(c.queue(*out), "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGVhbXRhbGsgbG9hZCBnZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n", c.peer)
}

// take takes bytes that have arrived, and keeps what is not whole.
func (x *webSocket) take(b []byte) {
	if x.c.state == shaking {
		b = x.answer(b)
	}
	for x.c.state == opened && len(b) > 0 {
		if x.left == 0 {
			b = x.header(b)
			continue
		}
		n := int(min(x.left, uint64(len(b))))
		x.left -= uint64(n)
		x.message(b[:n])
		b = b[n:]
	}
}

// answer takes the answer to the request, and returns what follows it.
func (x *webSocket) answer(b []byte) []byte {
	x.rest = append(x.rest, b...)
	end := bytes.Index(x.rest, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(x.rest) <= maxAnswer:
		return nil
	case !bytes.HasPrefix(x.rest, []byte("HTTP/1.1 101 ")):
		line, _, _ := bytes.Cut(x.rest, []byte("\r\n"))
		x.c.fail(fmt.Errorf("%w: %.100q", ErrUpgrade, line))
		return nil
	}
	b = bytes.Clone(x.rest[end+4:])
	x.c.loop.give(x.rest)
	x.rest = nil
	x.c.connected()
	return b
}

// header takes the header of a message, and returns what follows it. Servers mask nothing.
func (x *webSocket) header(b []byte) []byte {
	size := 2
	for len(x.head) < size && len(b) > 0 {
		x.head, b = append(x.head, b[0]), b[1:]
		if len(x.head) < 2 {
			continue
		}
		switch x.head[1] {
		case 126:
			size = 4
		case 127:
			size = 10
		}
	}
	if len(x.head) < size {
		return nil
	}
	h := x.head
	x.head = x.head[:0]
	x.kind, x.left = h[0]&^wsFin, uint64(h[1])
	switch size {
	case 4:
		x.left = uint64(binary.BigEndian.Uint16(h[2:]))
	case 10:
		x.left = binary.BigEndian.Uint64(h[2:])
	}
	if h[0]&wsFin == 0 || h[1]&wsMask != 0 ||
		x.kind != wsBinary && x.kind != wsClose && x.kind != wsPing && x.kind != wsPong {
		x.c.fail(fmt.Errorf("%w: a message begins with %x", pdu.ErrLength, h))
	}
	return b
}

// message takes a part of a message. Its frames follow each other as on TCP.
func (x *webSocket) message(p []byte) {
	switch {
	case x.kind == wsClose:
		x.c.fail(fmt.Errorf("%w: %x", ErrClosed, p))
		return
	case x.kind != wsBinary:
		return // the server needs no answer
	}
	if x.rest != nil {
		x.rest = append(x.rest, p...)
		p = x.rest
	}
	rest := x.c.cut(p)
	if x.c.state == opened {
		x.rest = x.c.loop.keep(x.rest, rest)
	}
}

// ErrClosed is the error of a server that closes a WebSocket. The code follows.
var ErrClosed = errors.New("the server closes the WebSocket")

// seal makes a message of each queued frame.
func (x *webSocket) seal() {
	if len(x.out) == 0 {
		return
	}
	frames, to := x.out, x.c.sealed()
	x.out = nil
	out := *to
	if out == nil {
		out = x.c.loop.borrow()
	}
	for rest := frames; len(rest) > 0; {
		n := int(min(int64(binary.BigEndian.Uint32(rest)), int64(len(rest))))
		out = appendMessage(out, rest[:n])
		rest = rest[n:]
	}
	*to = out
	x.c.loop.give(frames)
}

// appendMessage appends a binary message with a mask, as browsers send it.
func appendMessage(out, p []byte) []byte {
	switch {
	case len(p) < 126:
		out = append(out, wsFin|wsBinary, wsMask|byte(len(p)))
	case len(p) < 1<<16:
		out = append(out, wsFin|wsBinary, wsMask|126)
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	default:
		out = append(out, wsFin|wsBinary, wsMask|127)
		out = binary.BigEndian.AppendUint64(out, uint64(len(p)))
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	out = append(out, mask[:]...)
	at := len(out)
	out = append(out, p...)
	for i := range p {
		out[at+i] ^= mask[i&3]
	}
	return out
}

// release returns the buffers to the loop.
func (x *webSocket) release() {
	x.c.loop.give(x.out)
	x.c.loop.give(x.rest)
	x.out, x.rest = nil, nil
}
