package dbproxy

import (
	"fmt"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// partSize is the length of the parts of an answer, in bytes. It is below the lowest value of
// the setting link.max_frame, so that a part passes whatever the other server's value is.
const partSize = 512 << 10

// inParts answers a request with m, which is longer than a frame between servers, in parts.
// It refuses the request when the other server does not put answers together, or when m is
// too long for that, too.
func (r *runner) inParts(rq *request, m pb.Message, cause error) error {
	e, encoded := m.(*pb.Encoded)
	if !encoded {
		var err error
		if e, err = pb.Encode(m); err != nil {
			return err
		}
	}
	switch {
	case !takesParts(rq.session) || !e.HasAttachData():
		return r.tooLong(rq, m, fmt.Errorf("the answer is longer than the setting link.max_frame; "+
			"raise it on all servers: %w", cause))
	case e.Len() > r.maxAnswer:
		return r.tooLong(rq, m, fmt.Errorf("the answer has %d bytes, the setting link.max_answer "+
			"is %d; raise it on all servers: %w", e.Len(), r.maxAnswer, cause))
	}
	r.metrics.inParts.Inc()
	return rq.session.SendParts(rq.seq, e.Parts(min(partSize, r.maxFrame/2)))
}

// tooLong refuses a request whose answer m cannot be sent.
func (r *runner) tooLong(rq *request, m pb.Message, cause error) error {
	r.metrics.failures.WithLabelValues(rq.cmd.String(), "too_long").Inc()
	err := im.WithKind(im.Invalid, "too long", cause)
	if held, ok := r.long.Allow(r.now()); ok {
		r.log.Error("request not answered", "role", "dbproxy", "conn", rq.session.ID(), "peer",
			rq.session.Remote(), "cmd", rq.cmd.String(), "seq", rq.seq, "err", err, "held", held)
	}
	if refusal := r.refusal(rq, m, err, false); refusal != nil { // m echoes attach_data
		return rq.session.Send(rq.seq, refusal)
	}
	return err
}
