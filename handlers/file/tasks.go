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

// task is a transfer with a client logged in, or a transfer between two clients. An
// offline file without a client logged in is in the spool only.
type task struct {
	info  spool.Info
	relay bool // between two clients

	// The fields below are guarded by Server.mu.
	idle   time.Time // when the last client disconnected
	notice time.Time // when the receiver is notified again, see RunNotices
	// untold is how the transfer ended, for the side that was not logged in; else nil.
	untold  *pb.IMFileState
	awaited end // the side that was not logged in

	mu    sync.Mutex // locked after Server.mu; never held while blocking
	conns [2]*conn   // by end
	ended bool
	// taken is set when the receiver removed the file from its list during a download.
	// The file is deleted when the downloading connection ends.
	taken bool
	pulls []pull    // of a relay: requested by the receiver, not answered by the sender
	stale []pull    // pulls of replaced receivers: their answers are dropped
	moved time.Time // when the oldest pull became due
}

// keepUntold is the time for which the end of a transfer between two clients is recorded
// for the side that was not logged in.
const keepUntold = time.Minute

// maxStale bounds the recorded pulls of replaced receivers.
const maxStale = 4 * maxPulls

// pull is a requested segment.
type pull struct {
	offset uint32
	size   uint32
}

// state returns the message that reports the state st of t to the client of side e.
func (t *task) state(e end, st pb.ClientFileState, user uint32) *pb.IMFileState {
	return pb.IMFileState_builder{State: st.Enum(), TaskId: proto.String(t.id(e)),
		UserId: proto.Uint32(user)}.Build()
}

// is reports whether c is still the connection of its client.
func (t *task) is(e end, c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[e] == c && !t.ended
}

// addRelay creates a task between two clients.
func (s *Server) addRelay(info spool.Info) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.tasks[info.ID] != nil:
		return im.Errorf(im.Exists, "task %s exists", info.ID)
	case s.relays >= s.opt.MaxTasks:
		return im.Errorf(im.Busy, "%d transfers are open, the limit is reached", s.relays)
	case s.open[info.From] >= s.opt.MaxUserTasks:
		return im.Errorf(im.Busy, "user %d has %d transfers open, the limit is reached", info.From,
			s.open[info.From])
	}
	now := s.opt.Now()
	t := &task{info: info, relay: true, idle: now, notice: now.Add(noticeEvery)}
	s.tasks[info.ID] = t
	if s.opt.Routes != nil {
		s.fresh = append(s.fresh, t)
		select {
		case s.wake <- struct{}{}:
		default: // it will wake
		}
	}
	if info.SenderID != "" {
		s.senders[info.SenderID] = info.ID
	}
	s.relays++
	s.open[info.From]++
	s.metrics.made.WithLabelValues("online").Inc()
	return nil
}

// dropRelay removes a task between two clients from the table. The caller holds s.mu.
func (s *Server) dropRelay(t *task) {
	if s.tasks[t.info.ID] != t {
		return
	}
	delete(s.tasks, t.info.ID)
	delete(s.senders, t.info.SenderID)
	s.relays--
	if s.open[t.info.From]--; s.open[t.info.From] == 0 {
		delete(s.open, t.info.From)
	}
}

// mayLogin returns the task, and whether the client may log in to it. The task of an
// offline file may be a new value that is not in the table.
func (s *Server) mayLogin(m *pb.IMFileLoginReq) (*task, pb.FileServerError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(m)
}

// find is mayLogin for callers that hold s.mu.
func (s *Server) find(m *pb.IMFileLoginReq) (*task, pb.FileServerError) {
	id, senders := s.resolve(m.GetTaskId())
	t := s.tasks[id]
	e, relay, ok := endOf(m.GetFileRole())
	if t == nil || !t.relay {
		info, state, there := s.spool.Lookup(id)
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
	if t.info.SenderID != "" && senders != (e == sends) {
		ok = false // the id of the other side
	}
	if !ok || relay != t.relay || m.GetUserId() != user {
		return nil, pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK
	}
	if t.untold != nil && e != t.awaited {
		return nil, pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN
	}
	return t, pb.FileServerError_FILE_SERVER_ERRNO_OK
}

// attach logs c in. replaced is the connection that c replaces, peer the connection of
// the other side. over is the end of a transfer that ended before c logged in.
func (s *Server) attach(c *conn, m *pb.IMFileLoginReq) (code pb.FileServerError, replaced,
	peer *conn, over *pb.IMFileState) {
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
	if e == receives { // the sender still answers the pulls of the replaced connection
		t.stale = append(t.stale, t.pulls...)
		t.stale = t.stale[max(0, len(t.stale)-maxStale):]
	} else { // the pulls went to the replaced sender, which does not answer them
		t.stale = nil
	}
	t.pulls = nil
	if over = t.untold; over != nil {
		s.dropRelay(t)
	}
	return code, replaced, peer, over
}

// detach removes c from its task after it was closed. In a transfer between two clients
// the other side is told.
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
		_ = s.takeOff(t.info.ID) // takeOff logs the error, and the file still expires
	}
	if lost {
		s.metrics.ended.WithLabelValues("lost").Inc()
		s.tellEnd(peer, 0, t.state(1-e, pb.ClientFileState_CLIENT_FILE_CANCEL, c.user))
	}
}

// Transfer is a transfer of a file that runs.
type Transfer struct {
	spool.Info
	Online bool // between two clients, rather than to or from the spool
}

// Transfers returns the transfers of a server that have a client logged in, at most limit of
// them, in no particular order. Any goroutine.
func Transfers(s *Server, limit int) (list []Transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tasks {
		if len(list) == limit {
			break
		}
		t.mu.Lock()
		if !t.ended && t.conns != [2]*conn{} {
			list = append(list, Transfer{t.info, t.relay})
		}
		t.mu.Unlock()
	}
	return list
}

// RunSweep deletes expired tasks and expired files from the table and from the spool, at
// the given interval. It returns when ctx ends.
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
		s.failed("expired files not deleted from the spool", "", err)
	}
}

// failed counts and logs a failure of the spool.
func (s *Server) failed(what, id string, err error) {
	s.metrics.failures.Inc()
	s.warn(what, id, err)
}

// warn logs at most once a second.
func (s *Server) warn(what, id string, err error) {
	if held, ok := s.often.Allow(s.opt.Now()); ok {
		s.log.Warn(what, "task", id, "err", err, "held", held)
	}
}
