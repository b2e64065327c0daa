package mesh

import (
	"context"
	"maps"
	"slices"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/whereabouts"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// writer writes the states of users. It holds a user, not a change: what changes while a write
// fails is written once, as it is then. So it is bounded by the number of users, and is repeated
// until it works. With Server.mu held.
type writer struct {
	*Server
	wake  chan struct{} // holds one token when there are dirty users
	dirty []*user
	// retry are dirty users whose write failed although others worked. They are written again
	// at the next tick, and do not delay the others.
	retry []*user
	epoch uint64 // under which the users are written
	// lapses is that of Self, when the users were written last.
	lapses  uint64
	missing bool // the list of message servers lacks this one
	failing bool // the last write failed
	since   time.Time
	// owes says that the other message servers are told to send again what they sent, as soon
	// as all users are written. from is since when they may have missed users of this one.
	owes bool
	from time.Time
	lost bool // the store has lost what it held
	// updates is how often the list of message servers was read, and read when that was noticed
	// last. away is when it was noticed before a gap that ended at back.
	updates          uint64
	read, away, back time.Time
	// again is when all users are written once more; zero: never.
	again time.Time
}

const (
	// maxWrite is how many users are written at a time.
	maxWrite = 512
	// writePause is the pause after the first failure, and maxWritePause the longest.
	writePause    = 50 * time.Millisecond
	maxWritePause = time.Second
)

// changed makes the state of a user be written. The caller holds s.mu.
func (s *writer) changed(u *user) {
	if u.dirty {
		return
	}
	u.dirty = true
	s.writer.dirty = append(s.writer.dirty, u)
	wake(s.writer.wake)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it holds a token already
	}
}

// Reassert makes all users be written again, because the store has lost what it held. The other
// message servers are asked to send again what they sent in the last time. Any goroutine.
func (s *Server) Reassert() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users) > 0 {
		s.log.Warn("the whereabouts are written again: the store has lost them",
			"users", len(s.users))
	}
	s.writer.reassert(true)
}

// reassert is Reassert. lost says that the store has lost everything: the versions may begin anew,
// and what others see now is no news. Otherwise others may have removed entries of this process,
// and have said so. They do so until their lists of message servers have this one again, so the
// users are written once more after that. The caller holds s.mu.
func (s *writer) reassert(lost bool) {
	s.writeAll(lost)
	if lost {
		s.status.forget()
	}
	if len(s.users) == 0 {
		return
	}
	s.owes, s.from, s.lost = true, s.writer.reached().Add(-outgoing.BrokenLasts), lost
	if !lost {
		s.again = s.opt.Now().Add(againAfter)
	}
}

const (
	// listLate is the age from which on the list of message servers counts as old: most are read
	// each second. Entries are removed by a list that is not older.
	listLate = 2 * time.Second
	// gapKept is how long a gap between two lists is remembered. A registration that has ended is
	// noticed sooner.
	gapKept = 10 * time.Second
)

// watchList looks whether the list of message servers was read. The caller holds s.mu.
func (s *writer) watchList(now time.Time) {
	n := s.opt.Nodes.Updates()
	if n == s.updates {
		return
	}
	if !s.read.IsZero() && now.Sub(s.read) > listLate {
		s.away, s.back = s.read, now
	}
	s.updates, s.read = n, now
}

// reached returns until when this process surely counted as alive for the others, before its
// registration ended. The caller holds s.mu.
func (s *writer) reached() time.Time {
	now := s.opt.Now()
	switch {
	case !s.read.IsZero() && now.Sub(s.read) > listLate:
		return s.read
	case !s.back.IsZero() && now.Sub(s.back) < gapKept:
		return s.away
	}
	return now
}

// againAfter is the time after which no other message server removes entries of one that is back:
// it may do so by a list that is not old, and the call may take as long as the store may.
const againAfter = 5 * time.Second

// listIsNew reports whether this process has read the list of message servers a moment ago. One
// that was cut off from the store has an old list at first.
func (s *Server) listIsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	s.writer.watchList(now)
	return now.Sub(s.writer.read) <= listLate
}

// writeAll makes all users be written, sorted: the order of a map would make a simulation that is
// run again another one. quiet says that this is no news.
func (s *writer) writeAll(quiet bool) {
	s.groups.index.Rewrite()
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		u := s.users[id]
		u.quiet, u.renewed = quiet, !quiet
		s.changed(u)
	}
	wake(s.wake)
}

// repeat writes users that failed again, and all users once more when it is time. The caller holds
// s.mu.
func (s *writer) repeat(now time.Time) {
	if len(s.retry) > 0 {
		s.dirty, s.retry = append(s.dirty, s.retry...), nil
		wake(s.wake)
	}
	if !s.again.IsZero() && !now.Before(s.again) {
		s.again = time.Time{}
		s.writeAll(false)
	}
}

// write writes users until ctx ends and all are written, or the store fails.
func (s *writer) write(ctx context.Context) {
	failures := 0
	for {
		last := ctx.Err() != nil
		by, users, updates := s.writer.takeDirty()
		if len(users) == 0 && by.Epoch != 0 {
			s.writer.written()
			if last {
				return
			}
			select {
			case <-s.writer.wake:
			case <-ctx.Done():
			}
			s.opt.Turn.Wait("write")
			continue
		}
		ok := false
		if by.Epoch != 0 {
			ok = s.writer.apply(context.WithoutCancel(ctx), by, users, updates)
		}
		if ok {
			failures = 0
			continue
		}
		if failures++; last {
			return // the entries of this process count as absent, as it has ended
		}
		_ = backoff.Sleep(ctx, min(writePause<<min(failures-1, 10), maxWritePause))
		s.opt.Turn.Wait("write")
	}
}

