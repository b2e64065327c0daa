package msfs

import (
	"net/http"
	"time"

	"teamtalk/core/ticket"
)

// Tickets says which uploads need a ticket of package ticket.
type Tickets struct {
	// Key checks them. Empty: tickets are ignored.
	Key []byte
	// Required refuses uploads without a valid ticket.
	Required bool
}

// Values of the label of teamtalk_msfs_tickets_total.
const (
	ticketValid   = "valid"
	ticketInvalid = "invalid"
	ticketNone    = "none"
)

var (
	noTicket = &refusal{code: codeBad, reason: "no_ticket",
		text: "需要上传凭证，请升级客户端"}
	badTicket = &refusal{code: codeBad, reason: "bad_ticket", text: "上传凭证无效或已过期"}
)

// uploader returns the uploader of a request, and the size of the largest file that it may
// have. An upload with a valid ticket counts for the user instead of the address. The uploads
// of servers are unbounded, because they are those of all users.
func (s *Server) uploader(r *http.Request) (u uploader, most int64, no *refusal) {
	if len(s.opt.Tickets.Key) == 0 {
		return s.address(r), s.opt.MaxSize, nil
	}
	token := r.Header.Get(ticket.Header)
	if token == "" {
		token = r.URL.Query().Get(ticket.Parameter)
	}
	if token == "" {
		s.metrics.tickets.WithLabelValues(ticketNone).Inc()
		if s.opt.Tickets.Required {
			s.bare.Warn(s.log, time.Now(), "upload without a ticket refused (setting "+
				"msfs.tickets)", "addr", r.RemoteAddr)
		}
		return s.address(r), s.opt.MaxSize, s.unless(noTicket)
	}
	t, err := ticket.Parse(s.opt.Tickets.Key, token, s.opt.Now())
	if err != nil {
		s.metrics.tickets.WithLabelValues(ticketInvalid).Inc()
		s.forged.Warn(s.log, time.Now(), "upload with a ticket that is not valid (setting "+
			"msfs.ticket_key; the clocks of servers)", "addr", r.RemoteAddr, "err", err)
		return s.address(r), s.opt.MaxSize, s.unless(badTicket)
	}
	s.metrics.tickets.WithLabelValues(ticketValid).Inc()
	most = s.opt.MaxSize
	if t.MaxSize > 0 {
		most = min(most, int64(t.MaxSize))
	}
	if t.User == ticket.Server {
		return unbounded, most, nil
	}
	return uploader{user: t.User, bound: true}, most, nil
}

// unless returns the refusal when tickets are required.
func (s *Server) unless(no *refusal) *refusal {
	if s.opt.Tickets.Required {
		return no
	}
	return nil
}
