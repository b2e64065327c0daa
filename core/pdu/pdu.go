// Package pdu encodes and decodes frames (PDUs): a 16-byte header in big-endian order,
// and a protobuf body.
//
//	u32 length (header included) · u16 version (1) · u16 flag (0) ·
//	u16 service id · u16 command id · u16 seq · u16 reserved (0)
//
// A reply has the request's seq. A frame that a server sends without a request has seq 0.
// Receivers ignore version, flag, service id and reserved, as the C++ servers and clients
// do.
package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"teamtalk/proto/pb"
)

// HeaderLen is the length of a frame's header, and of the shortest frame, in bytes.
const HeaderLen = 16

// Version is the version field of every frame that is sent.
const Version = 1

// The longest frames, in bytes, header included. A longer one is a fault or an attack:
// the connection is closed before a buffer of that size exists.
const (
	MaxClientFrame = 1<<20 + 64<<10 // between client and server
	MaxServerFrame = 64 << 20       // between servers, unless the settings say otherwise
	// MaxFrame is the longest frame that is encoded. The settings of servers allow no
	// longer one.
	MaxFrame = 1 << 30
	// MaxAndroidFrame is the longest frame that the stock Android client reads. It drops a
	// longer one without a word.
	MaxAndroidFrame = 400<<10 - 1
)

// MaxMalformed is the number of frames in a row that fail to decode after which a connection is
// closed.
const MaxMalformed = 3

// ErrLength means that a frame's length field is below HeaderLen or above the limit. The
// rest of the stream cannot be read.
var ErrLength = errors.New("pdu: frame length out of range")

// Header is a frame's header without the fields that receivers ignore.
type Header struct {
	Length  uint32 // of the whole frame, header included
	Command pb.Command
	Seq     uint16
}

// ParseHeader reads the header at the start of b, which must have at least HeaderLen
// bytes. It does not check the length.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Length:  binary.BigEndian.Uint32(b),
		Command: pb.Command(binary.BigEndian.Uint16(b[10:])),
		Seq:     binary.BigEndian.Uint16(b[12:]),
	}
}

// Next cuts the first frame off b. It returns the frame's header, its body (a slice of b)
// and n, the length of the whole frame. n is 0 when b does not have the whole frame yet.
// h is then filled in as far as b has the header, so that a reader knows for how many
// bytes to wait. The error is ErrLength as soon as b has the length field.
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

// Append appends the frame of m to b. It returns an error, and b unchanged, when m does
// not encode (a required field is not set) or when the frame would be longer than
// MaxFrame.
func Append(b []byte, seq uint16, m pb.Message) ([]byte, error) {
	start := len(b)
	b = AppendHeader(b, m.Command(), seq)
	frame, err := m.AppendBody(b)
	if err != nil {
		return b[:start], fmt.Errorf("pdu: encode %s: %w", m.Command(), err)
	}
	n := len(frame) - start
	if err := TooLong(m.Command(), n, MaxFrame); err != nil {
		return b[:start], err
	}
	binary.BigEndian.PutUint32(frame[start:], uint32(n))
	return frame, nil
}

// TooLong returns an error with ErrLength in its chain when a frame of n bytes is longer
// than limit.
func TooLong(cmd pb.Command, n, limit int) error {
	if n <= limit {
		return nil
	}
	return fmt.Errorf("pdu: encode %s: %w: %d bytes, limit %d", cmd, ErrLength, n, limit)
}

// AppendHead appends the part of e's frame that is not shared. e.Shared() is the other
// part, and follows it. AppendHead returns an error, and b unchanged, when the frame
// would be longer than MaxFrame.
func AppendHead(b []byte, seq uint16, e *pb.Encoded) ([]byte, error) {
	start := len(b)
	head := e.AppendHead(AppendHeader(b, e.Command(), seq))
	n := len(head) - start + len(e.Shared())
	if err := TooLong(e.Command(), n, MaxFrame); err != nil {
		return b[:start], err
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

// Decode decodes a body. The error is ErrUnknown for a command id without a message.
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

// ErrUnknown means that no message has that command id.
var ErrUnknown = errors.New("pdu: unknown command")