// nobody is a user that does not exist.
const nobody = 0

// takeDirty returns the users that are written next. It returns none while this process is not
// registered.
func (s *writer) takeDirty() (by whereabouts.Node, users []*user, updates []whereabouts.Update) {
	self := s.opt.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.writer
	if self.Epoch == 0 {
		return by, nil, nil
	}
	if w.epoch != 0 && (self.Epoch != w.epoch || self.Lapses != w.lapses) {
		s.writer.reassert(false)
	}
	w.epoch, w.lapses = self.Epoch, self.Lapses
	n := min(len(w.dirty), maxWrite)
	users = slices.Clone(w.dirty[:n])
	w.dirty = slices.Delete(w.dirty, 0, n)
	if len(w.dirty) == 0 {
		w.dirty = nil // release what append has grown
	}
	for _, u := range users {
		u.dirty, u.busy = false, true
		for i := range u.devices {
			u.devices[i].flying = u.devices[i].version == 0
		}
		if u.pending != nil {
			for _, c := range u.coming {
				c.flying = c.version == 0
			}
		}
		devices := u.state()
		if len(devices) == 0 { // those that change a group will not find the user here
			s.groups.index.Gone(u.id)
		}
		updates = append(updates, whereabouts.Update{User: u.id, Devices: devices})
	}
	if w.failing && n > 0 { // tells a store that fails from an entry that cannot be written
		updates = append(updates, whereabouts.Update{User: nobody})
	}
	return whereabouts.Node{Name: s.opt.Name, Epoch: self.Epoch}, users, updates
}

// apply writes users and takes the results. It reports whether the store works.
func (s *writer) apply(ctx context.Context, by whereabouts.Node, users []*user,
	updates []whereabouts.Update) bool {
	ctx, cancel := context.WithTimeout(ctx, s.opt.StoreTimeout)
	results := s.opt.Store.Apply(ctx, by, updates)
	cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	works := slices.ContainsFunc(results, func(r whereabouts.Result) bool { return r.Err == nil })
	for i, u := range users {
		u.busy = false
		if err := results[i].Err; err != nil {
			failed = err
			s.metrics.writes.WithLabelValues("failed").Inc()
			if works && !u.dirty {
				u.dirty = true
				s.retry = append(s.retry, u)
			} else {
				s.changed(u)
			}
			continue
		}
		s.metrics.writes.WithLabelValues("ok").Inc()
		s.writer.settle(u, updates[i].Devices, results[i])
	}
	if failed != nil {
		s.often.Warn(s.log, s.opt.Now(), "whereabouts not written", "err", failed)
	}
	s.fails(!works)
	return works
}

// settle takes the result of a write of a user, whose state was devices.
func (s *writer) settle(u *user, devices []whereabouts.Device, r whereabouts.Result) {
	lost := r.Version < u.version // the numbers begin anew
	u.version = r.Version
	others := s.alive(u.id, r.Others)
	s.status.settled(u, devices, others)
	for i := range u.devices {
		if d := &u.devices[i]; d.flying || lost {
			d.flying, d.version = false, r.Version
		}
	}
	if u.pending != nil {
		for _, c := range slices.Clone(u.coming) {
			if c.flying {
				c.flying, c.version, c.others = false, r.Version, others
				s.groups.await(c)
			}
		}
		for _, k := range u.kicks {
			s.sendKick(k, others, r.Version)
		}
		u.kicks = nil
	}
	if len(devices) > 0 {
		s.groups.index.Come(u.id, nil) // also without a login that waits
	}
	had := u.pcSaved || whereabouts.Entry{Devices: r.Before}.HasPC()
	has := whereabouts.Entry{Devices: devices}.HasPC()
	u.pcSaved = has
	switch {
	case had && !has && !u.pcElsewhere && !u.hasPC():
		s.status.announceGone(u, len(devices)+len(others) > 0)
	case (!had || u.renewed) && u.hasPC() && !u.quiet && (u.pending == nil || len(u.arrived) == 0):
		s.status.announce(u, pcOfUser(u.id, true),
			statusOfUser(u.id, pb.UserStatType_USER_STATUS_ONLINE))
	}
	u.quiet, u.renewed = false, false
	if !u.dirty {
		s.status.announceArrived(u)
	}
	s.judgeHeld(u)
	s.tidy(u)
}

// written tells the other message servers, once all users and marks are written, to send again what
// they sent while the store did not have them. They may have taken users here offline, so they
// are told which ones have a PC. After a loss the store may lack users of the others, and says
// nothing of them.
func (s *writer) written() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.owes || !s.again.IsZero() || len(s.dirty)+len(s.retry) > 0 || s.groups.index.Pending() {
		return
	}
	s.writer.owes = false
	for _, p := range s.links.Every() {
		s.changes.catchUp(p)
		if !s.writer.lost {
			s.status.doubt(p.Node())
		}
		p.Send(missedNote(s.opt.Now().Sub(s.writer.from)))
	}
}

// fails records whether the last write failed.
func (s *writer) fails(failing bool) {
	if failing && !s.failing {
		s.since = s.opt.Now()
	}
	s.failing = failing
}
