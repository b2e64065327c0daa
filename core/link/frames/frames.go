// Package frames splits the stream of a link into frames, and reads past those that are too long.
package frames

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// AttachLen is the length of the attach_data of a call, in bytes.
const AttachLen = 12

// readBuffer is the size of a connection's read buffer, in bytes. The buffer grows for a
// larger frame, no faster than the frame's bytes arrive, and shrinks after it.
const readBuffer = 64 << 10

// Reader splits a stream into frames. One goroutine uses it.
type Reader struct {
	r     io.Reader
	limit int // longest frame, in bytes
	buf   []byte
	start int // buf[start:end] was read and not returned
	end   int
}

// New returns a Reader of frames of at most limit bytes.
func New(r io.Reader, limit int) *Reader {
	return &Reader{r: r, limit: limit, buf: make([]byte, readBuffer)}
}

// Next returns the next frame. The body is valid until the next call. The error is
// pdu.ErrLength, io.EOF between frames, io.ErrUnexpectedEOF within a frame, or an error
// of the connection.
func (f *Reader) Next() (pdu.Header, []byte, error) {
	for empty := 0; ; {
		h, body, n, err := pdu.Next(f.buf[f.start:f.end], f.limit)
		if err != nil {
			return h, nil, err
		}
		if n > 0 {
			f.start += n
			return h, body, nil
		}
		f.makeRoom()
		n, err = f.r.Read(f.buf[f.end:])
		f.end += n
		if n > 0 {
			empty = 0
			continue // the next Read repeats an error
		}
		if err == io.EOF && f.start < f.end {
			err = io.ErrUnexpectedEOF
		}
		if empty++; err == nil && empty > 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return pdu.Header{}, nil, err
		}
	}
}

// makeRoom makes space behind the waiting bytes.
func (f *Reader) makeRoom() {
	waiting := f.end - f.start
	switch {
	case waiting <= readBuffer/2 && len(f.buf) > readBuffer: // the large frame was returned
		small := make([]byte, readBuffer)
		copy(small, f.buf[f.start:f.end])
		f.buf = small
	case waiting == len(f.buf): // start is 0: one frame fills the buffer
		grown := make([]byte, 2*len(f.buf))
		copy(grown, f.buf)
		f.buf = grown
		return
	case f.start > 0:
		copy(f.buf, f.buf[f.start:f.end])
	}
	f.start, f.end = 0, waiting
}

// Skip reads past the next frame, whose length is above the limit, and keeps nothing of it. It
// returns the frame's attach_data; nil when the frame has none of a call. The error is
// pdu.ErrLength for what is no frame.
func (f *Reader) Skip() (h pdu.Header, attach []byte, err error) {
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(rest{f}, head); err != nil {
		return h, nil, err
	}
	h = pdu.ParseHeader(head)
	if pb.New(h.Command) == nil {
		return h, nil, fmt.Errorf("%w: %d bytes, limit %d", pdu.ErrLength, h.Length, f.limit)
	}
	body := &io.LimitedReader{R: rest{f}, N: int64(h.Length) - pdu.HeaderLen}
	r := bufio.NewReader(body)
	attach = attachIn(r)
	if _, err = io.Copy(io.Discard, r); err == nil && body.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return h, attach, err
}

// rest reads what follows the last frame that Next returned.
type rest struct{ *Reader }

// Read reads the next bytes.
func (f rest) Read(p []byte) (int, error) {
	if f.start < f.end {
		n := copy(p, f.buf[f.start:f.end])
		f.start += n
		return n, nil
	}
	return f.r.Read(p)
}

// attachIn returns the attach_data of a call from the encoding of a message. It reads as far
// as it must, and returns nil when there is none.
func attachIn(r *bufio.Reader) []byte {
	for {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return nil
		}
		n := uint64(0) // bytes of the field's value
		switch num, typ := protowire.DecodeTag(tag); {
		case typ == protowire.VarintType:
			_, err = binary.ReadUvarint(r)
		case typ == protowire.Fixed32Type:
			n = 4
		case typ == protowire.Fixed64Type:
			n = 8
		case typ != protowire.BytesType:
			return nil
		default:
			n, err = binary.ReadUvarint(r)
			if attach := make([]byte, AttachLen); num == pb.FieldAttach && n == AttachLen {
				if _, err := io.ReadFull(r, attach); err != nil {
					return nil
				}
				return attach
			}
		}
		if err != nil || n > math.MaxInt32 {
			return nil
		}
		if _, err := r.Discard(int(n)); err != nil {
			return nil
		}
	}
}
