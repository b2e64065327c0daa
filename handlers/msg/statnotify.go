package msg

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// What everybody is told – that a user's pc came or went, has another signature or picture – comes at the rate of all users together, and goes to as many clients:
// told one by one, N logins cost N² writes. So it is collected for Options.PresenceWindow; what is said of a user again replaces what was not told yet; then
// it is encoded once and goes to each client in one write. The last word is always told, also where a user went and came back within the window: somebody may have
// asked in between, and would be left with that answer.
//
// A loop gives a batch to its clients in turns of a bounded size. The next batch waits for the slowest loop, and grows meanwhile; so a client never hears
// something old after something new, and a server that cannot keep up tells more at once, less often.

const (
	// maxNews is what may wait to be told, in users' changes. It is more than people are in any company; of more, new ones are dropped and counted.
	maxNews = 1 << 18
	// maxTold is how many bytes of it are told at once. It is below what may wait for a client that does not read.
	maxTold = 256 << 10
	// turnBytes is how many bytes a loop copies to its clients before it lets other work in, and writes them.
	turnBytes = 4 << 20
	// leastWork is what looking at one client counts for turnBytes.
	leastWork = 64
)

// newsKind is what changed.
type newsKind uint8

const (
	newStatus newsKind = iota
	newSignInfo
	newAvatar
)

// about is what one piece of news is about. A later one about the same replaces it.
type about struct {
	user uint32
	kind newsKind
}

// news is something that everybody is told.
type news struct {
	about
	status pb.UserStatType // newStatus
	text   string          // the others
}

func (n *news) message() pb.Message {
	switch n.kind {
	case newSignInfo:
		return pb.IMSignInfoChangedNotify_builder{ChangedUserId: proto.Uint32(n.user), SignInfo: proto.String(n.text)}.Build()
	case newAvatar:
		return pb.IMAvatarChangedNotify_builder{ChangedUserId: proto.Uint32(n.user), AvatarUrl: proto.String(n.text)}.Build()
	}
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{UserId: proto.Uint32(n.user), Status: n.status.Enum()}.Build()}.Build()
}

// crier collects what everybody is told.
type crier struct {
	mu      sync.Mutex
	list    []news        // in the order in which it came first
	at      map[about]int // places in list
	timed   bool          // tellNews will be called
	telling int           // loops that are at the batch before
}

// tell has everybody here told of n. From anywhere.
func (h *Server) tell(n news) {
	c := &h.crier
	h.metrics.news.Inc()
	c.mu.Lock()
	i, again := c.at[n.about]
	switch {
	case again:
		c.list[i] = n
		h.metrics.newsMerged.Inc()
	case len(c.list) >= maxNews:
		h.metrics.newsDropped.Inc()
	default:
		c.at[n.about] = len(c.list)
		c.list = append(c.list, n)
	}
	begin := c.begin()
	c.mu.Unlock()
	if begin {
		h.tellLater()
	}
}

// begin reports whether a batch has to be begun, by the caller. With mu held.
func (c *crier) begin() bool {
	if c.timed || c.telling > 0 || len(c.list) == 0 {
		return false
	}
	c.timed = true
	return true
}

func (h *Server) tellLater() {
	if h.opt.PresenceWindow < 0 {
		h.tellNews()
		return
	}
	time.AfterFunc(h.opt.PresenceWindow, h.tellNews)
}

// batch is news on their way to the clients. It is not changed.
type batch struct {
	stats []byte // frames for pc clients
	each  []stat // stats, one by one
	infos []byte // frames for all clients
}

type stat struct {
	user  uint32
	frame []byte
}

// take encodes what waits, as far as it is told at once. With mu held.
func (c *crier) take() (b batch, err error) {
	n := 0
	var ends []int
	for ; n < len(c.list) && len(b.stats)+len(b.infos) < maxTold; n++ {
		news := &c.list[n]
		to := &b.infos
		if news.kind == newStatus {
			to = &b.stats
		}
		frames, e := pdu.Append(*to, 0, news.message())
		if e != nil {
			err = e // that one is lost
			continue
		}
		*to = frames
		if news.kind == newStatus {
			b.each = append(b.each, stat{user: news.user})
			ends = append(ends, len(frames))
		}
	}
	begin := 0
	for i, end := range ends {
		b.each[i].frame = b.stats[begin:end:end]
		begin = end
	}
	c.keep(c.list[n:])
	return b, err
}

