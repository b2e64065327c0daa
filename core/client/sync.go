package client

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// syncing is what a new connection asks first: which conversations changed, which have unread messages. Unread counts alone would miss
// what another device has read, and what it has sent. What groups there are in them is asked second.
type syncing struct {
	conn   *Conn
	at     uint32 // server time of the login
	since  uint32 // changes since then are asked for
	tries  int
	recent []im.RecentSession
	unread []im.Unread
	normal []im.GroupVersion
	groups bool // the second round: groups are asked for
	wait   int  // answers to come
	timer  *time.Timer
}

// startSync asks; c.mu is held.
func (c *Client) startSync(conn *Conn, at, since uint32) {
	s := &syncing{conn: conn, at: at, since: since, wait: 3}
	c.syncing = s
	s.timer = time.AfterFunc(c.opts.SyncTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.syncing == s {
			c.syncLate(s)
		}
	})
	c.ask(conn, recentReq(c.self.ID, since), &pb.IMRecentContactSessionRsp{}, func(m pb.Message, err error) {
		if err == nil {
			s.recent = recentOf(m.(*pb.IMRecentContactSessionRsp))
		}
		c.syncAnswer(s)
	})
	c.ask(conn, unreadReq(c.self.ID), &pb.IMUnreadMsgCntRsp{}, func(m pb.Message, err error) {
		if err == nil {
			s.unread = unreadOf(m.(*pb.IMUnreadMsgCntRsp))
		}
		c.syncAnswer(s)
	})
	c.ask(conn, normalReq(c.self.ID), &pb.IMNormalGroupListRsp{}, func(m pb.Message, err error) {
		if err == nil {
			s.normal = versionsOf(m.(*pb.IMNormalGroupListRsp))
		}
		c.syncAnswer(s)
	})
}

// syncLate goes on with what there is when the server is slow to tell, and asks again, as often as the connection lasts; c.mu is held.
func (c *Client) syncLate(s *syncing) {
	c.log.Warn("server did not tell all conversations in time", "user", c.self.ID)
	c.finishSync(s)
	if s.tries < syncTries {
		c.startSync(s.conn, s.at, s.since)
		c.syncing.tries = s.tries + 1
	}
}

// syncTries is how often a server that does not answer is asked again on one connection.
const syncTries = 10

// ask sends a request and calls done with the decoded answer, with c.mu held, from the goroutine that reads. c.mu is held.
func (c *Client) ask(conn *Conn, req, resp pb.Message, done func(m pb.Message, err error)) {
	_, _ = conn.Go(req, resp.Command(), func(body []byte, err error) { // an error ends the connection, and the next one asks again
		if err != nil {
			return
		}
		if err = resp.ParseBody(body); err != nil {
			c.malformed.Add(1)
			c.log.Warn("answer dropped", "cmd", resp.Command().String(), "err", err)
		}
		c.mu.Lock()
		done(resp, err)
		c.mu.Unlock()
		c.throttle(conn)
	})
}

// syncAnswer counts answers; c.mu is held.
func (c *Client) syncAnswer(s *syncing) {
	if s.wait--; s.wait != 0 || c.syncing != s {
		return
	}
	if !s.groups {
		s.groups = true
		c.syncGroups(s)
	}
	if s.wait == 0 {
		c.finishSync(s)
	}
}

// syncGroups asks for the groups that are new or may have changed; c.mu is held.
func (c *Client) syncGroups(s *syncing) {
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
	for _, batch := range c.groupQuestions(s.normal, others) {
		s.wait++
		c.ask(s.conn, infoReq(c.self.ID, batch), &pb.IMGroupInfoListRsp{}, func(m pb.Message, err error) {
			if err == nil {
				c.tellGroups(c.takeGroups(groupsOf(m.(*pb.IMGroupInfoListRsp)), batch))
			}
			c.syncAnswer(s)
		})
	}
}

// finishSync takes what the server said: the first time as the state from which messages count as new, later as the way to find
// what was missed. c.mu is held.
func (c *Client) finishSync(s *syncing) {
	s.timer.Stop()
	c.syncing = nil
	if s.wait == 0 {
		c.syncedAt = s.at
	}
	latest := make(map[Peer]uint32)
	for _, r := range s.recent {
		latest[peerOf(r.Type, r.Peer)] = r.Latest.ID
	}
	for _, u := range s.unread {
		p := peerOf(u.Type, u.Peer)
		latest[p] = max(latest[p], u.Latest.ID)
	}
	first := !c.baseline
	c.baseline = true
	if s.tries == 0 || s.wait == 0 {
		c.emit(Ready{Unread: s.unread, Recent: s.recent, Groups: c.knownGroups(), Again: !first})
	}
	for p, id := range latest {
		v := c.conv(p)
		if first {
			v.base = max(v.base, id)
		} else if v.fetch == nil && (id > v.base || v.dirty) {
			c.startFetch(s.conn, p, v, id)
		}
	}
	for p, v := range c.convs {
		if v.dirty && v.fetch == nil {
			c.startFetch(s.conn, p, v, 0)
		}
	}
}

