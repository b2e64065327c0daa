package file

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// errReplaced closes a connection whose client has logged in on another one.
var errReplaced = errors.New("file: the client has logged in to the same transfer on another " +
	"connection")

// clients handles the port for clients.
type clients struct {
	*router.Router[*session.Client]
	s *Server
}

var _ session.LoopHandler = (*clients)(nil)

func newClients(s *Server) *clients {
	h := &clients{Router: router.New[*session.Client](router.Options{
		Role: "file_clients", Log: s.opt.Log, Registerer: s.opt.Registerer}), s: s}
	router.Handle(h.Router, router.Public, h.handleLogin)
	router.Handle(h.Router, router.LoggedIn, h.handleState)
	router.Handle(h.Router, router.LoggedIn, h.handlePull)
	router.Handle(h.Router, router.LoggedIn, h.handleData)
	router.Handle(h.Router, router.Public,
		func(ses *session.Client, seq uint16, m *pb.IMHeartBeat) error { return ses.Send(seq, m) })
	return h
}

// conn is a client's connection: Client.Data. Its fields belong to its loop, except
// task, user and role, which do not change after the login.
type conn struct {
	*session.Client
	task   *task // nil before login
	user   uint32
	role   pb.ClientFileRole
	asking bool // a login is being checked

	// For uploads.
	asked   int64     // end of the requested bytes
	came    int64     // end of the received bytes
	written int64     // end of the bytes in the spool
	moved   time.Time // when bytes last arrived, or were requested after a pause

	// For downloads.
	pulls  int   // not answered yet
	served int64 // end of the contiguous bytes that were sent
}

// end is a side of a task.
type end int

const (
	sends    end = 0
	receives end = 1
)

// endOf returns the side of a role, and whether the role is one in a task between two
// clients.
func endOf(r pb.ClientFileRole) (e end, relay, ok bool) {
	switch r {
	case pb.ClientFileRole_CLIENT_REALTIME_SENDER:
		return sends, true, true
	case pb.ClientFileRole_CLIENT_REALTIME_RECVER:
		return receives, true, true
	case pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
		return sends, false, true
	case pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD:
		return receives, false, true
	}
	return 0, false, false
}

// of returns the connection of a session; nil when it is not a client's.
func of(ses *session.Client) *conn {
	c, _ := ses.Data.(*conn)
	return c
}

// Open sets the login deadline and the idle limit of a client.
func (h *clients) Open(ses *session.Client) error {
	ses.Data = &conn{Client: ses}
	ses.SetDeadline(h.s.opt.LoginDeadline)
	ses.SetIdleLimit(h.s.opt.IdleTimeout)
	return nil
}

// Close removes the client from its task.
func (h *clients) Close(ses *session.Client, err error) {
	if c := of(ses); c != nil && c.task != nil {
		loopOf(ses.Loop()).tasks--
		h.s.detach(c)
		h.s.log.Debug("client gone", "conn", ses.ID(), "user", c.user, "task", c.task.info.ID,
			"err", err)
	}
}

// Frame relays segments without decoding them, and passes all other frames to the router.
func (h *clients) Frame(ses *session.Client, head pdu.Header, body []byte) {
	if c := of(ses); c != nil && c.role == pb.ClientFileRole_CLIENT_REALTIME_SENDER &&
		head.Command == pb.CmdFilePullDataRsp {
		if err := h.s.relayData(c, head.Seq, body); err != nil {
			h.s.metrics.violations.Inc()
			h.s.log.Debug("segment refused", "conn", ses.ID(), "user", c.user, "task",
				c.task.info.ID, "err", err)
			ses.Close(err)
		}
		return
	}
	h.Router.Frame(ses, head, body)
}

// OpenLoop does nothing.
func (h *clients) OpenLoop(*session.Loop) {}

// loopData is the Data of a loop. Loop only.
type loopData struct {
	tasks int       // connections with a task
	swept int64     // the second in which Tick looked at all connections last
	asked time.Time // when Tick repeated checks of logins last
	again []func()  // repeat the checks of logins
}

// loopOf returns the data of a loop.
func loopOf(l *session.Loop) *loopData {
	d, ok := l.Data.(*loopData)
	if !ok {
		d = &loopData{}
		l.Data = d
	}
	return d
}

// askAgain is the pause after which the check of a login is repeated.
const askAgain = 200 * time.Millisecond

// Due returns when Tick has something to do, see session.LoopHandler.
func (h *clients) Due(l *session.Loop) int64 {
	d, at := loopOf(l), int64(session.Never)
	if len(d.again) > 0 {
		at = l.At(d.asked.Add(askAgain))
	}
	if d.tasks > 0 {
		at = min(at, l.NextSecond())
	}
	return at
}