// keep leaves rest to be told. With mu held.
func (c *crier) keep(rest []news) {
	clear(c.at)
	left := c.list[:0]
	for _, n := range rest {
		c.at[n.about] = len(left)
		left = append(left, n)
	}
	clear(c.list[len(left):]) // lets go of the texts
	if len(left) == 0 && cap(c.list) > 1<<14 {
		left, c.at = nil, map[about]int{} // grown in a storm
	}
	c.list = left
}

// tellNews gives what was collected to the loops.
func (h *Server) tellNews() {
	c, loops := &h.crier, h.allLoops()
	c.mu.Lock()
	c.timed = false
	b, err := c.take()
	c.telling = len(loops)
	c.mu.Unlock()
	if err != nil {
		h.log.Error("notify not encoded", "err", err)
	}
	for _, l := range loops {
		l.Post(func() { h.tellLoop(l, h.newTelling(l, &b)) })
	}
}

// told notes that a loop is through with a batch.
func (h *Server) told() {
	c := &h.crier
	c.mu.Lock()
	c.telling--
	begin := c.begin()
	c.mu.Unlock()
	if begin {
		h.tellLater()
	}
}

// telling is one batch on its way to the clients of one loop.
type telling struct {
	*batch
	pcs, phones int    // still to tell: so many from the front of the loop's lists
	each        []stat // still to tell to those who have a conversation with the user
}

func (h *Server) newTelling(l *session.Loop, b *batch) *telling {
	st := stateOf(l)
	t := &telling{batch: b}
	if len(b.infos) > 0 {
		t.pcs, t.phones = len(st.pcs), len(st.phones)
	}
	switch {
	case len(b.stats) == 0:
	case h.opt.Presence == PresenceAll || st.contacts.unknown > 0:
		t.pcs = len(st.pcs)
	}
	if h.opt.Presence == PresenceContacts {
		t.each = b.each
	}
	return t
}

// tellLoop gives a batch to some clients of a loop, and goes on in a later turn when there are more. On the loop.
func (h *Server) tellLoop(l *session.Loop, t *telling) {
	more := false
	defer func() {
		if !more { // also after a panic
			h.told()
		}
	}()
	more = !h.tellSome(stateOf(l), t)
	if more {
		l.Post(func() { h.tellLoop(l, t) })
	}
}

// tellSome tells one turn's worth of clients, and reports whether that was all. The lists may have changed since the turn before: who goes leaves its place to the
// last one. So the places below the mark hold everybody who has not heard, and perhaps, which does no harm, somebody who has.
func (h *Server) tellSome(st *loopState, t *telling) (all bool) {
	for left := turnBytes; left > 0; {
		t.pcs, t.phones = min(t.pcs, len(st.pcs)), min(t.phones, len(st.phones))
		switch {
		case t.pcs > 0:
			t.pcs--
			s := st.pcs[t.pcs]
			if h.opt.Presence == PresenceAll || !clientOf(s).contacts.known {
				left -= h.cry(s, t.stats)
			}
			left -= h.cry(s, t.infos) + leastWork
		case t.phones > 0:
			t.phones--
			left -= h.cry(st.phones[t.phones], t.infos) + leastWork
		case len(t.each) > 0:
			stat := t.each[0]
			t.each = t.each[1:]
			for _, s := range st.contacts.of[stat.user] {
				if clientOf(s).contacts.known {
					left -= h.cry(s, stat.frame)
				}
			}
			left -= leastWork
		default:
			return true
		}
	}
	return false
}

// cry sends frames, if there are any, and returns how many bytes.
func (h *Server) cry(s *session.Session, frames []byte) int {
	if len(frames) > 0 {
		s.SendFrame(frames)
	}
	return len(frames)
}

// audience is the logged-in clients of a loop.
type audience struct {
	pcs, phones []*session.Session
}

func (a *audience) list(s *session.Session) *[]*session.Session {
	if s.Client.IsMobile() {
		return &a.phones
	}
	return &a.pcs
}

// join takes s in, which has logged in. On the loop.
func (a *audience) join(s *session.Session) {
	list := a.list(s)
	*list = append(*list, s)
	clientOf(s).seat = len(*list)
}

// part takes s out. On the loop.
func (a *audience) part(s *session.Session) {
	c, list := clientOf(s), a.list(s)
	if c.seat == 0 {
		return
	}
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[c.seat-1] = moved
	clientOf(moved).seat = c.seat
	(*list)[last] = nil
	*list = (*list)[:last]
	c.seat = 0
}
