package marks

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

const (
	// maxAsking is how many requests for the groups of users wait for an answer at most, not
	// counting those of logins, which have no bound but that of the logins.
	maxAsking = 64
	// retryPause is the pause before users are asked for again whose request failed.
	retryPause = time.Second
	// tickEvery is the interval at which an Index looks at what has waited too long, and restEvery
	// that while nothing waits. The mesh has the same interval, so both wake the process together.
	tickEvery, restEvery = 250 * time.Millisecond, time.Second
)

// wantList makes the groups of a user be asked for.
func (i *Index) wantList(u *user, login bool) {
	u.state = asked
	u.number++
	if login {
		i.urgent = append(i.urgent, u)
	} else {
		i.asks = append(i.asks, u)
	}
	wake(i.wakes.ask)
}

// ask asks db_proxy for the groups of users until ctx ends.
func (i *Index) ask(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	t.Stop()
	var due time.Time // of the next tick
	for {
		for {
			u, number := i.next()
			if u == nil {
				break
			}
			i.request(u, number)
		}
		now, every := time.Now(), restEvery
		i.mu.Lock()
		if len(i.waiting) > 0 || len(i.retry) > 0 {
			every = tickEvery
		}
		i.mu.Unlock()
		if next := mono.Next(now, every); due.IsZero() || next.Before(due) {
			due = next
			t.Reset(due.Sub(now))
		}
		select {
		case <-ctx.Done():
			return
		case <-i.wakes.ask:
			i.opt.Turn.Wait("marks ask")
		case <-t.C:
			i.opt.Turn.Wait("marks ask")
			due = time.Time{}
			i.tick()
		}
	}
}

// next returns the user that is asked for next, nil when there is none.
func (i *Index) next() (*user, uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for {
		from := &i.urgent
		if len(*from) == 0 {
			if from = &i.asks; len(*from) == 0 || i.asking >= maxAsking {
				return nil, 0
			}
		}
		u := (*from)[0]
		if *from = (*from)[1:]; len(*from) == 0 {
			*from = nil // release what append has grown
		}
		if i.users[u.id] == u && u.state == asked {
			i.asking++
			return u, u.number
		}
	}
}

// request asks for the groups of a user.
func (i *Index) request(u *user, number uint32) {
	i.mu.Lock()
	db := i.db
	i.mu.Unlock()
	if db == nil {
		i.listed(u, number, nil, im.Errorf(im.Unavailable, "no db_proxy is connected"))
		return
	}
	req := pb.IMNormalGroupListReq_builder{UserId: proto.Uint32(u.id),
		EveryType: proto.Bool(true)}.Build()
	db.Call(nil, uint64(u.id), 0, req, func(rsp pb.Message, err error) {
		i.listed(u, number, rsp, err)
	})
}

// listed takes db_proxy's answer.
func (i *Index) listed(u *user, number uint32, rsp pb.Message, err error) {
	list, err := link.Answer[*pb.IMNormalGroupListRsp](rsp, err)
	i.mu.Lock()
	i.asking--
	wake(i.wakes.ask)
	if i.users[u.id] != u || u.state != asked || u.number != number {
		i.mu.Unlock()
		return
	}
	n := len(list.GetGroupVersionList())
	switch {
	case err != nil:
		i.metrics.lists.WithLabelValues("failed").Inc()
		i.often.Warn(i.opt.Log, i.opt.Now(), "groups of a user not known: this message server "+
			"gets the messages of all groups", "user", u.id, "err", err)
		i.inAll(u)
		if len(i.retry) == 0 {
			i.retryAt = i.opt.Now().Add(retryPause)
		}
		i.retry = append(i.retry, u)
	case !list.GetEveryType() || n > maxOfUser || i.memberships+n > maxMemberships:
		i.metrics.lists.WithLabelValues("not_kept").Inc()
		u.state = tooMany
		i.inAll(u)
	default:
		i.metrics.lists.WithLabelValues("ok").Inc()
		u.state = known
		groups := make([]uint32, 0, n)
		for _, g := range list.GetGroupVersionList() {
			if g.GetGroupId() != Everything {
				groups = append(groups, g.GetGroupId())
			}
		}
		i.setGroups(u, groups)
		i.outOfAll(u)
	}
	done := i.finished(nil, u)
	i.mu.Unlock()
	call(done)
}

// setGroups replaces the groups of a user.
func (i *Index) setGroups(u *user, groups []uint32) {
	slices.Sort(groups)
	groups = slices.Compact(groups)
	before := u.groups
	u.groups = groups
	i.memberships += len(groups) - len(before)
	for _, g := range groups {
		if _, had := slices.BinarySearch(before, g); !had {
			i.use(i.mark(g), u)
		} else if m := i.marks[g]; !m.written { // it is to be written again
			i.await(m, u)
		}
	}
	for _, g := range before {
		if _, has := slices.BinarySearch(groups, g); !has {
			i.disuse(i.marks[g])
		}
	}
}

// join adds a group to those of a user.
func (i *Index) join(u *user, group uint32) {
	at, has := slices.BinarySearch(u.groups, group)
	if has || len(u.groups) >= maxOfUser {
		return
	}
	u.groups = slices.Insert(u.groups, at, group)
	i.memberships++
	i.use(i.mark(group), u)
}

// leave removes a group from those of a user.
func (i *Index) leave(u *user, group uint32) {
	if at, has := slices.BinarySearch(u.groups, group); has {
		u.groups = slices.Delete(u.groups, at, at+1)
		i.memberships--
		i.disuse(i.marks[group])
	}
}

// finished adds what the login of a user waits for to done, if all its marks are written.
func (i *Index) finished(done []func(), u *user) []func() {
	if u.login == nil || u.left > 0 || u.state < known && !u.inAll {
		return done
	}
	done = append(done, u.done...)
	u.login = nil
	return done
}

// call calls functions.
func call(list []func()) {
	for _, f := range list {
		f()
	}
}

// tick looks at what has waited too long.
func (i *Index) tick() {
	i.mu.Lock()
	now := i.opt.Now()
	var done []func()
	n := 0
	for ; n < len(i.waiting); n++ {
		u := i.waiting[n]
		if u.login == nil || i.users[u.id] != u {
			continue
		}
		if now.Sub(u.since) < i.opt.ListWait {
			break
		}
		if u.state < known && !u.inAll {
			i.metrics.lists.WithLabelValues("late").Inc()
			i.inAll(u)
		}
		done = i.finished(done, u)
	}
	if i.waiting = i.waiting[n:]; len(i.waiting) == 0 {
		i.waiting = nil // release what append has grown
	}
	if len(i.retry) > 0 && !now.Before(i.retryAt) {
		for _, u := range i.retry {
			if i.users[u.id] == u && u.state == asked {
				i.wantList(u, false)
			}
		}
		i.retry = nil
	}
	i.pickUnused(now)
	i.forgetMends(now)
	i.mu.Unlock()
	call(done)
}
