package link

import (
	"io"

	"teamtalk/core/pdu"
)

// readBuffer is the size of a connection's read buffer, in bytes. It grows for a larger frame, no faster than the frame's bytes arrive, and
// shrinks back after it.
const readBuffer = 64 << 10

// frameReader cuts a stream into frames.
type frameReader struct {
	r     io.Reader
	limit int // of a frame, in bytes
	buf   []byte
	start int // buf[start:end] was read and not handed out
	end   int
}

func newFrameReader(r io.Reader, limit int) *frameReader {
	return &frameReader{r: r, limit: limit, buf: make([]byte, readBuffer)}
}

// next returns the next frame; body is valid until the call after. The error is pdu.ErrLength, io.EOF between frames,
// io.ErrUnexpectedEOF within one, or the connection's.
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
			continue // an error comes again
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

// makeRoom sees to it that there is space behind the bytes that wait.
func (f *frameReader) makeRoom() {
	waiting := f.end - f.start
	switch {
	case waiting <= readBuffer/2 && len(f.buf) > readBuffer: // the large frame is out
		small := make([]byte, readBuffer)
		copy(small, f.buf[f.start:f.end])
		f.buf = small
	case waiting == len(f.buf): // start is 0: one frame fills all of it
		grown := make([]byte, 2*len(f.buf))
		copy(grown, f.buf)
		f.buf = grown
		return
	case f.start > 0:
		copy(f.buf, f.buf[f.start:f.end])
	}
	f.start, f.end = 0, waiting
}
