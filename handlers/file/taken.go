package file

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// A receiver that removes a file from its list has downloaded it or does not want it. The
// file is deleted at once, unless another device of the receiver is downloading it. Then
// the file is only marked as fetched, and deleted when that connection ends. The other
// device either receives the whole file, or learns that it does not: its connection ends,
// and its next login is answered with code 3 (no such transfer). So no device takes a
// part for the whole file. An unfinished upload is not affected.

// handleDelOffline handles the report of a message server that a receiver removed a file
// from its list. It is not answered. A message server that does not know which file
// server has the file tells all of them.
func (h *servers) handleDelOffline(_ *session.Link, _ uint16, m *pb.IMFileDelOfflineReq) error {
	info, state, ok := h.s.spool.Lookup(m.GetTaskId())
	switch {
	case !ok || state == spool.Unfinished:
		return nil
	case info.From != m.GetFromUserId() || info.To != m.GetToUserId():
		return im.Errorf(im.Denied,
			"user %d may not remove a file from user %d to user %d from the list", m.GetToUserId(),
			info.From, info.To)
	}
	return h.s.takeOff(info.ID)
}

// takeOff deletes a complete file that its receiver does not want any more, at once or
// after the last download. An error means that the task was not queued.
func (s *Server) takeOff(id string) error {
	err := s.opt.Tasks.Do(s.key(id), func(context.Context) {
		_, state, ok := s.spool.Lookup(id)
		if !ok || state == spool.Unfinished {
			return
		}
		err := error(nil)
		if s.isFetching(id) {
			// The mark matters when this process ends before the connection does.
			err = s.spool.MarkFetched(id)
		} else if err = s.spool.Delete(id); err == nil {
			s.metrics.ended.WithLabelValues("taken").Inc()
		}
		if k := im.KindOf(err); err != nil && k != im.NotFound && k != im.Closed {
			s.failed("file not deleted after its receiver removed it from the list", id, err)
		}
	})
	if err != nil && im.KindOf(err) != im.Closed {
		s.failed("file not deleted after its receiver removed it from the list", id, err)
	}
	return err
}

// isFetching reports whether a receiver is logged in to a file. If so, detach deletes the
// file later.
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

// ListLink is the handler for links to db_proxies. All requests are calls of the link, so
// that the handler does nothing.
type ListLink struct{}

// Open sends nothing.
func (ListLink) Open(*session.Link) error { return nil }

// Frame ignores frames: db_proxies send only answers.
func (ListLink) Frame(*session.Link, pdu.Header, []byte) {}

// Message ignores messages that are sent to all servers.
func (ListLink) Message(*session.Link, uint16, pb.Message) {}

// Close does nothing: the link itself fails its calls.
func (ListLink) Close(*session.Link, error) {}
