// Package pdu is the frame codec: a 16-byte header, all big-endian, then a protobuf body.
//
//	u32 length (header included) · u16 version (1) · u16 flag (0) · u16 service id · u16 command id · u16 seq · u16 reserved (0)
//
// A reply carries the request's seq; what a server sends of its own accord carries 0. Receivers ignore version, flag, service id and
// reserved, as the first implementation did.
package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"teamtalk/proto/pb"
)

// HeaderLen is the length of a frame's header, and of the shortest frame, in bytes.
const HeaderLen = 16

// Version is what stands in the version field of every frame sent.
const Version = 1

// Limits of a whole frame, in bytes. A longer one is a fault or an attack: the connection is closed before a buffer of that size exists.
const (
	MaxClientFrame = 1<<20 + 64<<10 // between client and server
	MaxServerFrame = 64 << 20       // between servers
)

// ErrLength says that a frame's length field is below HeaderLen or above the limit. The stream cannot be read any further.
var ErrLength = errors.New("pdu: frame length out of range")

// Header is a frame's header, without the fields that nobody reads.
type Header struct {
	Length  uint32 // of the whole frame, header included
	Command pb.Command
	Seq     uint16
}

// ParseHeader reads the header at the start of b, which holds at least HeaderLen bytes. The length is not checked.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Length:  binary.BigEndian.Uint32(b),
		Command: pb.Command(binary.BigEndian.Uint16(b[10:])),
		Seq:     binary.BigEndian.Uint16(b[12:]),
	}
}

// Next cuts the first frame off b. It returns the frame's header, its body (a slice of b), and the length of the whole frame, n.
// n is 0 when b does not hold a whole frame yet; the header is filled in then if it is there, so that a reader knows how much to wait for.
// The error is ErrLength, as soon as the length field is there to see.
func Next(b []byte, limit int) (h Header, body []byte, n int, err error) {
	if len(b) < 4 {
		return Header{}, nil, 0, nil
	}
	length := int64(binary.BigEndian.Uint32(b))
	if length < HeaderLen || length > int64(limit) {
		return Header{Length: uint32(length)}, nil, 0,
			fmt.Errorf("%w: %d bytes, limit %d", ErrLength, length, limit)
	}
	if len(b) < HeaderLen {
		return Header{Length: uint32(length)}, nil, 0, nil
	}
	h = ParseHeader(b)
	if int64(len(b)) < length {
		return h, nil, 0, nil
	}
	return h, b[HeaderLen:length:length], int(length), nil
}

// Append appends the frame of m to b. It fails, returning b as it was, when m does not encode (a required field is not set) or
// would be longer than MaxServerFrame.
func Append(b []byte, seq uint16, m pb.Message) ([]byte, error) {
	start := len(b)
	b = AppendHeader(b, m.Command(), seq)
	frame, err := m.AppendBody(b)
	if err != nil {
		return b[:start], fmt.Errorf("pdu: encode %s: %w", m.Command(), err)
	}
	n := len(frame) - start
	if n > MaxServerFrame {
		return b[:start], fmt.Errorf("pdu: encode %s: %w: %d bytes", m.Command(), ErrLength, n)
	}
	binary.BigEndian.PutUint32(frame[start:], uint32(n))
	return frame, nil
}

// AppendHead appends the frame of e as far as it is e's own; e.Shared() follows. It fails, returning b as it was, when the frame would be longer than
// MaxServerFrame.
func AppendHead(b []byte, seq uint16, e *pb.Encoded) ([]byte, error) {
	start := len(b)
	head := e.AppendHead(AppendHeader(b, e.Command(), seq))
	n := len(head) - start + len(e.Shared())
	if n > MaxServerFrame {
		return b[:start], fmt.Errorf("pdu: encode %s: %w: %d bytes", e.Command(), ErrLength, n)
	}
	binary.BigEndian.PutUint32(head[start:], uint32(n))
	return head, nil
}

// AppendHeader appends the header of a frame without a body.
func AppendHeader(b []byte, cmd pb.Command, seq uint16) []byte {
	b = binary.BigEndian.AppendUint32(b, HeaderLen)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, cmd.Service())
	b = binary.BigEndian.AppendUint16(b, uint16(cmd))
	b = binary.BigEndian.AppendUint16(b, seq)
	return binary.BigEndian.AppendUint16(b, 0)
}

// Decode decodes a body. ErrUnknown when no message has that command id.
func Decode(cmd pb.Command, body []byte) (pb.Message, error) {
	m := pb.New(cmd)
	if m == nil {
		return nil, fmt.Errorf("%w: 0x%04x", ErrUnknown, uint16(cmd))
	}
	if err := m.ParseBody(body); err != nil {
		return nil, fmt.Errorf("pdu: decode %s: %w", cmd, err)
	}
	return m, nil
}

// ErrUnknown says that a command id belongs to no message.
var ErrUnknown = errors.New("pdu: unknown command")
