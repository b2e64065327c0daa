package presence

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Changes that all clients are told occur at the rate of all users together, and are sent
// to as many clients: told one by one, N logins cost N² writes. So they are collected for
// Options.Window. A change of a user replaces an earlier one that was not told yet. Then
// each is encoded once, and each client gets all of them in one write. The last state is
// always told, also if a user left and came back within the window: a client may have
// asked in between, and would keep that answer.
//
// A loop gives a batch to its clients in turns of a bounded size. The next batch waits
// for the slowest loop, and grows meanwhile. So a client never hears something old after
// something new, and a server that cannot keep up tells more at once, less often.

const (
	// maxNews is how many changes may wait to be told. It is more than there are users in
	// any company. Beyond it, new ones are dropped and counted.
	maxNews = 1 << 18
	// maxTold is how many bytes are told at once. It is below the number of bytes that
	// may wait for a client that does not read.
	maxTold = 256 << 10
	// turnBytes is how many bytes a loop copies to its clients before it does other work
	// and writes them.
	turnBytes = 4 << 20
	// leastWork is what the visit of one client counts for turnBytes.
	leastWork = 64
)

// newsKind is what changed.
type newsKind uint8

const (
	newStatus newsKind = iota
	newSignInfo
	newAvatar
)

// about is the subject of a change. A later change of the same subject replaces it.
type about struct {
	user uint32
	kind newsKind
}

// news is a change that clients are told.
type news struct {
	about
	status pb.UserStatType // newStatus
	text   string          // the others
}

func (n *news) message() pb.Message {
	switch n.kind {
	case newSignInfo:
		return pb.IMSignInfoChangedNotify_builder{ChangedUserId: proto.Uint32(n.user),
			SignInfo: proto.String(n.text)}.Build()
	case newAvatar:
		return pb.IMAvatarChangedNotify_builder{ChangedUserId: proto.Uint32(n.user),
			AvatarUrl: proto.String(n.text)}.Build()
	}
	return pb.IMUserStatNotify_builder{UserStat: pb.UserStat_builder{
		UserId: proto.Uint32(n.user), Status: n.status.Enum()}.Build()}.Build()
}

// collector collects changes.
type collector struct {
	mu      sync.Mutex
	list    []news        // in the order of each one's first change
	at      map[about]int // places in list
	timed   bool          // tellNews will be called
	telling int           // loops that still tell the batch before
}

// tell tells the clients here of n. Any goroutine.
func (h *Handler) tell(n news) {
	c := &h.news
	h.metrics.told.Inc()
	c.mu.Lock()
	i, again := c.at[n.about]
	switch {
	case again:
		c.list[i] = n
		h.metrics.merged.Inc()
	case len(c.list) >= maxNews:
		h.metrics.dropped.Inc()
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

// begin reports whether the caller has to begin a batch. With mu held.
func (c *collector) begin() bool {
	if c.timed || c.telling > 0 || len(c.list) == 0 {
		return false
	}
	c.timed = true
	return true
}

func (h *Handler) tellLater() {
	if h.opt.Window <= 0 {
		h.tellNews()
		return
	}
	h.opt.AfterFunc(h.opt.Window, h.tellNews)
}

// batch is changes on their way to the clients. It is not changed.
type batch struct {
	stats []byte // frames for PC clients
	each  []stat // stats, one by one
	infos []byte // frames for all clients
}

type stat struct {
	user  uint32
	frame []byte
}

// take encodes the changes that wait, as far as they are told at once. With mu held.
func (c *collector) take() (b batch, err error) {
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
			err = e // this change is lost
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
func (c *collector) keep(rest []news) {
	clear(c.at)
	left := c.list[:0]
	for _, n := range rest {
		c.at[n.about] = len(left)
		left = append(left, n)
	}
	clear(c.list[len(left):]) // releases the texts
	if len(left) == 0 && cap(c.list) > 1<<14 {
		left, c.at = nil, map[about]int{} // grown in a storm
	}
	c.list = left
}

// tellNews gives the collected changes to the loops.
func (h *Handler) tellNews() {
	c, loops := &h.news, h.opt.Loops()
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

// told records that a loop has told a batch.
func (h *Handler) told() {
	c := &h.news
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
	each        []stat // still to tell to clients that have a conversation with the user
}

func (h *Handler) newTelling(l *session.Loop, b *batch) *telling {
	st := h.opt.Loop(l)
	t := &telling{batch: b}
	if len(b.infos) > 0 {
		t.pcs, t.phones = len(st.pcs), len(st.phones)
	}
	switch {
	case len(b.stats) == 0:
	case h.opt.Mode == All || st.contacts.unknown > 0:
		t.pcs = len(st.pcs)
	}
	if h.opt.Mode == Contacts {
		t.each = b.each
	}
	return t
}

// tellLoop gives a batch to some clients of a loop, and proceeds in a later turn when
// there are more. Loop only.
func (h *Handler) tellLoop(l *session.Loop, t *telling) {
	more := false
	defer func() {
		if !more { // also after a panic
			h.told()
		}
	}()
	more = !h.tellSome(h.opt.Loop(l), t)
	if more {
		l.Post(func() { h.tellLoop(l, t) })
	}
}

// tellSome tells the clients of one turn, and reports whether those were all. The lists
// may have changed since the turn before: the last client takes the place of one that
// leaves. So the places below the mark hold every client that has not heard, and perhaps,
// which does no harm, one that has.
func (h *Handler) tellSome(st *Loop, t *telling) (all bool) {
	for left := turnBytes; left > 0; {
		t.pcs, t.phones = min(t.pcs, len(st.pcs)), min(t.phones, len(st.phones))
		switch {
		case t.pcs > 0:
			t.pcs--
			s := st.pcs[t.pcs]
			if h.opt.Mode == All || !h.opt.Client(s).contacts.known {
				left -= send(s, t.stats)
			}
			left -= send(s, t.infos) + leastWork
		case t.phones > 0:
			t.phones--
			left -= send(st.phones[t.phones], t.infos) + leastWork
		case len(t.each) > 0:
			stat := t.each[0]
			t.each = t.each[1:]
			for _, s := range st.contacts.of[stat.user] {
				if h.opt.Client(s).contacts.known {
					left -= send(s, stat.frame)
				}
			}
			left -= leastWork
		default:
			return true
		}
	}
	return false
}

// send sends frames, if there are any, and returns the number of bytes.
func send(s *session.Client, frames []byte) int {
	if len(frames) > 0 {
		s.SendFrame(frames)
	}
	return len(frames)
}
