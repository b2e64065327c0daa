package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// limit is the longest message in these tests, in bytes.
const limit = 70_000

// frame returns a frame of a client. op may have the bits of a first byte.
func frame(first byte, payload []byte) []byte {
	h := ws.Header{Fin: first&bitFin != 0, Rsv: first & bitsRsv >> 4,
		OpCode: ws.OpCode(first & bitsOp), Masked: true, Mask: [4]byte{1, 2, 3, 4},
		Length: int64(len(payload))}
	var b bytes.Buffer
	if err := ws.WriteHeader(&b, h); err != nil {
		panic(err)
	}
	masked := bytes.Clone(payload)
	ws.Cipher(masked, h.Mask, 0)
	return append(b.Bytes(), masked...)
}

// got is what a client said.
type got struct {
	Kind    Kind
	Payload string
	Code    int
}

// read presents p in pieces of step bytes, and returns all that was found, but for parts.
func read(p []byte, step int) (all []got, err error) {
	var r Reader
	var buf []byte
	need := 0
	for len(p) > 0 {
		n := min(step, len(p))
		buf, p = append(buf, p[:n]...), p[n:]
		for len(buf) >= need {
			f, err := r.Next(buf, limit)
			if err != nil {
				return all, err
			}
			if need = f.Need; f.Kind == More {
				if f.Need <= len(buf) {
					return all, errors.New("asks for bytes that are there")
				}
				break
			}
			if f.Kind != Part {
				all = append(all, got{f.Kind, string(f.Payload), f.Code})
			}
			if buf = buf[f.Used:]; f.Kind == Close {
				return all, nil
			}
		}
	}
	return all, nil
}

// The first bytes of frames.
const (
	text, binaryFin       = 0x81, 0x82
	begin, middle, last   = 0x02, 0x00, 0x80
	closes, pings, pongs  = 0x88, 0x89, 0x8A
	reserved1, reservedOp = 0xC2, 0x83
)

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// TestFrames reads what RFC 6455 allows, in one piece, byte by byte, and in sevens.
func TestFrames(t *testing.T) {
	long := strings.Repeat("x", 65_536)
	for name, test := range map[string]struct {
		sent []byte
		want []got
	}{
		"the masked text of section 5.7": {
			[]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58},
			[]got{{Message, "Hello", 0}}},
		"empty": {frame(binaryFin, nil), []got{{Message, "", 0}}},
		"length of 16 bits": {frame(binaryFin, []byte(long[:126])),
			[]got{{Message, long[:126], 0}}},
		"length of 64 bits": {frame(binaryFin, []byte(long)), []got{{Message, long, 0}}},
		"two": {join(frame(text, []byte("a")), frame(binaryFin, []byte("b"))),
			[]got{{Message, "a", 0}, {Message, "b", 0}}},
		"parts, with control frames between": {
			join(frame(begin, []byte("a")), frame(pings, []byte("p")), frame(middle, nil),
				frame(pongs, []byte("q")), frame(last, []byte("b")), frame(binaryFin, []byte("c"))),
			[]got{{Ping, "p", 0}, {Message, "ab", 0}, {Message, "c", 0}}},
		"close within a message": {
			join(frame(begin, []byte("a")), frame(closes, []byte{3, 0xE8})),
			[]got{{Close, "", 1000}}},
		"close with a reason": {frame(closes, append([]byte{0x0F, 0xA0}, "bye"...)),
			[]got{{Close, "bye", 4000}}},
		"close without a code": {frame(closes, nil), []got{{Close, "", CodeNone}}},
		"half a frame":         {frame(binaryFin, []byte("abc"))[:8], nil},
	} {
		for _, step := range []int{len(test.sent), 1, 7} {
			all, err := read(test.sent, step)
			if err != nil || !cmp.Equal(all, test.want) {
				t.Errorf("%s, %d at a time: %v, %v", name, step, err, cmp.Diff(test.want, all))
			}
		}
	}
}

