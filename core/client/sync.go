package client

import (
	"time"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// syncing is the set of requests at the begin of a connection. First the Client requests
// the conversations that changed and those with unread messages: unread counts alone
// would miss messages that another device has read or sent. Then it requests the groups
// in them.
type syncing struct {
	conn   *tcp.Conn
	at     uint32 // server time of the login
	since  uint32 // changes since this time are requested
	tries  int
	recent []im.RecentSession
	unread []im.Unread
	normal []im.GroupVersion
	groups bool // the second round: the groups are requested
	wait   int  // answers that are due
	timer  *time.Timer
}

// loggedIn starts the sync of a new connection; at is the server time of the login. The
// caller holds b.mu.
func (b *inbox) loggedIn(conn *tcp.Conn, at uint32) {
	if b.again = b.loginAt != 0; !b.again {
		b.loginAt = at
	}
	b.startSync(conn, at, b.syncedAt)
}

// startSync sends the first requests. The caller holds b.mu.
func (b *inbox) startSync(conn *tcp.Conn, at, since uint32) {
	s := &syncing{conn: conn, at: at, since: since, wait: 3}
	b.syncing = s
	s.timer = time.AfterFunc(b.opts.SyncTimeout, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.syncing == s {
			b.syncLate(s)
		}
	})
	b.ask(conn, recentReq(b.self.ID, since), &pb.IMRecentContactSessionRsp{},
		func(m pb.Message, err error) {
			if err == nil {
				s.recent = recentOf(m.(*pb.IMRecentContactSessionRsp))
			}
			b.syncAnswer(s)
		})
	b.ask(conn, unreadReq(b.self.ID), &pb.IMUnreadMsgCntRsp{}, func(m pb.Message, err error) {
		if err == nil {
			s.unread = unreadOf(m.(*pb.IMUnreadMsgCntRsp))
		}
		b.syncAnswer(s)
	})
	b.ask(conn, normalReq(b.self.ID), &pb.IMNormalGroupListRsp{}, func(m pb.Message, err error) {
		if err == nil {
			s.normal = versionsOf(m.(*pb.IMNormalGroupListRsp))
		}
		b.syncAnswer(s)
	})
}

// syncLate continues with the answers so far when the server is slow, and requests again,
// up to syncTries times per connection. The caller holds b.mu.
func (b *inbox) syncLate(s *syncing) {
	b.log.Warn("server did not tell all conversations in time", "user", b.self.ID)
	b.finishSync(s)
	if s.tries < syncTries {
		b.startSync(s.conn, s.at, s.since)
		b.syncing.tries = s.tries + 1
	}
}

// syncTries is the number of repeated requests to a server that does not answer, on one
// connection.
const syncTries = 10

// syncAnswer counts the answers. The caller holds b.mu.
func (b *inbox) syncAnswer(s *syncing) {
	if s.wait--; s.wait != 0 || b.syncing != s {
		return
	}
	if !s.groups {
		s.groups = true
		b.syncGroups(s)
	}
	if s.wait == 0 {
		b.finishSync(s)
	}
}

// syncGroups requests the groups that are new or may have changed. The caller holds b.mu.
func (b *inbox) syncGroups(s *syncing) {
	var others []uint32
	for _, r := range s.recent {
		if r.Type == pb.SessionType_SESSION_TYPE_GROUP {
			others = append(others, r.Peer)
		}
	}
	for _, u := range s.unread {
		if u.Type == pb.SessionType_SESSION_TYPE_GROUP {
			others = append(others, u.Peer)
		}
	}
	for _, batch := range b.groups.questions(s.normal, others) {
		s.wait++
		b.ask(s.conn, infoReq(b.self.ID, batch), &pb.IMGroupInfoListRsp{},
			func(m pb.Message, err error) {
				if err == nil {
					b.groups.update(groupsOf(m.(*pb.IMGroupInfoListRsp)), batch)
				}
				b.syncAnswer(s)
			})
	}
}

// changedLate bounds by how many seconds the time of a conversation's last change may be behind
// that of its last message, which servers store first.
const changedLate = 120

// finishSync uses the answers. On the first connection they are the state from which on
// messages count as new, unless earlier ones were pushed before. On a later connection they show
// which conversations have missed messages, also when the first one ended before its answers
// came. The caller holds b.mu.
func (b *inbox) finishSync(s *syncing) {
	s.timer.Stop()
	b.syncing = nil
	if s.wait == 0 {
		b.syncedAt = s.at
	}
	latest, changed := make(map[Peer]uint32), make(map[Peer]uint32)
	for _, r := range s.recent {
		p := peerOf(r.Type, r.Peer)
		latest[p], changed[p] = r.Latest.ID, r.Updated
	}
	for _, u := range s.unread {
		p := peerOf(u.Type, u.Peer)
		if u.Latest.ID > latest[p] {
			latest[p], changed[p] = u.Latest.ID, u.Latest.Created
		}
	}
	first := !b.baseline
	b.baseline = true
	if s.tries == 0 || s.wait == 0 {
		b.emit(Ready{Unread: s.unread, Recent: s.recent, Groups: b.groups.list(),
			Again: !first})
	}
	for p, id := range latest {
		v := b.conv(p)
		if first && v.base == 0 && (!b.again || changed[p]+changedLate < b.loginAt) {
			v.base = id
		} else if v.fetch == nil && (id > v.base || v.dirty) {
			b.startFetch(s.conn, p, v, id)
		}
	}
	for p, v := range b.convs {
		if v.dirty && v.fetch == nil {
			b.startFetch(s.conn, p, v, 0)
		}
	}
}

