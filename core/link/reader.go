package link

import (
	"io"

	"teamtalk/core/pdu"
)

// readBuffer is the size of a connection's read buffer, in bytes. The buffer grows for a
// larger frame, no faster than the frame's bytes arrive, and shrinks after it.
const readBuffer = 64 << 10

// frameReader splits a stream into frames.
type frameReader struct {
	r     io.Reader
	limit int // longest frame, in bytes
	buf   []byte
	start int // buf[start:end] was read and not returned
	end   int
}

func newFrameReader(r io.Reader, limit int) *frameReader {
	return &frameReader{r: r, limit: limit, buf: make([]byte, readBuffer)}
}

// next returns the next frame. The body is valid until the next call. The error is
// pdu.ErrLength, io.EOF between frames, io.ErrUnexpectedEOF within a frame, or an error
// of the connection.
func (f *frameReader) next() (pdu.Header, []byte, error) {
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
func (f *frameReader) makeRoom() {
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