// TestWrongFrames refuses frames by their headers: the payloads never arrive.
func TestWrongFrames(t *testing.T) {
	header := func(first, second byte, more ...byte) []byte {
		return append([]byte{first, second}, more...)
	}
	for name, test := range map[string]struct {
		sent []byte
		want error
	}{
		"no mask":              {header(binaryFin, 5), ErrProtocol},
		"reserved bit":         {header(reserved1, 0x85), ErrProtocol},
		"reserved opcode":      {header(reservedOp, 0x85), ErrProtocol},
		"reserved control":     {header(0x8B, 0x80), ErrProtocol},
		"long ping":            {header(pings, 0xFE), ErrProtocol},
		"long close":           {header(closes, 0xFF), ErrProtocol},
		"ping in parts":        {header(0x09, 0x80), ErrProtocol},
		"rest without a begin": {header(last, 0x80), ErrProtocol},
		"begin within another": {
			join(frame(begin, nil), header(binaryFin, 0x80)), ErrProtocol},
		"too long, 16 bits": {join(frame(begin, make([]byte, limit)),
			header(last, 0xFE, 1, 0, 1, 2, 3, 4)), ErrTooLong},
		"too long, 64 bits": {
			header(binaryFin, 0xFF, 0, 0, 0, 0, 0, 1, 0x11, 0x71, 1, 2, 3, 4), ErrTooLong},
		"negative": {
			header(binaryFin, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4), ErrTooLong},
		"sum of the parts": {join(frame(begin, make([]byte, limit)),
			header(last, 0x81, 1, 2, 3, 4)), ErrTooLong},
		"close of a byte":       {frame(closes, []byte{3}), ErrProtocol},
		"close with 1005":       {frame(closes, []byte{3, 0xED}), ErrProtocol},
		"close with 1006":       {frame(closes, []byte{3, 0xEE}), ErrProtocol},
		"close with 1015":       {frame(closes, []byte{3, 0xF7}), ErrProtocol},
		"close with 999":        {frame(closes, []byte{3, 0xE7}), ErrProtocol},
		"close with 5000":       {frame(closes, []byte{0x13, 0x88}), ErrProtocol},
		"close with a bad text": {frame(closes, []byte{3, 0xE8, 0xFF}), ErrProtocol},
	} {
		for _, step := range []int{len(test.sent), 1} {
			if all, err := read(test.sent, step); !errors.Is(err, test.want) {
				t.Errorf("%s, %d at a time: %v, %v, want %v", name, step, all, err, test.want)
			}
		}
	}
}

// TestCodes tells peers of each fault.
func TestCodes(t *testing.T) {
	for err, want := range map[error]int{wrong(errCode): 1002, ErrTooLong: 1009, ErrMessage: 1007,
		io.EOF: 0} {
		if got := Code(err); got != want {
			t.Errorf("code of %v is %d, want %d", err, got, want)
		}
	}
}

// TestClosesSent: codes that must not be sent are not, and an empty close stays empty.
func TestClosesSent(t *testing.T) {
	for code, want := range map[int][]byte{
		CodeNone: {closes, 0}, 1000: {closes, 2, 3, 0xE8}, 4000: {closes, 2, 0x0F, 0xA0},
		1006: {closes, 2, 3, 0xEA}, 1015: {closes, 2, 3, 0xEA}, 0: {closes, 2, 3, 0xEA},
	} {
		if got := AppendClose(nil, code); !bytes.Equal(got, want) {
			t.Errorf("%d: % x, want % x", code, got, want)
		}
	}
}

// framed appends p, the next bytes of a stream, in frames to dst.
func framed(w *Writer, dst, p []byte) []byte {
	for len(p) > 0 {
		var run []byte
		dst, run, p = w.Next(dst, p)
		dst = append(dst, run...)
	}
	return dst
}

// pdus returns a stream of PDUs of the lengths given.
func pdus(lengths ...int) (stream []byte) {
	for i, n := range lengths {
		p := bytes.Repeat([]byte{byte(i)}, n)
		binary.BigEndian.PutUint32(p, uint32(n))
		stream = append(stream, p...)
	}
	return stream
}

// unframe reads frames of a server, and returns the lengths of their payloads, and the stream.
func unframe(t *testing.T, p []byte) (lengths []int, stream []byte) {
	t.Helper()
	in := bytes.NewReader(p)
	for in.Len() > 0 {
		h, err := ws.ReadHeader(in)
		if err == nil {
			err = ws.CheckHeader(h, ws.StateClientSide)
		}
		if err != nil || h.OpCode != ws.OpBinary || !h.Fin || h.Length > int64(in.Len()) {
			t.Fatalf("wrong frame %+v: %v", h, err)
		}
		body := make([]byte, h.Length)
		_, _ = io.ReadFull(in, body)
		lengths, stream = append(lengths, len(body)), append(stream, body...)
	}
	return lengths, stream
}

// TestWriter: each PDU is one message, wherever the stream is cut.
func TestWriter(t *testing.T) {
	want := []int{16, 125, 126, 16, 65_535, 65_536, 17}
	stream := pdus(want...)
	for _, step := range []int{1, 3, 17, 1000, len(stream)} {
		var w Writer
		var out []byte
		for rest := stream; len(rest) > 0; {
			n := min(step, len(rest))
			out, rest = framed(&w, out, rest[:n]), rest[n:]
			if whole := len(rest) == 0; whole && !w.Between() {
				t.Error("not between two messages at the end")
			}
		}
		lengths, got := unframe(t, out)
		if !cmp.Equal(lengths, want) || !bytes.Equal(got, stream) {
			t.Errorf("%d at a time: messages of %v bytes", step, lengths)
		}
	}
}

// TestWriterWithin: a control frame must wait while a PDU is under way.
func TestWriterWithin(t *testing.T) {
	var w Writer
	for i, within := range []bool{true, true, true, true, true, true, false} {
		if framed(&w, nil, pdus(7)[i:i+1]); w.Between() == within {
			t.Errorf("after %d of 7 bytes: between %v", i+1, w.Between())
		}
	}
}
