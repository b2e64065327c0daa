package mesh

import (
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// user is what the message server of this process has of a user. With Server.mu held.
type user struct {
	id      uint32
	dirty   bool // the store does not have the present state, and no write of it runs
	busy    bool // a write runs
	quiet   bool // the next write is no news: it restores what the store has lost
	renewed bool // others may have said that the user is gone
	pcSaved bool // the last write had a PC
	// pcElsewhere and phoneElsewhere say that other message servers had a PC or a phone of the
	// user at the last write.
	pcElsewhere, phoneElsewhere bool
	version                     uint64 // of the last write
	devices                     []device
	*pending                    // nil: nothing
}

// pending is what few users have at a time.
type pending struct {
	coming  []*coming
	arrived []pb.ClientType // that are not announced
	// kicks are those of logins here that no coming announced. They are sent after the next
	// write.
	kicks []*pb.IMServerKickUser
	// held are kicks of other message servers that wait for a login here.
	held []*pb.IMServerKickUser
}

// device is the clients of one type that are logged in.
type device struct {
	client  pb.ClientType
	count   int
	acks    bool
	flying  bool   // a write with it runs, and it has no version
	version uint64 // of the write with its latest login; 0: it is not written
}

// coming is a login that waits for the store, or whose client comes at any moment: its answer was
// sent.
type coming struct {
	user    *user
	client  pb.ClientType
	at      time.Time
	flying  bool                // a write with it runs
	version uint64              // of the write with it; 0: it is not written
	others  []whereabouts.Entry // of other message servers at that write
	ended   bool
	told    bool // done was called
	done    func(others []whereabouts.Entry, err error)
}

// maxComing bounds the logins that wait for the store.
const maxComing = 1 << 14

// comingLasts is how long a login may take from the answer to the client's arrival.
const comingLasts = 15 * time.Second

// user returns the state of a user.
func (s *Server) user(id uint32) *user {
	u := s.users[id]
	if u == nil {
		u = &user{id: id}
		s.users[id] = u
	}
	return u
}

// more returns what few users have.
func (u *user) more() *pending {
	if u.pending == nil {
		u.pending = &pending{}
	}
	return u.pending
}

// tidy forgets what is empty.
func (s *Server) tidy(u *user) {
	if p := u.pending; p != nil && len(p.coming)+len(p.arrived)+len(p.kicks)+len(p.held) == 0 {
		u.pending = nil
	}
	if len(u.devices) == 0 && u.pending == nil && !u.dirty && !u.busy && s.users[u.id] == u {
		delete(s.users, u.id)
	}
}

// find returns the device of a type, nil when there is none.
func (u *user) find(client pb.ClientType) *device {
	i := slices.IndexFunc(u.devices, func(d device) bool { return d.client == client })
	if i < 0 {
		return nil
	}
	return &u.devices[i]
}

// hasPC reports whether a PC is logged in here.
func (u *user) hasPC() bool {
	return slices.ContainsFunc(u.devices, func(d device) bool { return !d.client.IsMobile() })
}

// state returns what the store has to know: the devices that are logged in, and those that come.
func (u *user) state() []whereabouts.Device {
	var list []whereabouts.Device
	for _, d := range u.devices {
		list = append(list, whereabouts.Device{Client: d.client, Acks: d.acks})
	}
	if u.pending != nil {
		for _, c := range u.coming {
			list = append(list, whereabouts.Device{Client: c.client})
		}
	}
	return whereabouts.Sorted(list)
}

// comes begins the login of a client. done is called once, with the lock held: when the store knows
// of it, with the entries of other message servers, or with an error.
func (s *Server) comes(id uint32, client pb.ClientType,
	done func(others []whereabouts.Entry, err error)) {
	if len(s.coming) >= maxComing {
		s.metrics.drops.WithLabelValues("logins_full").Inc()
		done(nil, im.Errorf(im.Busy, "%d logins wait for the whereabouts", maxComing))
		return
	}
	u := s.user(id)
	c := &coming{user: u, client: client, at: s.opt.Now(), done: done}
	p := u.more()
	p.coming = append(p.coming, c)
	s.coming = append(s.coming, c)
	s.writer.changed(u)
}

// end removes a login that came, or that was given up.
func (s *Server) end(c *coming) {
	c.ended = true
	u := c.user
	u.coming = slices.DeleteFunc(u.coming, func(o *coming) bool { return o == c })
}

// giveUp ends a login whose client does not come.
func (s *Server) giveUp(c *coming) {
	s.end(c)
	s.writer.changed(c.user)
	s.judgeHeld(c.user)
}

// oldest returns the login of a type that began first, nil when there is none.
func (u *user) oldest(client pb.ClientType) *coming {
	if u.pending == nil {
		return nil
	}
	i := slices.IndexFunc(u.coming, func(c *coming) bool { return c.client == client })
	if i < 0 {
		return nil
	}
	return u.coming[i]
}

// arrive records a client that is logged in. It is news for the store unless it was announced.
func (s *Server) arrive(id uint32, client pb.ClientType) {
	u := s.user(id)
	d := u.find(client)
	if d == nil {
		u.devices = append(u.devices, device{client: client})
		d = &u.devices[len(u.devices)-1]
	}
	d.count++
	if c := u.oldest(client); c != nil && c.version != 0 {
		s.end(c)
		d.version, d.flying = max(d.version, c.version), false
	} else {
		d.version = 0
		s.writer.changed(u)
	}
	p := u.more()
	p.arrived = append(p.arrived, client)
	if !u.dirty && !u.busy {
		s.status.announceArrived(u)
	}
	s.judgeHeld(u)
	s.tidy(u)
}

// leave records a client that is no longer logged in. It fails when the client was not known.
func (s *Server) leave(id uint32, client pb.ClientType) error {
	u := s.users[id]
	var d *device
	if u != nil {
		d = u.find(client)
	}
	if d == nil {
		return im.Errorf(im.NotFound, "client type %d of user %d disconnected, but was not known",
			client, id)
	}
	if d.count--; d.count == 0 {
		u.devices = slices.DeleteFunc(u.devices,
			func(d device) bool { return d.client == client })
		s.writer.changed(u)
	}
	return nil
}

// replace sets the clients of a user, as the list of the message server has them.
func (s *Server) replace(u *user, list []device) {
	pc := u.hasPC()
	for i := range list {
		if d := u.find(list[i].client); d != nil {
			list[i].version, list[i].flying = d.version, d.flying
		}
	}
	same := slices.EqualFunc(u.devices, list, func(a, b device) bool {
		return a.client == b.client && a.acks == b.acks
	})
	u.devices = list
	if !same {
		s.writer.changed(u)
	}
	if !pc && u.hasPC() {
		for _, d := range list {
			if !d.client.IsMobile() {
				p := u.more()
				p.arrived = append(p.arrived, d.client)
				break
			}
		}
		s.writer.changed(u)
	}
	s.tidy(u)
}

// expireComing ends the logins that wait too long for the store, and those whose clients do not
// come.
func (s *Server) expireComing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	n := 0
	for _, c := range s.coming {
		age := now.Sub(c.at)
		switch {
		case c.ended:
			continue
		case !c.told && age >= s.opt.LoginWait:
			s.metrics.drops.WithLabelValues("login_timeout").Inc()
			s.giveUp(c)
			c.told = true
			c.done(nil, im.Errorf(im.Unavailable, "the whereabouts of user %d were not written "+
				"within %v", c.user.id, s.opt.LoginWait))
			continue
		case age >= comingLasts:
			s.metrics.drops.WithLabelValues("login_given_up").Inc()
			s.giveUp(c)
			continue
		}
		s.coming[n] = c
		n++
	}
	clear(s.coming[n:])
	s.coming = s.coming[:n]
}
