package msg

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A file goes from one client to another past this server, over a file server. This one finds out whether the receiver is there, has a file server make a
// transfer, and tells both clients where to go; and it has db_proxy keep the list of files that wait.

// What one connection may ask about files. A client that sends a folder asks for each file in it, and says of each that it is there.
const (
	fileRate  = 10.0  // a second
	fileBurst = 200.0 // at once
)

// Results in IMFileRsp, as clients know them.
const (
	fileOK      = uint32(pb.FileServerError_FILE_SERVER_ERRNO_OK)
	fileRefused = uint32(pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ID_ERROR)
)

// What offline_ready says.
const (
	fileComing = 0
	fileWaits  = 1
)

// fileRoutes enters what clients say about files.
func (h *Server) fileRoutes() {
	r := h.Router
	router.Handle(r, router.LoggedIn, h.handleFile)
	router.Handle(r, router.LoggedIn, h.handleHasOffline)
	router.Handle(r, router.LoggedIn, h.handleAddOffline)
	router.Handle(r, router.LoggedIn, h.handleDelOffline)
}

// fileDropped counts what is not done, and says so.
func (h *Server) fileDropped(reason string) error {
	h.metrics.filesRefused.WithLabelValues(reason).Inc()
	return im.Errorf(im.Denied, "request about a file dropped: %s", reason)
}

// mayFile counts what a client says about files against its rate.
func (h *Server) mayFile(s *session.Session) bool {
	return clientOf(s).files.take(s.Loop().Now(), fileRate, fileBurst)
}

// transfer is a client's wish to send a file, until it has its answer.
type transfer struct {
	h    *Server
	s    *session.Session
	seq  uint16
	m    *pb.IMFileReq
	mode pb.TransferFileType
	// left are the file servers to try.
	left []*FileLink
}

// handleFile has a transfer made. It is always answered: what is refused, with a result code.
func (h *Server) handleFile(s *session.Session, seq uint16, m *pb.IMFileReq) error {
	m.SetFromUserId(s.User)
	t := &transfer{h: h, s: s, seq: seq, m: m, mode: m.GetTransMode()}
	switch {
	case !h.mayFile(s):
		return t.refuse("rate", fileRefused)
	case im.CheckFileName(m.GetFileName()) != nil:
		return t.refuse("name", fileRefused)
	case m.GetToUserId() == 0, t.mode != pb.TransferFileType_FILE_TYPE_ONLINE && t.mode != pb.TransferFileType_FILE_TYPE_OFFLINE:
		return t.refuse("invalid", fileRefused)
	}
	if t.left = h.files.inTurn(); len(t.left) == 0 {
		return t.refuse("down", fileRefused)
	}
	if err := h.beginQuery(s); err != nil {
		return t.refuse("too_many", fileRefused)
	}
	t.findPeer()
	return nil
}

// findPeer goes on when it is known whether the receiver sits at a pc: if not, a file that should be passed on at once is one to be kept instead.
func (t *transfer) findPeer() {
	to := t.m.GetToUserId()
	if t.mode == pb.TransferFileType_FILE_TYPE_OFFLINE || to != t.s.User && t.h.hasPC(to) {
		t.ask()
		return
	}
	if to == t.s.User || !t.h.route.Up() { // nobody sits at two
		t.mode = pb.TransferFileType_FILE_TYPE_OFFLINE
		t.ask()
		return
	}
	// Without a scope the question counts pc clients.
	req := pb.IMUsersStatReq_builder{UserId: proto.Uint32(t.s.User), UserIdList: []uint32{to}}.Build()
	t.h.route.Call(t.s.Loop(), uint64(t.s.User), t.seq, req, func(rsp pb.Message, _ error) {
		t.mode = pb.TransferFileType_FILE_TYPE_OFFLINE // also without an answer
		if m, ok := rsp.(*pb.IMUsersStatRsp); ok {
			for _, st := range m.GetUserStatList() {
				if st.GetUserId() == to && st.GetStatus() == pb.UserStatType_USER_STATUS_ONLINE {
					t.mode = pb.TransferFileType_FILE_TYPE_ONLINE
				}
			}
		}
		t.ask()
	})
}

