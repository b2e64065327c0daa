package msg

import (
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// maxBody is the length of the longest body of a client's frame, in bytes. A list of
// im.MaxGroupMembers users fits. Only messages, which contain sounds, and lists of users
// for a status query are longer.
const maxBody = 64 << 10

// commands registers the commands of clients.
func (h *Server) commands() {
	r := h.Router
	router.Handle(r, router.Public, h.handleHeartbeat)
	router.Handle(r, router.LoggedIn, h.handleTime)
	router.Handle(r, router.LoggedIn, h.handleUploadTicket)

	router.Handle(r, router.Public, h.admission.HandleLogin)
	router.Handle(r, router.LoggedIn, h.admission.HandleLogout)
	router.Handle(r, router.LoggedIn, h.admission.HandleKickPC)

	router.Handle(r, router.LoggedIn, h.conversation.HandleMessage,
		router.MaxBody[*pb.MsgData](0))
	router.Handle(r, router.LoggedIn, h.conversation.Receipts.HandleAck)
	router.Handle(r, router.LoggedIn, h.conversation.Reads.HandleReadAck)

	router.Handle(r, router.LoggedIn, h.groups.HandleChange)
	h.passing.Routes(r)
	h.transfer.Routes(r)
}

func (h *Server) handleHeartbeat(s *session.Client, seq uint16, m *pb.IMHeartBeat) error {
	return s.Send(seq, m)
}

func (h *Server) handleTime(s *session.Client, seq uint16, _ *pb.IMClientTimeReq) error {
	rsp := &pb.IMClientTimeRsp{}
	rsp.SetServerTime(uint32(h.opt.Now().Unix()))
	return s.Send(seq, rsp)
}
