package link

import (
	"errors"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/core/link/frames"
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
func (c *conn) skip(f *frames.Reader) error {
	h, attach, err := f.Skip()
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
