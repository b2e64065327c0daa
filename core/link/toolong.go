package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// ErrTooLong is in the chain of a call's error when the request, or its answer, is longer
// than the settings allow between servers. The same request would fail again.
var ErrTooLong = errors.New("too long between servers")

// tooLong adds ErrTooLong to an error.
func tooLong(err error) error {
	return im.WithKind(im.Invalid, "link", errors.Join(ErrTooLong, err))
}

// skip reads a frame that is longer than the limit and keeps nothing of it: a peer that
// cannot send an answer in parts, as a C++ db_proxy, would lose its link otherwise, and with
// it the calls of all other clients. The call of the answer fails. The error is
// pdu.ErrLength for what is no frame.
func (c *conn) skip(f *frameReader) error {
	h, attach, err := f.skip()
	if err != nil {
		return err
	}
	c.r.metrics.tooLong.Inc()
	err = tooLong(fmt.Errorf("a frame of %d bytes is longer than the setting link.max_frame",
		h.Length))
	c.r.o.Log.Error("frame dropped", "conn", c.session.ID(), "cmd", h.Command.String(), "seq",
		h.Seq, "err", err)
	if id, ok := parseAttach(attach, c.calls.tag); ok {
		c.calls.fail(id, err)
	}
	return nil
}

// skip reads past the next frame, whose length is above the limit. It returns the frame's
// attach_data, nil when the frame has none of a call.
func (f *frameReader) skip() (h pdu.Header, attach []byte, err error) {
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(f, head); err != nil {
		return h, nil, err
	}
	h = pdu.ParseHeader(head)
	if pb.New(h.Command) == nil {
		return h, nil, fmt.Errorf("%w: %d bytes, limit %d", pdu.ErrLength, h.Length, f.limit)
	}
	body := &io.LimitedReader{R: f, N: int64(h.Length) - pdu.HeaderLen}
	r := bufio.NewReader(body)
	attach = attachIn(r)
	if _, err = io.Copy(io.Discard, r); err == nil && body.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return h, attach, err
}

// Read reads what follows the last frame that next returned.
func (f *frameReader) Read(p []byte) (int, error) {
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
			if attach := make([]byte, attachLen); num == pb.FieldAttach && n == attachLen {
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
