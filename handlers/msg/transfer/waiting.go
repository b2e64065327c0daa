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

// handleAddOffline enters a file that the user uploaded into the list of files that wait,
// and tells its receiver. It has no answer. The file server knows whether there is such a
// file, and for which user, and gives it to no other.
func (h *Handler) handleAddOffline(s *session.Client, _ uint16, m *pb.IMFileAddOfflineReq) error {
	switch {
	case !h.may(s):
		return h.drop("rate")
	case im.CheckOfflineFile(im.OfflineFile{Task: m.GetTaskId(), Name: m.GetFileName()}) != nil,
		m.GetToUserId() == 0:
		return h.drop("invalid")
	}
	m.SetFromUserId(s.User)
	n := pb.IMFileNotify_builder{FromUserId: proto.Uint32(s.User),
		ToUserId: proto.Uint32(m.GetToUserId()), FileName: proto.String(m.GetFileName()),
		FileSize: proto.Uint32(m.GetFileSize()), TaskId: proto.String(m.GetTaskId()),
		IpAddrList:   h.files.addresses(h.files.of(m.GetTaskId())),
		TransMode:    pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(),
		OfflineReady: proto.Uint32(fileWaits)}.Build()
	h.note(s, m.GetToUserId(), m)
	// After note: a client that is told and asks for the list finds the file. If note
	// failed, clients that are connected are told all the same.
	h.tell(n)
	return nil
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
	h.note(s, s.User, m)
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

// note sends db_proxy a message that it does not answer. All messages about one
// receiver's list use the key of the receiver's queries.
func (h *Handler) note(s *session.Client, to uint32, m pb.Message) {
	cmd := m.Command()
	if err := h.first.Send(uint64(to), 0, m); err != nil {
		h.refused.WithLabelValues("dbproxy").Inc()
		h.often.Warn(h.opt.Log, h.opt.Now(), "list of waiting files not changed",
			"conn", s.ID(), "user", s.User, "cmd", cmd.String(), "err", err)
	}
}
