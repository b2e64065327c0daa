package mesh

import (
	"context"
	"errors"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// lookups are the questions for the store, in the order in which they came. One call asks for all
// that wait, and is made after they came: what is read is not older than the question. With
// Server.mu held.
type lookups struct {
	*Server
	wake    chan struct{} // holds one token when questions wait
	waiting []lookup
	bytes   int       // of the messages that wait
	tried   time.Time // when the store was asked last
	failing bool      // the last call failed
	since   time.Time
	told    bool // the message server was told that the store fails
}

// lookup is a question for the entries of users, and perhaps for the marks of a group.
type lookup struct {
	users []uint32
	group uint32 // 0: none
	// change is settled before the groups are looked up; nil: none.
	change *change
	size   int // of the message that waits, in bytes
	// then is called with the lock held, and in its turn also without users. find returns the
	// entries of one of the users on other message servers whose processes run, or an error when
	// they are not known.
	then func(find func(user uint32) ([]whereabouts.Entry, error))
	// thenGroup is called instead of then, if it is set, with the marks of the group, or with
	// those after the change.
	thenGroup func(a *answers, g whereabouts.Group)
}

const (
	// maxLookups and maxLookupBytes bound the questions that wait.
	maxLookups     = 1 << 15
	maxLookupBytes = 64 << 20
	// probeEvery is how often a store that fails is asked. The questions between do not wait.
	probeEvery = 500 * time.Millisecond
	// lookupUsers is how many users are asked for at a time, unless one question has more.
	lookupUsers = 4096
)

// lookup asks for the entries of users. It reports whether there was room. The caller holds s.mu.
func (s *lookups) lookup(q lookup) bool {
	if len(s.waiting) >= maxLookups || s.bytes >= maxLookupBytes {
		s.metrics.drops.WithLabelValues("lookups_full").Inc()
		return false
	}
	s.waiting, s.bytes = append(s.waiting, q), s.bytes+q.size
	wake(s.lookups.wake)
	return true
}

// look answers questions until ctx ends.
func (s *lookups) look(ctx context.Context) {
	for {
		questions, users := s.lookups.takeLookups()
		if len(questions) > 0 {
			s.lookups.answer(context.WithoutCancel(ctx), questions, users)
			continue
		}
		select {
		case <-s.lookups.wake:
		case <-ctx.Done():
			return
		}
		s.opt.Turn.Wait("look")
	}
}

// takeLookups returns the questions that are asked next, and their users, each once.
func (s *lookups) takeLookups() (questions []lookup, users []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.lookups.waiting
	n := 0
	for ; n < len(waiting); n++ {
		if n > 0 && len(users)+len(waiting[n].users) > lookupUsers || n == lookupUsers {
			break
		}
		users = append(users, waiting[n].users...)
		s.bytes -= waiting[n].size
	}
	questions = slices.Clone(waiting[:n])
	if s.lookups.waiting = slices.Delete(waiting, 0, n); len(s.lookups.waiting) == 0 {
		s.lookups.waiting = nil // release what append has grown
	}
	slices.Sort(users)
	return questions, slices.Compact(users)
}

// answers is what the store has answered to some questions.
type answers struct {
	users  []uint32 // sorted
	found  []whereabouts.Found
	groups []uint32 // sorted
	of     []whereabouts.Group
}

// find returns the entries of a user on other message servers whose processes run.
func (a *answers) find(user uint32) ([]whereabouts.Entry, error) {
	i, _ := slices.BinarySearch(a.users, user)
	return a.found[i].Entries, a.found[i].Err
}

// group returns the marks of a group.
func (a *answers) group(id uint32) whereabouts.Group {
	i, _ := slices.BinarySearch(a.groups, id)
	return a.of[i]
}

// answer asks the store, and continues with the questions in their order.
func (s *lookups) answer(ctx context.Context, questions []lookup, users []uint32) {
	a := &answers{users: users, groups: groupsOf(questions)}
	changes := s.lookups.ask(ctx, questions, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	works := false
	count := func(err error) {
		if works = works || err == nil; err == nil {
			s.metrics.lookups.WithLabelValues("ok").Inc()
			return
		}
		failed = err
		s.metrics.lookups.WithLabelValues("failed").Inc()
	}
	for i := range a.found {
		if count(a.found[i].Err); a.found[i].Err == nil {
			a.found[i].Entries = s.alive(users[i], a.found[i].Entries)
		}
	}
	for i := range a.of {
		count(a.of[i].Err)
	}
	if failed != nil {
		s.often.Warn(s.log, s.opt.Now(), "whereabouts not read", "err", failed)
	}
	if len(a.found)+len(a.of) > 0 {
		s.readable(works)
	}
	for i, q := range questions {
		switch {
		case q.thenGroup == nil:
			q.then(a.find)
		case q.change != nil:
			q.thenGroup(a, changes[i])
		case q.group != 0:
			q.thenGroup(a, a.group(q.group))
		default:
			q.thenGroup(a, whereabouts.Group{})
		}
	}
}

// ask asks the store. Changes of members are settled between, so that the marks of the other
// questions are those after the changes.
func (s *lookups) ask(ctx context.Context, questions []lookup,
	a *answers) (changes map[int]whereabouts.Group) {
	if !slices.ContainsFunc(questions, func(q lookup) bool { return q.change != nil }) {
		a.found, a.of = s.read(ctx, a.users, a.groups)
		return nil
	}
	a.found, _ = s.read(ctx, a.users, nil)
	changes = s.settleChanges(ctx, questions, a)
	_, a.of = s.read(ctx, nil, a.groups)
	return changes
}

// read asks the store, unless it has failed a moment ago.
func (s *lookups) read(ctx context.Context, users, groups []uint32) ([]whereabouts.Found,
	[]whereabouts.Group) {
	if len(users)+len(groups) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	now := s.opt.Now()
	ask := !s.failing || now.Sub(s.tried) >= probeEvery
	if ask {
		s.tried = now
	}
	s.mu.Unlock()
	if !ask {
		found := make([]whereabouts.Found, len(users))
		for i := range found {
			found[i].Err = errFails
		}
		of := make([]whereabouts.Group, len(groups))
		for i := range of {
			of[i].Err = errFails
		}
		return found, of
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.StoreTimeout)
	defer cancel()
	if len(groups) == 0 {
		return s.opt.Store.Lookup(ctx, users), nil
	}
	return s.opt.Store.LookupAll(ctx, users, groups)
}

// errFails is the error of questions that are not asked.
var errFails = errors.New("the store has failed a moment ago")

// alive returns the entries of other message servers whose processes have not ended. The others are
// removed from the store. The caller holds s.mu.
func (s *Server) alive(user uint32, entries []whereabouts.Entry) []whereabouts.Entry {
	var list []whereabouts.Entry
	var ended []whereabouts.Node
	for _, e := range entries {
		switch {
		case s.known.Ended(e.Node) || e.Name == s.opt.Name && e.Epoch < s.writer.epoch:
			ended = append(ended, e.Node)
		case e.Name != s.opt.Name:
			list = append(list, e)
		}
	}
	if len(ended) > 0 {
		s.buryLater(burial{user: user, ended: ended})
	}
	return list
}

// burial is entries of a user, or marks, whose processes have ended.
type burial struct {
	user  uint32
	ended []whereabouts.Node
	marks []whereabouts.Unmark
}

// buryLater makes entries be removed.
func (s *Server) buryLater(b burial) {
	select {
	case s.burials <- b:
	default: // the next process that meets them removes them
	}
}

// maxBurials bounds the burials that wait.
const maxBurials = 1024

// bury removes entries of processes that have ended, until ctx ends.
func (s *Server) bury(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-s.burials: // a reader that meets what was not removed tries again
			s.opt.Turn.Wait("bury")
			if !s.listIsNew() {
				continue // the process may run, and have registered again
			}
			ctx, cancel := context.WithTimeout(ctx, s.opt.StoreTimeout)
			if len(b.marks) > 0 {
				_ = s.opt.Store.Unmark(ctx, b.marks)
			} else {
				_ = s.opt.Store.Remove(ctx, b.user, b.ended)
			}
			cancel()
		}
	}
}

