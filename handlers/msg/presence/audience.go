package presence

import "teamtalk/core/session"

// audience is the logged-in clients of a loop.
type audience struct {
	pcs, phones []*session.Client
}

func (a *audience) list(s *session.Client) *[]*session.Client {
	if s.ClientType.IsMobile() {
		return &a.phones
	}
	return &a.pcs
}

// join adds s, which has logged in, to the audience. Loop only.
func (h *Handler) join(a *Loop, s *session.Client) {
	list := a.list(s)
	*list = append(*list, s)
	h.opt.Client(s).seat = len(*list)
}

// part removes s from the audience. Loop only.
func (h *Handler) part(a *Loop, s *session.Client) {
	c, list := h.opt.Client(s), a.list(s)
	if c.seat == 0 {
		return
	}
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[c.seat-1] = moved
	h.opt.Client(moved).seat = c.seat
	(*list)[last] = nil
	*list = (*list)[:last]
	c.seat = 0
}
