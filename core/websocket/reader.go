package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Kind is what Reader.Next found.
type Kind uint8

// The kinds.
const (
	// More: no whole frame has arrived.
	More Kind = iota
	// Part: a frame that tells the caller nothing, such as the begin of a message or a pong.
	Part
	// Message: a whole message, binary or text.
	Message
	// Ping: the payload goes back in a pong.
	Ping
	// Close: the peer closes the connection, with Found.Code.
	Close
)

// Found is what Reader.Next has cut off.
type Found struct {
	Kind Kind
	// Used is the length of the frame, in bytes. With More it is 0.
	Used int
	// Need is, with More, how many bytes must be there before Next finds more.
	Need int
	// Payload is unmasked, and valid until the next call, and as long as the bytes of the
	// call are.
	Payload []byte
	// Code is the code of a Close; CodeNone without one.
	Code int
}

// Reader cuts the frames of a client. The zero value is ready. One that waits for no part of a
// message holds no memory.
type Reader struct {
	parts      []byte
	fragmented bool
	joined     bool // parts were passed on, and are dropped by the next call
}

// Held returns the number of bytes of a message whose rest has not arrived.
func (r *Reader) Held() int { return len(r.parts) }

// Next cuts the first frame off p, and unmasks its payload in place: the caller does not present
// these bytes again. limit is the longest message accepted, in bytes. A frame is refused by its
// header, before its payload has arrived: the error is ErrProtocol, or ErrTooLong above limit.
// Next must not be called after an error, or after a Close.
func (r *Reader) Next(p []byte, limit int) (Found, error) {
	if r.joined {
		r.parts, r.joined = nil, false
	}
	h, head, err := r.header(p, limit)
	if err != nil {
		return Found{}, err
	}
	if head > len(p) {
		return Found{Need: head}, nil
	}
	end := head + int(h.Length)
	if end > len(p) {
		return Found{Need: end}, nil
	}
	payload := p[head:end:end]
	ws.Cipher(payload, h.Mask, 0)
	f := Found{Used: end, Payload: payload}
	if h.OpCode.IsControl() {
		return r.control(f, h.OpCode)
	}
	return r.data(f, h.Fin), nil
}

// header parses and checks the header at the begin of p. head is its length. While that is above
// the length of p, h has only what its first two bytes say.
func (r *Reader) header(p []byte, limit int) (h ws.Header, head int, err error) {
	if len(p) < shortest {
		return h, shortest, nil
	}
	h = ws.Header{Fin: p[0]&bitFin != 0, Rsv: p[0] & bitsRsv >> 4, OpCode: ws.OpCode(p[0] & bitsOp),
		Masked: p[1]&bitMask != 0, Length: int64(p[1] & bitsLen)}
	head = shortest + maskLen
	// A control frame with a longer form of its length is too long, so its first byte is enough.
	if err := ws.CheckHeader(h, r.state()); err != nil {
		return h, head, wrong(err)
	}
	size := 0
	switch h.Length {
	case length16:
		size = 2
	case length64:
		size = 8
	}
	if head += size; len(p) < head {
		return h, head, nil
	}
	switch size {
	case 2:
		h.Length = int64(binary.BigEndian.Uint16(p[shortest:]))
	case 8:
		h.Length = int64(binary.BigEndian.Uint64(p[shortest:]))
	}
	if h.Length < 0 || h.Length > int64(limit-len(r.parts)) && !h.OpCode.IsControl() {
		return h, head, fmt.Errorf("%w: %d bytes more, limit %d", ErrTooLong,
			uint64(h.Length), limit)
	}
	copy(h.Mask[:], p[head-maskLen:head])
	return h, head, nil
}

func (r *Reader) state() ws.State {
	s := ws.StateServerSide
	if r.fragmented {
		s = s.Set(ws.StateFragmented)
	}
	return s
}

// data joins the parts of a message.
func (r *Reader) data(f Found, fin bool) Found {
	f.Kind = Message
	switch {
	case !fin:
		r.fragmented = true
		r.parts = append(r.parts, f.Payload...)
		f.Kind, f.Payload = Part, nil
	case r.fragmented:
		r.fragmented, r.joined = false, true
		r.parts = append(r.parts, f.Payload...)
		f.Payload = r.parts
	}
	return f
}

// control reads a control frame.
func (r *Reader) control(f Found, op ws.OpCode) (Found, error) {
	switch op {
	case ws.OpPing:
		f.Kind = Ping
	case ws.OpPong:
		f.Kind, f.Payload = Part, nil
	case ws.OpClose:
		f.Kind, f.Code = Close, CodeNone
		if len(f.Payload) == 0 {
			return f, nil
		}
		if len(f.Payload) < 2 {
			return Found{}, wrong(errCode)
		}
		f.Code = int(binary.BigEndian.Uint16(f.Payload))
		f.Payload = f.Payload[2:]
		if !validCode(f.Code) || !utf8.Valid(f.Payload) {
			return Found{}, wrong(errCode)
		}
	}
	return f, nil
}

// errCode reports the content of a close frame.
var errCode = errors.New("a close frame with a wrong code or reason")
