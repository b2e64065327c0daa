package file

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// servers handles the links of message servers.
type servers struct {
	*router.Router[*session.Link]
	s *Server
}

func newServers(s *Server) *servers {
	h := &servers{Router: router.New[*session.Link](router.Options{
		Role: "file_servers", Log: s.opt.Log, Registerer: s.opt.Registerer}), s: s}
	router.Handle(h.Router, router.Public, h.handleTransferReq)
	router.Handle(h.Router, router.Public, h.handleServerIPReq)
	router.Handle(h.Router, router.Public, h.handleDelOffline)
	router.Handle(h.Router, router.Public, h.handleConfirm)
	router.Handle(h.Router, router.Public,
		func(*session.Link, uint16, *pb.IMHeartBeat) error { return nil })
	return h
}

// Open sets the idle limit and the heartbeats of a link.
func (h *servers) Open(ses *session.Link) error {
	ses.SetTimeouts(h.s.opt.LinkTimeout, h.s.opt.LinkHeartbeat)
	ses.Log(h.s.log, "server connected")
	return nil
}

// Close logs the end of a link. The tasks created over it remain.
func (h *servers) Close(ses *session.Link, err error) {
	ses.Log(h.s.log, "server gone", "err", err)
}

// handleServerIPReq returns the addresses at which clients reach this server.
func (h *servers) handleServerIPReq(ses *session.Link, seq uint16,
	m *pb.IMFileServerIPReq) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	rsp := &pb.IMFileServerIPRsp{}
	if m.GetConfirms() {
		rsp.SetConfirms(true)
	}
	rsp.SetIpAddrList(addressList(h.s.addresses))
	return ses.Send(seq, rsp)
}

// addressList returns addresses in the form of the protocol.
func addressList(addresses []Address) (list []*pb.IpAddr) {
	for _, a := range addresses {
		list = append(list, pb.IpAddr_builder{Ip: proto.String(a.IP),
			Port: proto.Uint32(a.Port)}.Build())
	}
	return list
}

// handleTransferReq creates a task. For an offline file the answer is sent after the
// spool has recorded the task.
func (h *servers) handleTransferReq(ses *session.Link, seq uint16,
	m *pb.IMFileTransferReq) error {
	s := h.s
	info := spool.Info{From: m.GetFromUserId(), To: m.GetToUserId(), Name: m.GetFileName(),
		Size: m.GetFileSize(), Created: s.opt.Now()}
	err := s.newIDs(&info, m.GetTwoIds())
	if err != nil {
		s.refuseTask(ses, seq, m, pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ID_ERROR)
		return im.WithKind(im.Internal, "draw task id", err)
	}
	if m.GetTransMode() == pb.TransferFileType_FILE_TYPE_ONLINE {
		if err := s.addRelay(info); err != nil {
			s.refuseTask(ses, seq, m, pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ERROR)
			return err
		}
		return ses.Send(seq, transferRsp(m, info))
	}
	id := info.ID
	err = s.opt.Tasks.Do(s.key(id), func(context.Context) {
		if err := s.spool.Create(info); err != nil {
			s.failed("task not created", id, err)
			s.refuseTask(ses, seq, m, whyNot(err))
			return
		}
		s.metrics.made.WithLabelValues("offline").Inc()
		if err := ses.Send(seq, transferRsp(m, info)); err != nil {
			s.log.Debug("answer not sent", "conn", ses.ID(), "task", id, "err", err)
			if err := s.spool.Delete(id); err != nil { // no client can learn the id
				s.failed("task not removed", id, err)
			}
		}
	})
	if err != nil {
		s.refuseTask(ses, seq, m, pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ERROR)
	}
	return err
}

// whyNot returns the result for an error of the spool.
func whyNot(err error) pb.FileServerError {
	switch {
	case errors.Is(err, spool.ErrFull):
		return pb.FileServerError(im.FileNoRoom)
	case im.KindOf(err) == im.Busy:
		return pb.FileServerError(im.FileQuota)
	}
	return pb.FileServerError_FILE_SERVER_ERRNO_CREATE_TASK_ERROR
}

// codeName names a result in metrics.
func codeName(code pb.FileServerError) string {
	switch uint32(code) {
	case im.FileNoRoom:
		return "NO_ROOM"
	case im.FileQuota:
		return "QUOTA"
	}
	return code.String()
}

// transferRsp returns the answer with a created task.
func transferRsp(m *pb.IMFileTransferReq, info spool.Info) *pb.IMFileTransferRsp {
	rsp := pb.IMFileTransferRsp_builder{
		ResultCode: proto.Uint32(uint32(pb.FileServerError_FILE_SERVER_ERRNO_OK)),
		FromUserId: proto.Uint32(m.GetFromUserId()), ToUserId: proto.Uint32(m.GetToUserId()),
		FileName: proto.String(m.GetFileName()), FileSize: proto.Uint32(m.GetFileSize()),
		TaskId: proto.String(info.ID), TransMode: m.GetTransMode().Enum(),
	}.Build()
	if info.SenderID != "" {
		rsp.SetSenderTaskId(info.SenderID)
	}
	if m.HasAttachData() {
		rsp.SetAttachData(m.GetAttachData())
	}
	return rsp
}

// refuseTask answers that the task was not created.
func (s *Server) refuseTask(ses *session.Link, seq uint16, m *pb.IMFileTransferReq,
	code pb.FileServerError) {
	s.metrics.refused.WithLabelValues(codeName(code)).Inc()
	rsp := transferRsp(m, spool.Info{})
	rsp.SetResultCode(uint32(code))
	rsp.ClearTaskId()
	if err := ses.Send(seq, rsp); err != nil {
		s.log.Debug("answer not sent", "conn", ses.ID(), "err", err)
	}
}
