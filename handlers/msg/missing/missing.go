// Package missing asks db_proxy for stored messages that have not arrived at this message
// server: their server has ended, or the route server between them is away or slow.
package missing

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// How long a message waits for those before it, for the callers of Search. They mostly
// arrive within milliseconds.
const (
	// AskAfter is how long it waits before db_proxy is asked for them.
	AskAfter = 200 * time.Millisecond
	// Wait is how long it waits for messages that db_proxy does not have. It is asked for
	// them once more then: one of them may have been written in between. A db_proxy that
	// is killed leaves ids without a message. The next message waits for them, and the ack
	// to its sender as well: less than a second.
	Wait = 600 * time.Millisecond
	// AskAgain is the pause before db_proxy is asked again after it failed to answer.
	AskAgain = 300 * time.Millisecond
	// GiveUp is how long it waits at most, while db_proxy does not answer.
	GiveUp = 3 * time.Second
)

const (
	// MaxIDs is how many messages are asked for at a time, the newest of those that are
	// missing.
	MaxIDs = 100
	// maxSearches bounds the searches of this server that are not answered.
	maxSearches = 64
	// idsPerRequest bounds the ids of one request, so that a db_proxy with a low limit of
	// messages per answer looks at all of them.
	idsPerRequest = 50
	// maxRequests bounds the requests of a search: a db_proxy answers with the newest
	// messages that fit a frame.
	maxRequests = 10
)

// Store is the db_proxy that has the messages.
type Store interface {
	// Call sends req and calls done with the answer or an error. With l nil, done runs
	// where the answer arrives, and must not wait.
	Call(l *session.Loop, key uint64, seq uint16, req pb.Attachment, done func(pb.Message, error))
}

// Conversation is where messages are missing, as one of its users sees it.
type Conversation struct {
	// User may read all of the messages.
	User uint32
	// ID is the other user, or the group.
	ID    uint32
	Group bool
}

// Finder asks db_proxy for messages. Any goroutine.
type Finder struct {
	store   Store
	record  func(m *pb.MsgData)
	open    atomic.Int64
	key     atomic.Uint64
	asked   prometheus.Counter
	results *prometheus.CounterVec
}

// New returns a Finder. Connect must be called before the first search. reg may be nil.
func New(reg prometheus.Registerer) *Finder {
	f := &Finder{
		asked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msg_missing_searches_total",
			Help: "Searches for stored messages that did not arrive from another message " +
				"server in time."}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_missing_total",
			Help: "Messages searched for because they did not arrive in time, by result: found " +
				"(delivered in their order), absent (db_proxy has no such message, as after a " +
				"failed write), failed (no answer), refused (too many searches at once)."},
			[]string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(f.asked, f.results)
	}
	return f
}

// Connect sets the db_proxy, and what is called with each message that a search found,
// before its caller has it.
func (f *Finder) Connect(store Store, found func(m *pb.MsgData)) {
	f.store, f.record = store, found
}

// IDs returns the ids between last, which was delivered, and next, which waits: the newest
// MaxIDs of them, in descending order.
func IDs(last, next uint32) []uint32 {
	if next <= last+1 {
		return nil
	}
	ids := make([]uint32, 0, min(next-last-1, MaxIDs))
	for id := next - 1; id > last && len(ids) < MaxIDs; id-- {
		ids = append(ids, id)
	}
	return ids
}

// Search asks for the messages with ids, which are in descending order, and calls done
// with those that exist, in ascending order, or with an error. done runs where the answer
// arrives, and must not wait. Search reports whether it asked: it does not while too many
// searches are open.
func (f *Finder) Search(c Conversation, ids []uint32, done func(found []*pb.MsgData,
	err error)) bool {
	if f.open.Add(1) > maxSearches {
		f.open.Add(-1)
		f.results.WithLabelValues("refused").Add(float64(len(ids)))
		return false
	}
	f.asked.Inc()
	s := &search{f: f, conv: c, total: len(ids), done: done}
	s.ask(ids, 1)
	return true
}

// search is a Search that is not answered.
type search struct {
	f     *Finder
	conv  Conversation
	total int
	found []*pb.MsgData // in descending order of ids
	done  func(found []*pb.MsgData, err error)
}

// ask asks for ids with the request of that number.
func (s *search) ask(ids []uint32, requests int) {
	some := ids[:min(len(ids), idsPerRequest)]
	req := &pb.IMGetMsgByIdReq{}
	req.SetUserId(s.conv.User)
	req.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
	if s.conv.Group {
		req.SetSessionType(pb.SessionType_SESSION_TYPE_GROUP)
	}
	req.SetSessionId(s.conv.ID)
	req.SetMsgIdList(some)
	// Every request has a key of its own: the db_proxy that stores the conversation may be
	// the one that does not answer.
	s.f.store.Call(nil, s.f.key.Add(1), 0, req, func(rsp pb.Message, err error) {
		answer, ok := rsp.(*pb.IMGetMsgByIdRsp)
		if err == nil && (!ok || requests > maxRequests) {
			err = im.Errorf(im.Unavailable, "messages not found by id: answer %T to request %d",
				rsp, requests)
		}
		if err != nil {
			s.end(err)
			return
		}
		if rest := s.take(ids, some, answer.GetMsgList()); len(rest) > 0 {
			s.ask(rest, requests+1)
			return
		}
		s.end(nil)
	})
}

// take takes the answer to a request for some of ids, and returns those that it says
// nothing of. An answer has the newest messages, and may leave out those below.
func (s *search) take(ids, some []uint32, list []*pb.MsgInfo) (rest []uint32) {
	answered := len(some)
	lowest := uint32(0)
	for _, info := range list {
		id := info.GetMsgId()
		if !slices.Contains(some, id) {
			continue // not asked for
		}
		if lowest == 0 || id < lowest {
			lowest = id
		}
		s.found = append(s.found, s.message(info))
	}
	if lowest != 0 {
		answered = slices.Index(some, lowest) + 1
	}
	return ids[answered:]
}

// message returns a message of the history as message servers forward it.
func (s *search) message(info *pb.MsgInfo) *pb.MsgData {
	m := &pb.MsgData{FromUserID: info.GetFromSessionId(), ToSessionID: s.conv.ID,
		MsgID: info.GetMsgId(), CreateTime: info.GetCreateTime(), Type: info.GetMsgType(),
		Data: info.GetMsgData()}
	if !s.conv.Group && m.FromUserID == s.conv.ID {
		m.ToSessionID = s.conv.User
	}
	return m
}

// end ends the search.
func (s *search) end(err error) {
	s.f.open.Add(-1)
	count := func(result string, n int) {
		s.f.results.WithLabelValues(result).Add(float64(n))
	}
	if err != nil {
		count("failed", s.total)
		s.done(nil, err)
		return
	}
	slices.SortFunc(s.found, func(a, b *pb.MsgData) int { return cmp.Compare(a.MsgID, b.MsgID) })
	count("found", len(s.found))
	count("absent", s.total-len(s.found))
	for _, m := range s.found {
		s.f.record(m)
	}
	s.done(s.found, nil)
}