// failsLong is for how long the store fails before the message server is told.
const failsLong = time.Second

// readable records whether the store can be read. While it cannot, texts go to all message servers
// that are known, and those that started meanwhile miss them. So when it can again, texts are sent
// again. The caller holds s.mu.
func (s *lookups) readable(ok bool) {
	l := &s.lookups
	switch {
	case !ok && !l.failing:
		l.failing, l.since = true, s.opt.Now()
	case ok && l.failing:
		l.failing = false
		s.tellMissed(s.opt.Now().Sub(l.since) + s.opt.StoreTimeout)
	}
}

// checkStore tells the message server when the store begins to fail, and when it works again. While
// it fails, no client can log in, as without a route server.
func (s *lookups) checkStore() {
	self := s.opt.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	now, l, w := s.opt.Now(), &s.lookups, &s.writer
	w.repeat(now)
	w.watchList(now)
	if self.Epoch != w.epoch || self.Lapses != w.lapses {
		wake(w.wake)
	}
	fails := w.epoch == 0 || w.failing && now.Sub(w.since) >= failsLong ||
		l.failing && now.Sub(l.since) >= failsLong
	if l.failing && len(l.waiting) == 0 { // nothing else would notice that it works again
		s.lookups.lookup(lookup{users: []uint32{nobody},
			then: func(func(uint32) ([]whereabouts.Entry, error)) {}})
	}
	if s.here == nil || fails == l.told {
		return
	}
	m := &pb.IMStopReceivePacket{}
	m.SetResult(0)
	if fails {
		m.SetMayReturn(true)
		s.log.Warn("no client can log in: the whereabouts of users cannot be shared")
	} else {
		m.SetReturned(true)
		s.log.Info("clients can log in: the whereabouts of users are shared")
	}
	if s.here.Send(0, m) == nil {
		l.told = fails
	}
}

// errStore is the error of a question that the store did not answer.
func errStore(err error) error { return im.WithKind(im.Unavailable, "read whereabouts", err) }
