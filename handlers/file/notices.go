package file

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/backoff"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// The receiver of a file that is passed on directly learns of it by a notify, which a
// message server sends once: stock clients show a repeated one as a second file. When it is
// lost with a route server, a message server or a connection, the sender waits in vain. So
// this server, at which the sender waits, repeats the notify over the route servers while
// the receiver has not logged in to the transfer. Message servers pass it on to clients that
// did not get it.

const (
	// noticeEvery is the interval of the first repeated notifies of a transfer, and the age
	// of the first. Those after noticeOften are sent every noticeSlow, until noticeEnd.
	noticeEvery = time.Second
	noticeOften = 10 * time.Second
	noticeSlow  = 5 * time.Second
	noticeEnd   = time.Minute
	// noticesAtOnce bounds the notifies that are repeated at a time.
	noticesAtOnce = 1000
)

// Routes is the handler for links to route servers. It tells them not to send presence
// here, and remembers which of them pass repeated notifies on. Any goroutine.
type Routes struct {
	mu    sync.Mutex
	links []*session.Link // of route servers with SERVER_FEATURE_FILES
}

// Open sends the role of this server.
func (*Routes) Open(ses *session.Link) error {
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	// A route server of ours answers with its own.
	role.SetFeatures(uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS))
	return ses.Send(0, role)
}

// Frame takes the answer to Open, and ignores frames that are sent to all servers.
func (r *Routes) Frame(ses *session.Link, h pdu.Header, body []byte) {
	m := &pb.IMRoleSet{}
	if h.Command == m.Command() && m.ParseBody(body) == nil {
		r.Message(ses, h.Seq, m)
	}
}

// Message takes the answer to Open, and ignores messages that are sent to all servers.
func (r *Routes) Message(ses *session.Link, _ uint16, m pb.Message) {
	role, ok := m.(*pb.IMRoleSet)
	if !ok || role.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_FILES) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.links, ses) {
		r.links = append(r.links, ses)
	}
}

// Close forgets the link. The link itself fails its calls.
func (r *Routes) Close(ses *session.Link, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = slices.DeleteFunc(r.links, func(l *session.Link) bool { return l == ses })
}

// send gives m to the first route server that takes it.
func (r *Routes) send(m pb.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.links, func(l *session.Link) bool { return l.Send(0, m) == nil })
}

// RunNotices repeats the notifies of transfers whose receiver is awaited. It returns when
// ctx ends, and at once without Options.Routes.
func (s *Server) RunNotices(ctx context.Context) {
	if s.opt.Routes == nil {
		return
	}
	n := notices{s}
	for {
		select { // an idle server has nothing to wake up for
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for n.waiting() {
			if backoff.Sleep(ctx, noticeEvery/2) != nil {
				return
			}
			n.repeat()
		}
	}
}

// waiting reports whether a receiver is awaited.
func (s notices) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fresh) > 0
}

// notices is the part of a Server that repeats notifies.
type notices struct{ *Server }

// repeat sends the notifies that are due.
func (s notices) repeat() {
	for _, m := range s.due() {
		result := "sent"
		if !s.opt.Routes.send(m) {
			result = "no_route"
		}
		s.metrics.notices.WithLabelValues(result).Inc()
	}
}

// due returns the notifies that are due, and forgets the transfers whose receiver is
// not awaited any more.
func (s notices) due() (due []*pb.IMFileNotify) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	s.fresh = slices.DeleteFunc(s.fresh, func(t *task) bool {
		age := now.Sub(t.info.Created)
		t.mu.Lock()
		waits, over := t.conns[sends] != nil, t.ended || t.conns[receives] != nil
		t.mu.Unlock()
		if over || age > noticeEnd {
			return true
		}
		if waits && !now.Before(t.notice) && len(due) < noticesAtOnce {
			due = append(due, s.notice(t, age))
			t.notice = now.Add(noticeEvery)
			if age >= noticeOften {
				t.notice = now.Add(noticeSlow)
			}
		}
		return false
	})
	if len(s.fresh) == 0 {
		s.fresh = nil // release what append has grown
	}
	return due
}

// notice returns the notify of a transfer of some age. The caller holds s.mu.
func (s notices) notice(t *task, age time.Duration) *pb.IMFileNotify {
	return pb.IMFileNotify_builder{FromUserId: proto.Uint32(t.info.From),
		ToUserId: proto.Uint32(t.info.To), FileName: proto.String(t.info.Name),
		FileSize: proto.Uint32(t.info.Size), TaskId: proto.String(t.info.ID),
		IpAddrList:   addressList(s.addresses),
		TransMode:    pb.TransferFileType_FILE_TYPE_ONLINE.Enum(),
		OfflineReady: proto.Uint32(0), Age: proto.Uint32(uint32(age.Milliseconds()))}.Build()
}
