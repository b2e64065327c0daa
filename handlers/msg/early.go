package msg

import (
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/origin"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A client may send a text before its login is answered. The Windows client repeats a text
// that has no ack once, after 6 s, on the connection that it has then, and a check of a
// password that needs a derivation may take longer. Dropped, this text would be lost. So texts
// that arrive while the login is checked are kept, and handled as soon as the client is logged
// in.

// The texts that are kept: of a connection, and of all connections of a loop. An address gets
// no more room when it has as much as is free: it leaves half of it to others.
const (
	maxEarly      = 16
	maxEarlyBytes = 64 << 10
	maxEarlyLoop  = 4 << 20
)

// early is the texts of a connection that wait for its login. Loop only.
type early struct {
	frames []earlyFrame
	bytes  int
}

type earlyFrame struct {
	head pdu.Header
	body []byte
}

// earlyRoom is the room for the texts of a loop, in bytes. The zero value has all of it. Loop
// only.
type earlyRoom struct {
	used int
	of   map[netip.Addr]int // used, by address; nil: none
}

// take takes n bytes for an address. It returns false when there is no room for it.
func (r *earlyRoom) take(from netip.Addr, n int) bool {
	if r.used+n+r.of[from]+n > maxEarlyLoop {
		return false
	}
	if r.of == nil {
		r.of = map[netip.Addr]int{}
	}
	r.used += n
	r.of[from] += n
	return true
}

// put returns n bytes of an address.
func (r *earlyRoom) put(from netip.Addr, n int) {
	r.used -= n
	if r.of[from] -= n; r.of[from] == 0 {
		delete(r.of, from)
	}
	if len(r.of) == 0 {
		r.of = nil // release what a crowd has grown
	}
}

// newEarlyMetric returns the metric of these texts.
func newEarlyMetric(reg prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msg_early_texts_total",
		Help: "Texts that arrived while the login of their client was checked, by result: " +
			"handled (after the login), refused (the login was, or the connection ended), full " +
			"(too many were kept: dropped)."}, []string{"result"})
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// keepEarly keeps a frame until the login of its client is decided. It returns false when the
// router is to handle the frame now. Loop only.
func (h *Server) keepEarly(s *session.Client, head pdu.Header, body []byte) bool {
	c := clientOf(s)
	if head.Command != pb.CmdMsgData || !c.admission.Waits() {
		return false
	}
	if c.early == nil {
		c.early = &early{}
	}
	all := stateOf(s.Loop())
	from := origin.Key(s.RemoteAddr().Addr())
	if len(c.early.frames) >= maxEarly || c.early.bytes+len(body) > maxEarlyBytes ||
		!all.early.take(from, len(body)) {
		h.early.WithLabelValues("full").Inc()
		return false
	}
	c.early.frames = append(c.early.frames, earlyFrame{head, slices.Clone(body)})
	c.early.bytes += len(body)
	return true
}

// takeEarly removes and returns the kept frames of a client. Loop only.
func takeEarly(s *session.Client) []earlyFrame {
	kept := clientOf(s).early
	if kept == nil {
		return nil
	}
	clientOf(s).early = nil
	stateOf(s.Loop()).early.put(origin.Key(s.RemoteAddr().Addr()), kept.bytes)
	return kept.frames
}

// admitted handles the texts that a client sent before its login was answered. Loop only.
func (h *Server) admitted(s *session.Client) {
	for _, f := range takeEarly(s) {
		if s.IsClosed() {
			h.early.WithLabelValues("refused").Inc()
			continue
		}
		h.early.WithLabelValues("handled").Inc()
		h.Router.Frame(s, f.head, f.body)
	}
}

// dropEarly drops the texts of a connection that has ended, or whose login is refused. Loop only.
func (h *Server) dropEarly(s *session.Client) {
	if n := len(takeEarly(s)); n > 0 {
		h.early.WithLabelValues("refused").Add(float64(n))
	}
}
