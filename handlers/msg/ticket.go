package msg

import (
	"time"

	"teamtalk/core/session"
	"teamtalk/core/ticket"
	"teamtalk/proto/pb"
)

// noTickets is the result code of a server without tickets.
const noTickets = 1

// handleUploadTicket gives the client a ticket for uploads to the small file server.
func (h *Server) handleUploadTicket(s *session.Client, seq uint16,
	m *pb.IMUploadTicketReq) error {
	rsp := &pb.IMUploadTicketRsp{}
	if len(h.opt.TicketKey) == 0 {
		rsp.SetResultCode(noTickets)
		return s.Send(seq, rsp)
	}
	t := ticket.New(s.User, m.GetMaxSize(), h.opt.Now())
	rsp.SetResultCode(0)
	rsp.SetTicket(t.Sign(h.opt.TicketKey))
	rsp.SetSeconds(uint32(ticket.Life / time.Second))
	if err := s.Send(seq, rsp); err != nil {
		return err
	}
	h.log.Debug("upload ticket given", "conn", s.ID(), "user", s.User, "ticket", t.ID)
	return nil
}