// stopSync forgets what was asked on a connection that is lost; what was held comes again with the next one. c.mu is held.
func (c *Client) stopSync() {
	if c.syncing != nil {
		c.syncing.timer.Stop()
		c.syncing = nil
	}
	for _, v := range c.convs {
		if v.fetch != nil {
			v.fetch.timer.Stop()
			v.fetch, v.held, v.overflow, v.dirty = nil, nil, false, true
		}
	}
}

// fetch reads a conversation's history, newest first, down to what is known.
type fetch struct {
	conn  *Conn
	until uint32 // the highest id known to exist
	begin uint32 // of the page asked for, 0 for the newest
	got   []im.Message
	tries int         // that brought less than should be there
	mute  int         // questions that were not answered
	timer *time.Timer // asks again
}

// Sizes and patience of a fetch.
const (
	fetchPage  = 100
	fetchTries = 3
	fetchAgain = 400 * time.Millisecond // until ids that should be there are asked for again: the server may read from a slave that lags
)

// startFetch begins to fill the gap above v.base; c.mu is held.
func (c *Client) startFetch(conn *Conn, p Peer, v *conv, until uint32) {
	f := &fetch{conn: conn, until: until}
	v.fetch = f
	c.askPage(p, v, f)
}

// askPage asks for a page, and again when no answer comes; c.mu is held.
func (c *Client) askPage(p Peer, v *conv, f *fetch) {
	f.arm(c.opts.SyncTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if v.fetch != f {
			return
		}
		if f.mute++; f.mute < syncTries {
			c.askPage(p, v, f)
			return
		}
		c.log.Warn("server does not give the history", "user", c.self.ID)
		c.emit(Skipped{Peer: p, Below: max(f.until, f.begin)})
		c.settle(p, v, f.got)
	})
	begin := f.begin
	c.ask(f.conn, historyReq(c.self.ID, p, begin, min(fetchPage, c.opts.CatchUp)), &pb.IMGetMsgListRsp{}, func(m pb.Message, err error) {
		if v.fetch == f && f.begin == begin && err == nil {
			c.page(p, v, f, messagesOf(c.self.ID, p, m.(*pb.IMGetMsgListRsp).GetMsgList()))
		}
	})
}

// arm sets what happens next, unless something else does before.
func (f *fetch) arm(d time.Duration, do func()) {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer = time.AfterFunc(d, do)
}

// page takes a page of history and asks for the next one, or ends the fetch; c.mu is held.
func (c *Client) page(p Peer, v *conv, f *fetch, page []im.Message) {
	lowest, before, complete := f.begin, len(f.got), false
	for _, m := range page {
		if m.ID <= v.base || v.base == 0 && m.Created < c.loginAt {
			complete = true
		} else if lowest == 0 || m.ID <= lowest {
			f.got = append(f.got, m)
			lowest = m.ID
		}
	}
	switch {
	case complete || lowest <= 1 || len(f.got) == before: // nothing more, or a server that turns in circles
	case len(f.got) >= c.opts.CatchUp:
		c.emit(Skipped{Peer: p, Below: lowest})
		v.base = lowest - 1
	default:
		f.begin = lowest - 1
		c.askPage(p, v, f)
		return
	}
	c.endFetch(p, v, f)
}

// endFetch delivers, unless something that should be there is not: then it starts once more, a little later. c.mu is held.
func (c *Client) endFetch(p Peer, v *conv, f *fetch) {
	f.tries++
	if (v.overflow || c.incomplete(v, f)) && f.tries < fetchTries {
		v.overflow = false
		f.arm(fetchAgain, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if v.fetch == f {
				f.begin, f.got = 0, nil
				c.askPage(p, v, f)
			}
		})
		return
	}
	f.timer.Stop()
	c.settle(p, v, f.got)
}

// incomplete reports whether ids between base and the highest known one are still unaccounted for; c.mu is held.
func (c *Client) incomplete(v *conv, f *fetch) bool {
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
