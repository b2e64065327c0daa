package passing

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// tellFor is how long a change of Tell is held at least. No client waits for it, so that it
// may be held for longer than a query: as long as a server needs to be started again.
const tellFor = time.Minute

// Change is a request of Tell.
type Change interface {
	pb.Attachment
	proto.Message
}

// Tell sends a change that has the same effect when it is carried out twice. When it meets no
// server, or loses its server before the answer, it is held for up to a minute, and sent
// again when a server takes requests. With Options.Hold 0 it is sent once.
//
// again, unless nil, takes the place of m after an attempt that may have succeeded. It is for
// a change that C++ servers carry out twice: they ignore again, and answer neither. Tell
// counts a change without an answer as carried out.
//
// done runs once, on the loop, also when the client has left. Its error says that the change
// was refused or given up. Loop only.
func (h *Handler) Tell(s *session.Client, peer Peer, key uint64, m, again Change,
	done func(error)) {
	q := &question{peer: peer, s: s, on: s.Loop(), key: key, req: m, shared: true, told: true,
		asked: s.Loop().Now(), done: func(_ pb.Message, err error) {
			var overdue *link.Overdue
			if errors.As(err, &overdue) {
				err = nil
			}
			done(err)
		}}
	if again != nil {
		q.again = again
	}
	h.ask(q)
}
