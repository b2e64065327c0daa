package marks

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// A mark of a group without a user here may still be needed. The notice of a change of members may
// have been lost, and a group whose creation nobody is told of is marked for its members by the
// first message. So db_proxy is asked for the members before the mark is removed, and the store
// keeps the mark if the group has changed since that answer. Then the process that told the store
// of the change has looked where its users are, and counts on the mark.

const (
	// checksAtOnce is how many groups are looked at in a tick, and maxChecks how many requests
	// for their members wait for an answer at most.
	checksAtOnce = 256
	maxChecks    = 16
	// allLinger is for how long this message server still gets everything when it need not. It is
	// longer than any look-up: one that finds this mark no more finds those of the groups.
	allLinger = 15 * time.Second
)

// pickUnused makes groups that have had no user here for some time be checked.
func (i *Index) pickUnused(now time.Time) {
	for len(i.unused) > 0 && len(i.checks) < checksAtOnce {
		m := i.unused[0]
		if m.users == 0 && now.Sub(m.since) < i.opt.Linger {
			if len(i.unused) == 1 || !i.unused[1].since.Before(m.since) {
				break
			}
			i.unused = append(i.unused[1:], m) // it was used meanwhile
			continue
		}
		i.unused[0] = nil
		i.unused = i.unused[1:]
		if m.queued = false; m.users == 0 && i.marks[m.id] == m {
			i.checks = append(i.checks, m)
		}
	}
	if len(i.checks) > 0 {
		wake(i.wakes.check)
	}
	if a := i.all; a.users == 0 && a.gone == nil && (a.written || a.dirty) &&
		now.Sub(a.since) >= allLinger {
		every := uint32(whereabouts.EveryVersion)
		a.gone = &every
		i.touch(a)
	}
	if len(i.dirty) > 0 {
		wake(i.wakes.write) // this process is perhaps registered now
	}
}

// check looks whether groups without a user here are marked, and asks for the members of those
// that are, until ctx ends.
func (i *Index) check(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.wakes.check:
		}
		i.opt.Turn.Wait("marks check")
		i.mu.Lock()
		list := i.checks
		i.checks = nil
		i.mu.Unlock()
		for _, m := range i.marked(ctx, list) {
			select {
			case i.slots.check <- struct{}{}:
			case <-ctx.Done():
				return
			}
			i.membersOf(m.id, func(info *pb.GroupInfo, err error) {
				<-i.slots.check
				i.checked(m, info, err)
			})
		}
	}
}

// marked returns those of groups that have a mark of this process, and forgets the others.
func (i *Index) marked(ctx context.Context, list []*mark) (marked []*mark) {
	if len(list) == 0 {
		return nil
	}
	ids := make([]uint32, len(list))
	for n, m := range list {
		ids[n] = m.id
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.opt.Timeout)
	defer cancel()
	_, found := i.opt.Store.LookupAll(ctx, nil, ids)
	self := i.opt.Self()
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, m := range list {
		switch {
		case i.marks[m.id] != m || m.users > 0:
		case found[n].Err != nil || m.dirty || m.writing:
			i.unuse(m)
		case slices.Contains(found[n].Nodes, self):
			marked = append(marked, m)
		default:
			delete(i.marks, m.id)
		}
	}
	return marked
}

// membersOf asks db_proxy for a group; nil: it does not exist. done must not wait.
func (i *Index) membersOf(group uint32, done func(info *pb.GroupInfo, err error)) {
	i.mu.Lock()
	db := i.db
	i.mu.Unlock()
	if db == nil {
		done(nil, im.Errorf(im.Unavailable, "no db_proxy is connected"))
		return
	}
	req := pb.IMGroupInfoListReq_builder{UserId: proto.Uint32(0),
		GroupVersionList: []*pb.GroupVersionInfo{pb.GroupVersionInfo_builder{
			GroupId: proto.Uint32(group), Version: proto.Uint32(0)}.Build()}}.Build()
	db.Call(nil, im.GroupKey(group), 0, req, func(rsp pb.Message, err error) {
		list, err := link.Answer[*pb.IMGroupInfoListRsp](rsp, err)
		for _, info := range list.GetGroupInfoList() {
			if info.GetGroupId() == group {
				done(info, nil)
				return
			}
		}
		done(nil, err)
	})
}

// checked removes the mark of a group, unless a member is here.
func (i *Index) checked(m *mark, info *pb.GroupInfo, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.marks[m.id] != m || m.users > 0 {
		return
	}
	if err != nil {
		i.unuse(m)
		return
	}
	unsure := m.dirty || m.writing
	for _, id := range info.GetGroupMemberList() {
		switch u := i.users[id]; {
		case u == nil:
		case u.state == known:
			i.join(u, m.id)
		default:
			unsure = true
		}
	}
	if m.users > 0 {
		return
	}
	if unsure {
		i.unuse(m)
		return
	}
	version := uint32(whereabouts.EveryVersion)
	if info != nil {
		version = info.GetVersion()
	}
	m.gone = &version
	i.touch(m)
}
