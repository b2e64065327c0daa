package file

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// A receiver that takes a file off its list wants no more of it: it has fetched it, or will not. The file is removed at once, unless somebody is fetching it just then –
// the receiver's other device. Then it is only marked as fetched, and removed when that connection ends: whoever is fetching gets all of it, or is told that it does not,
// by an end of the connection and, when it logs in again, by code 3 (no such transfer). Nobody takes a part for the whole. An upload that is under way is not touched.

// handleDelOffline takes what a message server says of a file's receiver. It has no answer. A message server that does not know which file server has a file tells all of them.
func (h *servers) handleDelOffline(_ *session.Session, _ uint16, m *pb.IMFileDelOfflineReq) error {
	info, state, ok := h.s.spool.Lookup(m.GetTaskId())
	switch {
	case !ok || state == spool.Unfinished:
		return nil
	case info.From != m.GetFromUserId() || info.To != m.GetToUserId():
		return im.Errorf(im.Denied, "user %d may not take a file from user %d to user %d off the list", m.GetToUserId(), info.From, info.To)
	}
	return h.s.takeOff(info.ID)
}

// takeOff removes a whole file of which its receiver wants no more, now or when nobody fetches it any longer. An error means that it was not begun.
func (s *Server) takeOff(id string) error {
	err := s.opt.Tasks.Do(s.key(id), func(context.Context) {
		_, state, ok := s.spool.Lookup(id)
		if !ok || state == spool.Unfinished {
			return
		}
		err := error(nil)
		if s.isFetching(id) {
			err = s.spool.MarkFetched(id) // should this process end before the connection does
		} else if err = s.spool.Delete(id); err == nil {
			s.metrics.ended.WithLabelValues("taken").Inc()
		}
		if k := im.KindOf(err); err != nil && k != im.NotFound && k != im.Closed {
			s.failed("file that was taken off the list not removed", id, err)
		}
	})
	if err != nil && im.KindOf(err) != im.Closed {
		s.failed("file that was taken off the list not removed", id, err)
	}
	return err
}

// isFetching reports whether a receiver is logged in to a file. If so, detach ends what takeOff began.
func (s *Server) isFetching(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[receives] == nil {
		return false
	}
	t.taken = true
	return true
}

// ListLink is the handler for links to db_proxies: what is asked there is answered by calls, and there is nothing to introduce or to listen to.
type ListLink struct{}

// Open has nothing to say.
func (ListLink) Open(*session.Session) error { return nil }

// Frame has no use for a command that nobody knows.
func (ListLink) Frame(*session.Session, pdu.Header, []byte) {}

// Message has no use for what is sent to all servers.
func (ListLink) Message(*session.Session, uint16, pb.Message) {}

// Close has nothing to do: the link fails its calls itself.
func (ListLink) Close(*session.Session, error) {}