// Tick closes, once a second, the connections that left a segment unsent for IdleTimeout. It
// repeats the checks of logins for which no route server was reachable.
func (h *clients) Tick(l *session.Loop, now time.Time) {
	d := loopOf(l)
	if len(d.again) > 0 && now.Sub(d.asked) >= askAgain {
		again := d.again
		d.asked, d.again = now, nil
		for _, ask := range again {
			ask()
		}
	}
	second := session.WholeSecond(l.Millis())
	if second <= d.swept {
		return
	}
	d.swept = second
	l.Clients(func(ses *session.Client) {
		c := of(ses)
		if c != nil && c.task != nil && now.Sub(c.owesSince(now)) >= h.s.opt.IdleTimeout {
			ses.Close(session.ErrIdle)
		}
	})
}

// owesSince returns the time since which the client owes a segment; now when it owes
// none.
func (c *conn) owesSince(now time.Time) time.Time {
	switch {
	case c.role == pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD && c.came < c.asked:
		return c.moved
	case c.role == pb.ClientFileRole_CLIENT_REALTIME_SENDER:
		c.task.mu.Lock()
		defer c.task.mu.Unlock()
		if len(c.task.pulls) > 0 {
			return c.task.moved
		}
	}
	return now
}

// handleLogin logs a client in, after a check that its user is logged in to the system. A
// second login on a connection is ignored.
func (h *clients) handleLogin(ses *session.Client, seq uint16, m *pb.IMFileLoginReq) error {
	c, s := of(ses), h.s
	if c == nil || c.asking || c.task != nil {
		return im.Errorf(im.Invalid, "second login on a connection")
	}
	if _, code := s.mayLogin(m); code != pb.FileServerError_FILE_SERVER_ERRNO_OK {
		return s.refuseLogin(c, seq, m, code)
	}
	if s.opt.Online == nil || s.opt.Unchecked != nil && s.opt.Unchecked() {
		return s.login(c, seq, m)
	}
	c.asking = true
	s.askOnline(c, seq, m)
	return nil
}

// askOnline asks a route server whether the user is logged in to the system, and then
// logs the client in or refuses it. While no route server is reachable, because one of
// the servers has just started, Tick repeats the question until OnlineWait: stock clients
// do not log in again by themselves.
func (s *Server) askOnline(c *conn, seq uint16, m *pb.IMFileLoginReq) {
	user := m.GetUserId()
	ask := pb.IMUsersStatReq_builder{UserId: proto.Uint32(user), UserIdList: []uint32{user},
		Scope: pb.DeviceScope_DEVICE_SCOPE_ANY.Enum()}.Build()
	s.opt.Online.Call(c.Loop(), uint64(user), 0, ask, func(answer pb.Message, err error) {
		switch {
		case c.IsClosed():
			return
		case err != nil && im.KindOf(err) == im.Unavailable &&
			c.Loop().Now().Sub(c.Opened()) < s.opt.OnlineWait:
			d := loopOf(c.Loop())
			d.again = append(d.again, func() {
				if !c.IsClosed() {
					s.askOnline(c, seq, m)
				}
			})
			return
		}
		c.asking = false
		switch {
		case err != nil:
			s.metrics.unasked.Inc()
			s.warn("login refused: no route server answered whether the user is online",
				m.GetTaskId(), err)
			err = s.refuseLogin(c, seq, m, pb.FileServerError_FILE_SERVER_ERRNO_LOGIN_INVALID_TOKEN)
		case !s.online(answer, user):
			err = s.refuseLogin(c, seq, m,
				pb.FileServerError_FILE_SERVER_ERRNO_INVALID_USER_FOR_TASK)
		default:
			err = s.login(c, seq, m)
		}
		if err != nil {
			s.log.Debug("login refused", "conn", c.ID(), "user", user, "err", err)
		}
	})
}

// online reports whether an answer shows that a device of user is logged in. A C++ route
// server counts pc clients only, and its answer lacks the scope. A user that it reports
// as offline may use a phone, and counts as online.
func (s *Server) online(answer pb.Message, user uint32) bool {
	rsp, ok := answer.(*pb.IMUsersStatRsp)
	if !ok {
		return false
	}
	for _, st := range rsp.GetUserStatList() {
		if st.GetUserId() == user && st.GetStatus() != pb.UserStatType_USER_STATUS_OFFLINE {
			return true
		}
	}
	if rsp.HasScope() && rsp.GetScope() == pb.DeviceScope_DEVICE_SCOPE_ANY {
		return false
	}
	s.metrics.unproven.Inc()
	return true
}

// refuseLogin sends the refusal and closes the connection.
func (s *Server) refuseLogin(c *conn, seq uint16, m *pb.IMFileLoginReq,
	code pb.FileServerError) error {
	s.metrics.logins.WithLabelValues(code.String()).Inc()
	rsp := pb.IMFileLoginRsp_builder{ResultCode: proto.Uint32(uint32(code)),
		TaskId: proto.String(m.GetTaskId())}.Build()
	if err := c.Send(seq, rsp); err != nil {
		return err
	}
	err := im.Errorf(im.Denied, "user %d may not log in to the task as %s: %s", m.GetUserId(),
		m.GetFileRole(), code)
	c.Close(err)
	return err
}

