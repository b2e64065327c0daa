package transfer

import (
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/passing"
	"teamtalk/proto/pb"
)

// handleHasOffline lists the files that wait for the user, and their address. With
// several file servers the list has the files of one of them, whose addresses are the
// first, and those of an unknown server. The client is told of each other file by itself,
// with the addresses of its server, as when it was uploaded: clients look for a listed
// file at the first address only.
func (h *Handler) handleHasOffline(s *session.Client, seq uint16,
	m *pb.IMFileHasOfflineReq) error {
	return passing.Query(h.queries, s, seq, h.first, m, func(rsp *pb.IMFileHasOfflineRsp) {
		var first *Link
		var listed, others []*pb.OfflineFileInfo
		for _, f := range rsp.GetOfflineFileList() {
			f.SetFileName(im.CleanFileName(f.GetFileName()))
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
		h.queries.Answer(s, seq, rsp)
		for _, f := range others {
			h.queries.Answer(s, 0, pb.IMFileNotify_builder{
				FromUserId: proto.Uint32(f.GetFromUserId()), ToUserId: proto.Uint32(s.User),
				FileName: proto.String(f.GetFileName()), FileSize: proto.Uint32(f.GetFileSize()),
				TaskId:       proto.String(f.GetTaskId()),
				IpAddrList:   h.files.of(f.GetTaskId()).addresses(),
				TransMode:    pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
				OfflineReady: proto.Uint32(fileWaits)}.Build())
		}
	}, nil)
}

// handleAddOffline adds a file that the user uploaded to the list of files that wait, and
// tells its receiver, after a file server has confirmed that it has the file. Name and size
// are the server's. A file that cannot be confirmed is not listed, and the client gets no
// answer either way. When its file server cannot be reached, that server lists the file
// later: it compares its files with the list.
func (h *Handler) handleAddOffline(s *session.Client, _ uint16, m *pb.IMFileAddOfflineReq) error {
	switch {
	case !h.may(s):
		return h.drop("rate")
	case im.CheckOfflineFile(im.OfflineFile{Task: m.GetTaskId(), Name: m.GetFileName()}) != nil,
		m.GetToUserId() == 0:
		return h.drop("invalid")
	}
	if t, ok := h.handed.find(s.User, m.GetToUserId(), m.GetTaskId(), s.Loop().Now()); ok {
		h.list(s, t)
		return nil
	}
	c := &confirmation{h: h, s: s, to: m.GetToUserId(), task: m.GetTaskId(),
		left: h.files.confirming(m.GetTaskId())}
	return c.ask()
}

// list adds a file to its receiver's list, and tells the receiver.
func (h *Handler) list(s *session.Client, t handedTask) {
	n := pb.IMFileNotify_builder{FromUserId: proto.Uint32(s.User),
		ToUserId: proto.Uint32(t.to), FileName: proto.String(t.name),
		FileSize: proto.Uint32(t.size), TaskId: proto.String(t.task),
		IpAddrList:   h.files.addresses(h.files.of(t.task)),
		TransMode:    pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
		OfflineReady: proto.Uint32(fileWaits)}.Build()
	h.note(s, t.to, pb.IMFileAddOfflineReq_builder{FromUserId: proto.Uint32(s.User),
		ToUserId: proto.Uint32(t.to), TaskId: proto.String(t.task),
		FileName: proto.String(t.name), FileSize: proto.Uint32(t.size)}.Build(),
		// A C++ db_proxy would list the file twice. It ignores this.
		pb.IMFileListRepairReq_builder{List: []*pb.ListedFile{pb.ListedFile_builder{
			FromUserId: proto.Uint32(s.User), ToUserId: proto.Uint32(t.to),
			TaskId: proto.String(t.task), FileName: proto.String(t.name),
			FileSize: proto.Uint32(t.size)}.Build()}}.Build())
	// After note: a client that is told and asks for the list finds the file. If note
	// failed, clients that are connected are told all the same.
	h.tell(n)
}

// handleDelOffline removes a file from the user's own list, and tells the file server to
// remove it.
func (h *Handler) handleDelOffline(s *session.Client, _ uint16, m *pb.IMFileDelOfflineReq) error {
	switch {
	case !h.may(s):
		return h.drop("rate")
	case !im.ValidTaskID(m.GetTaskId()):
		return h.drop("invalid")
	}
	m.SetToUserId(s.User)
	from, task := m.GetFromUserId(), m.GetTaskId() // m is db_proxy's once it is sent
	h.note(s, s.User, m, nil)
	for _, l := range h.files.holders(task) {
		h.tellServer(s, l, pb.IMFileDelOfflineReq_builder{
			FromUserId: &from, ToUserId: &s.User, TaskId: &task}.Build())
	}
	return nil
}

// tellServer sends a file server a message that it does not answer. If that fails, the
// file server finds out when it compares its files with the list.
func (h *Handler) tellServer(s *session.Client, l *Link, m *pb.IMFileDelOfflineReq) {
	if err := l.peer.Send(uint64(s.User), 0, m); err != nil {
		h.refused.WithLabelValues("file").Inc()
		h.often.Warn(h.opt.Log, h.opt.Now(),
			"file server not told that a file was taken off the list",
			"conn", s.ID(), "user", s.User, "err", err)
	}
}

// note sends db_proxy a change of a receiver's list, again when it may have been lost. again,
// unless nil, is what is sent then. All messages about one receiver's list use the key of
// the receiver's queries.
func (h *Handler) note(s *session.Client, to uint32, m, again passing.Change) {
	cmd := m.Command()
	h.queries.Tell(s, h.first, uint64(to), m, again, func(err error) {
		if err == nil {
			return
		}
		h.refused.WithLabelValues("dbproxy").Inc()
		h.often.Warn(h.opt.Log, h.opt.Now(), "list of waiting files not changed",
			"conn", s.ID(), "user", s.User, "cmd", cmd.String(), "err", err)
	})
}