// stopSync ends the requests of a lost connection. Held messages are dropped, because the
// next connection fetches them. The caller holds b.mu.
func (b *inbox) stopSync() {
	if b.syncing != nil {
		b.syncing.timer.Stop()
		b.syncing = nil
	}
	for _, v := range b.convs {
		if v.fetch != nil {
			v.fetch.timer.Stop()
			v.fetch, v.held, v.overflow, v.dirty = nil, nil, false, true
		}
	}
}

// fetch reads a conversation's history, newest first, down to the known messages.
type fetch struct {
	conn  *tcp.Conn
	until uint32 // the highest id known to exist
	begin uint32 // of the requested page, 0 for the newest
	got   []im.Message
	tries int         // rounds that returned fewer messages than exist
	mute  int         // requests without an answer
	timer *time.Timer // repeats a request
}

// Sizes and limits of a fetch.
const (
	fetchPage  = 100
	fetchTries = 3
	// The pause before missing messages are requested again: the server may read from a
	// slave that lags.
	fetchAgain = 400 * time.Millisecond
)

// startFetch begins to fill the gap above v.base. The caller holds b.mu.
func (b *inbox) startFetch(conn *tcp.Conn, p Peer, v *conv, until uint32) {
	f := &fetch{conn: conn, until: until}
	v.fetch = f
	b.askPage(p, v, f)
}

// askPage requests a page, and repeats the request when no answer arrives. The caller
// holds b.mu.
func (b *inbox) askPage(p Peer, v *conv, f *fetch) {
	f.arm(b.opts.SyncTimeout, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if v.fetch != f {
			return
		}
		if f.mute++; f.mute < syncTries {
			b.askPage(p, v, f)
			return
		}
		b.log.Warn("server does not give the history", "user", b.self.ID)
		b.emit(Skipped{Peer: p, Below: max(f.until, f.begin)})
		b.settle(p, v, f.got)
	})
	begin := f.begin
	b.ask(f.conn, historyReq(b.self.ID, p, begin, min(fetchPage, b.opts.CatchUp)),
		&pb.IMGetMsgListRsp{}, func(m pb.Message, err error) {
			if v.fetch == f && f.begin == begin && err == nil {
				b.page(p, v, f, messagesOf(b.self.ID, p, m.(*pb.IMGetMsgListRsp).GetMsgList()))
			}
		})
}

// arm starts the timer of a fetch in place of its last one.
func (f *fetch) arm(d time.Duration, do func()) {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer = time.AfterFunc(d, do)
}

// page stores a page of history, and requests the next page or ends the fetch. The caller
// holds b.mu.
func (b *inbox) page(p Peer, v *conv, f *fetch, page []im.Message) {
	lowest, before, complete := f.begin, len(f.got), false
	for _, m := range page {
		if m.ID <= v.base || v.base == 0 && m.Created < b.loginAt {
			complete = true
		} else if lowest == 0 || m.ID <= lowest {
			f.got = append(f.got, m)
			lowest = m.ID
		}
	}
	switch {
	case complete || lowest <= 1 || len(f.got) == before:
		// There are no more messages, or the server repeats itself.
	case len(f.got) >= b.opts.CatchUp:
		b.emit(Skipped{Peer: p, Below: lowest})
		v.base = lowest - 1
	default:
		f.begin = lowest - 1
		b.askPage(p, v, f)
		return
	}
	b.endFetch(p, v, f)
}

// endFetch delivers the messages. When messages that must exist are missing, it first
// repeats the fetch after a pause. The caller holds b.mu.
func (b *inbox) endFetch(p Peer, v *conv, f *fetch) {
	f.tries++
	if (v.overflow || b.incomplete(v, f)) && f.tries < fetchTries {
		v.overflow = false
		f.arm(fetchAgain, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if v.fetch == f {
				f.begin, f.got = 0, nil
				b.askPage(p, v, f)
			}
		})
		return
	}
	f.timer.Stop()
	b.settle(p, v, f.got)
}

// incomplete reports whether ids between base and the highest known id are still missing.
// The caller holds b.mu.
func (b *inbox) incomplete(v *conv, f *fetch) bool {
	if v.base == 0 {
		return false
	}
	known := make(map[uint32]struct{}, len(f.got)+len(v.held)+len(v.own))
	highest := max(f.until, v.base)
	for _, list := range [][]im.Message{f.got, v.held} {
		for _, m := range list {
			known[m.ID] = struct{}{}
			highest = max(highest, m.ID)
		}
	}
	for id := range v.own {
		if id > v.base && id <= highest {
			known[id] = struct{}{}
		}
	}
	for id := range known {
		if id <= v.base {
			delete(known, id)
		}
	}
	return int64(highest)-int64(v.base) > int64(len(known))
}