// ask asks the next file server. One that cannot – its disk is full, its link breaks – is not the last word while there are others.
func (t *transfer) ask() {
	l := t.left[0]
	t.left = t.left[1:]
	req := pb.IMFileTransferReq_builder{FromUserId: proto.Uint32(t.s.User), ToUserId: proto.Uint32(t.m.GetToUserId()), FileName: proto.String(t.m.GetFileName()),
		FileSize: proto.Uint32(t.m.GetFileSize()), TransMode: t.mode.Enum()}.Build()
	l.peer.Call(t.s.Loop(), uint64(t.s.User), t.seq, req, func(rsp pb.Message, err error) {
		m, ok := rsp.(*pb.IMFileTransferRsp)
		code := fileRefused
		switch {
		case err != nil || !ok:
			t.h.warn(&t.h.often.file, "transfer not made", "conn", t.s.ID(), "user", t.s.User, "err", err)
		case m.GetResultCode() == fileOK && im.ValidTaskID(m.GetTaskId()):
			clientOf(t.s).queries--
			t.made(l, m.GetTaskId())
			return
		case m.GetResultCode() != fileOK:
			code = m.GetResultCode()
		}
		if len(t.left) > 0 {
			t.ask()
			return
		}
		clientOf(t.s).queries--
		_ = t.refuse("server", code) // counted; the log of what went wrong is above, or the file server's
	})
}

// made tells both sides where to go. On the loop.
func (t *transfer) made(l *FileLink, task string) {
	h := t.h
	h.metrics.files.WithLabelValues(modeName(t.mode)).Inc()
	addresses := l.addresses()
	rsp := t.answer(fileOK, task)
	rsp.SetIpAddrList(addresses)
	h.answer(t.s, t.seq, rsp)
	h.tellFile(pb.IMFileNotify_builder{FromUserId: proto.Uint32(t.s.User), ToUserId: proto.Uint32(t.m.GetToUserId()), FileName: proto.String(t.m.GetFileName()),
		FileSize: proto.Uint32(t.m.GetFileSize()), TaskId: proto.String(task), IpAddrList: addresses, TransMode: t.mode.Enum(),
		OfflineReady: proto.Uint32(fileComing)}.Build())
}

func modeName(mode pb.TransferFileType) string {
	if mode == pb.TransferFileType_FILE_TYPE_ONLINE {
		return "online"
	}
	return "offline"
}

func (t *transfer) answer(code uint32, task string) *pb.IMFileRsp {
	return pb.IMFileRsp_builder{ResultCode: proto.Uint32(code), FromUserId: proto.Uint32(t.s.User), ToUserId: proto.Uint32(t.m.GetToUserId()),
		FileName: proto.String(t.m.GetFileName()), TaskId: proto.String(task), TransMode: t.mode.Enum()}.Build()
}

// refuse answers that there is no transfer. On the loop.
func (t *transfer) refuse(reason string, code uint32) error {
	t.h.answer(t.s, t.seq, t.answer(code, ""))
	return t.h.fileDropped(reason)
}

// tellFile tells the receiver's pc clients of a file, here and elsewhere.
func (h *Server) tellFile(n *pb.IMFileNotify) {
	h.tellPCs(n, n.GetToUserId())
	h.toRoute(0, n)
}

// handleRoutedFile tells the receiver's pc clients here of a file of a user elsewhere.
func (h *Server) handleRoutedFile(_ *session.Session, _ uint16, m *pb.IMFileNotify) error {
	h.tellPCs(m, m.GetToUserId())
	return nil
}

// tellPCs sends m to the pc clients that a user has here. From anywhere.
func (h *Server) tellPCs(m pb.Message, user uint32) {
	for _, o := range h.online.Of(user) {
		if !o.Client.IsMobile() {
			_ = o.Push(0, m) // a full mailbox closes the session
		}
	}
}