// login logs a client in and starts the transfer.
func (s *Server) login(c *conn, seq uint16, m *pb.IMFileLoginReq) error {
	code, replaced, peer, over := s.attach(c, m)
	if code != pb.FileServerError_FILE_SERVER_ERRNO_OK {
		return s.refuseLogin(c, seq, m, code)
	}
	s.metrics.logins.WithLabelValues(code.String()).Inc()
	loopOf(c.Loop()).tasks++
	if replaced != nil {
		replaced.PushClose(errReplaced)
	}
	c.SetLoggedIn(c.user, 0)
	rsp := pb.IMFileLoginRsp_builder{ResultCode: proto.Uint32(uint32(code)),
		TaskId: proto.String(m.GetTaskId())}.Build()
	if err := c.Send(seq, rsp); err != nil {
		return err
	}
	if over != nil {
		s.linger(c)
		return c.Send(0, over)
	}
	switch c.role {
	case pb.ClientFileRole_CLIENT_REALTIME_SENDER:
		if peer != nil {
			return s.tell(c, peer, 0, c.task.state(receives,
				pb.ClientFileState_CLIENT_FILE_PEER_READY, c.task.info.From))
		}
	case pb.ClientFileRole_CLIENT_REALTIME_RECVER:
		if peer != nil {
			return c.Send(0, c.task.state(receives,
				pb.ClientFileState_CLIENT_FILE_PEER_READY, c.task.info.From))
		}
	case pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD:
		return s.beginUpload(c)
	case pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD:
		if c.task.info.Size == 0 {
			return s.fetch(c, 0, 0, 0)
		}
	}
	return nil
}

// handlePull handles a receiver's request for a segment.
func (h *clients) handlePull(ses *session.Client, seq uint16, m *pb.IMFilePullDataReq) error {
	c, s := of(ses), h.s
	code := pb.FileServerError_FILE_SERVER_ERRNO_OK
	size := int64(c.task.info.Size)
	e, relay, _ := endOf(c.role)
	switch {
	case m.GetTaskId() != c.id():
		code = pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_WITH_INVALID_TASK_ID
	case e != receives || m.GetUserId() != c.user:
		code = pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_ILLIEAGE_USER
	case int64(m.GetOffset()) >= size || m.GetDataSize() == 0:
		code = pb.FileServerError_FILE_SERVER_ERRNO_PULL_DATA_SEEK_OFFSET_ERROR
	}
	if code != pb.FileServerError_FILE_SERVER_ERRNO_OK {
		return s.refusePull(c, seq, m, code)
	}
	if relay {
		return s.relayPull(c, seq, m)
	}
	n := min(int64(m.GetDataSize()), Segment, size-int64(m.GetOffset()))
	return s.fetch(c, seq, int64(m.GetOffset()), int(n))
}

// refusePull answers a request for a segment that does not exist or is not the client's.
func (s *Server) refusePull(c *conn, seq uint16, m *pb.IMFilePullDataReq,
	code pb.FileServerError) error {
	rsp := pb.IMFilePullDataRsp_builder{ResultCode: proto.Uint32(uint32(code)),
		TaskId: proto.String(m.GetTaskId()),
		UserId: proto.Uint32(m.GetUserId()), Offset: proto.Uint32(m.GetOffset()),
		FileData: []byte{}}.Build()
	if err := c.Send(seq, rsp); err != nil {
		return err
	}
	return im.Errorf(im.Invalid, "pull of %d bytes at %d refused: %s", m.GetDataSize(),
		m.GetOffset(), code)
}

// handleState handles the state that a client reports: it cancels or refuses the
// transfer, or has received all of it.
func (h *clients) handleState(ses *session.Client, seq uint16, m *pb.IMFileState) error {
	c, s := of(ses), h.s
	if m.GetTaskId() != c.id() {
		return im.Errorf(im.Denied, "state of another task")
	}
	e, relay, _ := endOf(c.role)
	how := ""
	switch st := m.GetState(); {
	case st == pb.ClientFileState_CLIENT_FILE_CANCEL:
		how = "cancelled"
	case st == pb.ClientFileState_CLIENT_FILE_REFUSE && e == receives:
		how = "refused"
	case st == pb.ClientFileState_CLIENT_FILE_DONE && e == receives && relay:
		how = "relayed"
	case st == pb.ClientFileState_CLIENT_FILE_DONE && e == receives:
		return nil // the server told the client so itself
	default:
		return im.Errorf(im.Invalid, "state %s from a client in the role %s", st, c.role)
	}
	if relay {
		return s.endRelay(c, seq, m.GetState(), how)
	}
	return s.endOffline(c, how)
}

// linger closes a connection whose transfer has ended, unless the client closes it first.
// Loop only.
func (s *Server) linger(c *conn) {
	c.SetDeadline(c.Loop().Now().Sub(c.Opened()) + s.opt.Linger)
}
