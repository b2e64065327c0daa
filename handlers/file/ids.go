package file

import (
	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// A task has two ids when the message server asked for them (IMFileTransferReq.two_ids).
// Clients log in with an id and the number of a user, and the receiver knows the number of
// the sender. With one id for both sides, the receiver could log in as the sender and upload
// another file in the sender's name. With two ids, a client can take only the side whose id
// it was told. The receiver's id is the key of the task in all tables, and the lists have
// it. The sender's id is told to the sender only.
//
// Message servers of the first implementation know one id, and tell it to both sides.

// id returns the id of t that the client of side e knows.
func (t *task) id(e end) string {
	if e == sends && t.info.SenderID != "" {
		return t.info.SenderID
	}
	return t.info.ID
}

// id returns the id of the client's task that the client knows.
func (c *conn) id() string {
	e, _, _ := endOf(c.role)
	return c.task.id(e)
}

// resolve returns the key of the task that an id names, and whether the id is the sender's
// only. It returns unknown ids unchanged. The caller holds s.mu.
func (s *Server) resolve(id string) (key string, senders bool) {
	if key, ok := s.senders[id]; ok {
		return key, true
	}
	if info, _, ok := s.spool.LookupSender(id); ok {
		return info.ID, true
	}
	return id, false
}

// newIDs sets the ids of a task.
func (s *Server) newIDs(info *spool.Info, two bool) (err error) {
	if info.ID, err = s.opt.NewID(); err == nil && two {
		info.SenderID, err = s.opt.NewID()
	}
	return err
}

// handleConfirm answers whether this server has the whole file of a transfer for a pair of
// users. Only the sender's id is confirmed, because the sender asks for it.
func (h *servers) handleConfirm(ses *session.Link, seq uint16, m *pb.IMFileConfirmReq) error {
	info, state, ok := h.s.spool.LookupSender(m.GetTaskId())
	if !ok {
		info, state, ok = h.s.spool.Lookup(m.GetTaskId())
		ok = ok && info.SenderID == ""
	}
	ok = ok && state != spool.Unfinished && info.From == m.GetFromUserId() &&
		info.To == m.GetToUserId()
	rsp := pb.IMFileConfirmRsp_builder{Confirmed: &ok}.Build()
	if ok {
		rsp.SetTaskId(info.ID)
		rsp.SetFileName(info.Name)
		rsp.SetFileSize(info.Size)
	}
	if m.HasAttachData() {
		rsp.SetAttachData(m.GetAttachData())
	}
	if err := ses.Send(seq, rsp); err != nil || ok {
		return err
	}
	return im.Errorf(im.NotFound, "no whole file from user %d to user %d with the id of %d bytes",
		m.GetFromUserId(), m.GetToUserId(), len(m.GetTaskId()))
}
