package websocket

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// lengthLen is the length of a PDU's length field, its first one, in bytes.
const lengthLen = 4

// Writer makes one binary message of each PDU of a stream. The stream may be cut anywhere, since
// long PDUs are written in pieces. The zero value is ready, and a Writer holds no memory.
type Writer struct {
	left   uint32 // bytes of a PDU that follow
	length [lengthLen]byte
	n      uint8 // bytes of length that were written
}

// Between reports whether the stream is between two PDUs, so that a control frame may follow.
func (w *Writer) Between() bool { return w.left == 0 && w.n == 0 }

// Next cuts the stream that p continues at the end of its first PDU. It appends to dst what goes
// first, a frame's header and the PDU's length field. run, a slice of p, follows it, and then rest
// is to be written. When p ends within the length field, the Writer keeps that part for the next
// call.
func (w *Writer) Next(dst, p []byte) (out, run, rest []byte) {
	if w.left == 0 {
		k := copy(w.length[w.n:], p)
		w.n += uint8(k)
		p = p[k:]
		if w.n < lengthLen {
			return dst, nil, p
		}
		n := binary.BigEndian.Uint32(w.length[:])
		dst = append(appendHeader(dst, int(n)), w.length[:]...)
		w.n, w.left = 0, n-min(n, lengthLen)
	}
	n := min(int64(w.left), int64(len(p)))
	w.left -= uint32(n)
	return dst, p[:n], p[n:]
}

// appendHeader appends the header of a binary message of n bytes.
func appendHeader(dst []byte, n int) []byte {
	switch {
	case n < length16:
		return append(dst, opMessage, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, opMessage, length16), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, opMessage, length64), uint64(n))
}

// AppendPong appends the answer to a Ping.
func AppendPong(dst, payload []byte) []byte {
	return appendControl(dst, ws.OpPong, payload)
}

// AppendClose appends a close frame with a code, and without one for CodeNone. A code that must
// not be sent is replaced with CodeProtocol.
func AppendClose(dst []byte, code int) []byte {
	if code == CodeNone {
		return appendControl(dst, ws.OpClose, nil)
	}
	if !validCode(code) {
		code = CodeProtocol
	}
	return appendControl(dst, ws.OpClose, binary.BigEndian.AppendUint16(nil, uint16(code)))
}

func appendControl(dst []byte, op ws.OpCode, payload []byte) []byte {
	dst = append(dst, bitFin|byte(op), byte(len(payload)))
	return append(dst, payload...)
}