// handleHasOffline lists the files that wait for the user, and says where. With several file servers the list has those of one of them, whose addresses come first, and those of
// which nobody knows where they are; each other file is told of by itself, with the addresses of its server, as when it came: clients look for a listed file at
// the first address only.
func (h *Server) handleHasOffline(s *session.Session, seq uint16, m *pb.IMFileHasOfflineReq) error {
	return ask(h, s, seq, h.dbFirst, m, func(rsp *pb.IMFileHasOfflineRsp) {
		var first *FileLink
		var listed, others []*pb.OfflineFileInfo
		for _, f := range rsp.GetOfflineFileList() {
			l := h.files.of(f.GetTaskId())
			if first == nil {
				first = l
			}
			if l == nil || l == first {
				listed = append(listed, f)
			} else {
				others = append(others, f)
			}
		}
		rsp.SetOfflineFileList(listed)
		rsp.SetIpAddrList(h.files.addresses(first))
		h.answer(s, seq, rsp)
		for _, f := range others {
			h.answer(s, 0, pb.IMFileNotify_builder{FromUserId: proto.Uint32(f.GetFromUserId()), ToUserId: proto.Uint32(s.User),
				FileName: proto.String(f.GetFileName()), FileSize: proto.Uint32(f.GetFileSize()), TaskId: proto.String(f.GetTaskId()),
				IpAddrList: h.files.of(f.GetTaskId()).addresses(), TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(), OfflineReady: proto.Uint32(fileWaits)}.Build())
		}
	}, nil)
}

// handleAddOffline has a file noted that the user uploaded, and tells its receiver. It has no answer. Whether there is such a file, and for whom, the file server knows, and lets
// nobody else have it.
func (h *Server) handleAddOffline(s *session.Session, _ uint16, m *pb.IMFileAddOfflineReq) error {
	switch {
	case !h.mayFile(s):
		return h.fileDropped("rate")
	case im.CheckOfflineFile(im.OfflineFile{Task: m.GetTaskId(), Name: m.GetFileName()}) != nil, m.GetToUserId() == 0:
		return h.fileDropped("invalid")
	}
	m.SetFromUserId(s.User)
	n := pb.IMFileNotify_builder{FromUserId: proto.Uint32(s.User), ToUserId: proto.Uint32(m.GetToUserId()), FileName: proto.String(m.GetFileName()),
		FileSize: proto.Uint32(m.GetFileSize()), TaskId: proto.String(m.GetTaskId()), IpAddrList: h.files.addresses(h.files.of(m.GetTaskId())),
		TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(), OfflineReady: proto.Uint32(fileWaits)}.Build()
	h.noteFile(s, m.GetToUserId(), m)
	h.tellFile(n) // after it was noted: who hears of it and asks finds it. Where that failed, who is there gets it all the same
	return nil
}

// handleDelOffline has a file taken off the user's list, and has the file server remove it. Nobody takes it off another's.
func (h *Server) handleDelOffline(s *session.Session, _ uint16, m *pb.IMFileDelOfflineReq) error {
	switch {
	case !h.mayFile(s):
		return h.fileDropped("rate")
	case !im.ValidTaskID(m.GetTaskId()):
		return h.fileDropped("invalid")
	}
	m.SetToUserId(s.User)
	from, task := m.GetFromUserId(), m.GetTaskId() // m is db_proxy's once it is sent
	h.noteFile(s, s.User, m)
	for _, l := range h.files.holders(task) {
		h.tellFileServer(s, l, pb.IMFileDelOfflineReq_builder{FromUserId: &from, ToUserId: &s.User, TaskId: &task}.Build())
	}
	return nil
}

// tellFileServer tells a file server what it does not answer. Where that fails, the file server finds out when it compares its files with the list.
func (h *Server) tellFileServer(s *session.Session, l *FileLink, m *pb.IMFileDelOfflineReq) {
	if err := l.peer.Send(uint64(s.User), 0, m); err != nil {
		h.metrics.filesRefused.WithLabelValues("file").Inc()
		h.warn(&h.often.file, "file server not told that a file was taken off the list", "conn", s.ID(), "user", s.User, "err", err)
	}
}

// noteFile gives db_proxy what it does not answer. All about one receiver's list goes one way, that of the receiver's queries.
func (h *Server) noteFile(s *session.Session, to uint32, m pb.Message) {
	cmd := m.Command()
	if err := h.dbFirst.Send(uint64(to), 0, m); err != nil {
		h.metrics.filesRefused.WithLabelValues("dbproxy").Inc()
		h.warn(&h.often.file, "list of waiting files not changed", "conn", s.ID(), "user", s.User, "cmd", cmd.String(), "err", err)
	}
}
