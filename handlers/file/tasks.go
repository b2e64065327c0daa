package file

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// task is a transfer that somebody is logged in to, or one between two clients. What is in the spool only is no task here.
type task struct {
	info  spool.Info
	relay bool // between two clients

	// Under Server.mu.
	idle    time.Time       // with nobody logged in, since when
	untold  *pb.IMFileState // how it ended, for the side that was not there; nil: it goes on
	awaited end             // that side

	mu    sync.Mutex // after Server.mu; never held while waiting
	conns [2]*conn   // by end
	ended bool
	taken bool      // its receiver wants no more of it: the file goes with the connection that is still fetching it
	pulls []pull    // a relay's: asked by the receiver, not answered by the sender
	stale []pull    // the same of receivers whose place another connection took: what answers them goes nowhere
	moved time.Time // when the oldest pull became due
}

// keepUntold is how long the end of a transfer between two clients is kept for the side that was not there.
const keepUntold = time.Minute

// maxStale is how many pulls of replaced receivers are remembered.
const maxStale = 4 * maxPulls

// pull is a segment that was asked for.
type pull struct {
	offset uint32
	size   uint32
}

// state makes the message that tells of t.
func (t *task) state(st pb.ClientFileState, user uint32) *pb.IMFileState {
	return pb.IMFileState_builder{State: st.Enum(), TaskId: proto.String(t.info.ID), UserId: proto.Uint32(user)}.Build()
}

// is reports whether c is still the connection of its client.
func (t *task) is(e end, c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[e] == c && !t.ended
}

// addRelay makes a task between two clients.
func (s *Server) addRelay(info spool.Info) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.tasks[info.ID] != nil:
		return im.Errorf(im.Exists, "a task of that id is there")
	case s.relays >= s.opt.MaxTasks:
		return im.Errorf(im.Busy, "%d transfers are open", s.relays)
	case s.open[info.From] >= s.opt.MaxUserTasks:
		return im.Errorf(im.Busy, "user %d has %d transfers open", info.From, s.open[info.From])
	}
	s.tasks[info.ID] = &task{info: info, relay: true, idle: s.opt.Now()}
	s.relays++
	s.open[info.From]++
	s.metrics.made.WithLabelValues("online").Inc()
	return nil
}

// dropRelay takes a task between two clients out. With s.mu held.
func (s *Server) dropRelay(t *task) {
	if s.tasks[t.info.ID] != t {
		return
	}
	delete(s.tasks, t.info.ID)
	s.relays--
	if s.open[t.info.From]--; s.open[t.info.From] == 0 {
		delete(s.open, t.info.From)
	}
}

// mayLogin finds the task, one that is not in the table for a file that waits, and says whether the client may log in to it.
func (s *Server) mayLogin(m *pb.IMFileLoginReq) (*task, pb.FileServerError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(m)
}

// find is mayLogin with s.mu held.
func (s *Server) find(m *pb.IMFileLoginReq) (*task, pb.FileServerError) {
	t := s.tasks[m.GetTaskId()]
	e, relay, ok := endOf(m.GetFileRole())
	if t == nil || !t.relay {
		info, state, there := s.spool.Lookup(m.GetTaskId())
		if !there || (e == receives && state == spool.Unfinished) {
			return nil, pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN
		}
		if t == nil {
			t = &task{info: info}
		}
	}
	user := t.info.From
	if e == receives {
		user = t.info.To
	}
	if !ok || relay != t.relay || m.GetUserId() != user {
		return nil, pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK
	}
	if t.untold != nil && e != t.awaited {
		return nil, pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN
	}
	return t, pb.FileServerError_FILE_SERVER_ERRNO_OK
}

// attach logs c in. replaced is the connection whose place it took, peer that of the other side, over how the transfer has ended before c came.
func (s *Server) attach(c *conn, m *pb.IMFileLoginReq) (code pb.FileServerError, replaced, peer *conn, over *pb.IMFileState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, code := s.find(m)
	if code != pb.FileServerError_FILE_SERVER_ERRNO_OK {
		return code, nil, nil, nil
	}
	e, _, _ := endOf(m.GetFileRole())
	t.mu.Lock()
	defer t.mu.Unlock()
	s.tasks[t.info.ID] = t
	replaced, peer = t.conns[e], t.conns[1-e]
	t.conns[e] = c
	c.task, c.user, c.role = t, m.GetUserId(), m.GetFileRole()
	if e == receives { // the sender answers what the connection before has asked
		t.stale = append(t.stale, t.pulls...)
		t.stale = t.stale[max(0, len(t.stale)-maxStale):]
	} else { // nobody does
		t.stale = nil
	}
	t.pulls = nil
	if over = t.untold; over != nil {
		s.dropRelay(t)
	}
	return code, replaced, peer, over
}

// detach takes c off its task when it is gone. Whoever waits for it in a transfer between two clients is told.
func (s *Server) detach(c *conn) {
	s.mu.Lock()
	t := c.task
	e, _, _ := endOf(c.role)
	t.mu.Lock()
	mine, peer := t.conns[e] == c, t.conns[1-e]
	if mine {
		t.conns[e] = nil
	}
	lost := mine && t.relay && peer != nil && !t.ended
	taken := mine && t.taken && e == receives
	if lost {
		t.ended, t.pulls = true, nil
	}
	t.mu.Unlock()
	switch {
	case lost:
		s.dropRelay(t)
	case mine && t.relay:
		t.idle = s.opt.Now()
	case mine && peer == nil && s.tasks[t.info.ID] == t:
		delete(s.tasks, t.info.ID)
	}
	s.mu.Unlock()
	if taken {
		_ = s.takeOff(t.info.ID) // logged there; the file expires all the same
	}
	if lost {
		s.metrics.ended.WithLabelValues("lost").Inc()
		s.tellEnd(peer, 0, t.state(pb.ClientFileState_CLIENT_FILE_CANCEL, c.user))
	}
}

// RunSweep removes, every interval, what nobody has come for, from the table and from the spool. It returns when ctx ends.
func (s *Server) RunSweep(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.sweep(ctx)
		}
	}
}

func (s *Server) sweep(ctx context.Context) {
	now := s.opt.Now()
	s.mu.Lock()
	for _, t := range s.tasks {
		t.mu.Lock()
		keep, ended := s.opt.TaskTimeout, t.ended
		if ended {
			keep = min(keep, keepUntold)
		}
		over := t.relay && t.conns == [2]*conn{} && now.Sub(t.idle) >= keep
		t.ended = ended || over
		t.mu.Unlock()
		if over {
			s.dropRelay(t)
		}
		if over && !ended {
			s.metrics.ended.WithLabelValues("expired").Inc()
		}
	}
	s.mu.Unlock()
	n, err := s.spool.Sweep(ctx)
	s.metrics.ended.WithLabelValues("expired").Add(float64(n))
	if err != nil {
		s.failed("sweep of the spool", "", err)
	}
}

// failed counts and logs what the spool could not do.
func (s *Server) failed(what, id string, err error) {
	s.metrics.failures.Inc()
	s.warn(what, id, err)
}

// warn logs, once a second at most.
func (s *Server) warn(what, id string, err error) {
	if held, ok := s.often.Allow(s.opt.Now()); ok {
		s.log.Warn(what, "task", id, "err", err, "held", held)
	}
}
