package marks

import (
	"context"
	"time"

	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// A message whose group has an earlier version in the store, or none, goes to all message servers:
// members may have been added on message servers that are not marked. The group was created, was
// renamed, was changed by a process that told nobody, or the store has lost it. Then the process
// that sends the message looks where all members are, and marks those message servers.

const (
	// maxMends is how many groups wait for that, or were mended mendPause ago or later, and
	// maxMending how many are mended at a time.
	maxMends   = 4096
	maxMending = 8
	mendPause  = time.Second
)

// mends is the groups that are being mended.
type mends struct {
	queue []uint32
	due   map[uint32]time.Time // when they may be mended again; zero: they wait or are being mended
}

// Mend marks a group for all members that are online, and settles its version.
func (i *Index) Mend(group uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, has := i.mends.due[group]; has {
		return
	}
	if len(i.mends.due) >= maxMends {
		i.metrics.mends.WithLabelValues("full").Inc()
		return
	}
	i.mends.due[group] = time.Time{}
	i.mends.queue = append(i.mends.queue, group)
	wake(i.wakes.mend)
}

// forgetMends forgets groups that may be mended again.
func (i *Index) forgetMends(now time.Time) {
	for group, due := range i.mends.due {
		if !due.IsZero() && !now.Before(due) {
			delete(i.mends.due, group)
		}
	}
}

// mend mends groups until ctx ends.
func (i *Index) mend(ctx context.Context) {
	for {
		group, ok := i.nextMend()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-i.wakes.mend:
			}
			i.opt.Turn.Wait("marks mend")
			continue
		}
		select {
		case <-ctx.Done():
			return
		case i.slots.mend <- struct{}{}:
		}
		i.membersOf(group, func(info *pb.GroupInfo, err error) {
			go func() {
				defer func() { <-i.slots.mend }()
				i.mended(group, i.settle(info, err))
			}()
		})
	}
}

// nextMend returns the group that is mended next.
func (i *Index) nextMend() (group uint32, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.mends.queue) == 0 {
		i.mends.queue = nil // release what append has grown
		return 0, false
	}
	group = i.mends.queue[0]
	i.mends.queue = i.mends.queue[1:]
	return group, true
}

// settle marks a group for its members, as db_proxy has told them. They were read before their
// whereabouts are.
func (i *Index) settle(info *pb.GroupInfo, err error) error {
	if err != nil || info == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), i.opt.Timeout)
	defer cancel()
	nodes, err := i.Nodes(i.opt.Store.Lookup(ctx, info.GetGroupMemberList()))
	if err != nil {
		return err
	}
	return i.opt.Store.Mark(ctx, []whereabouts.Mark{{Group: info.GetGroupId(), Nodes: nodes,
		Version: info.GetVersion()}})[0].Err
}

// Nodes returns the message servers that have users, as the store has told, with this one.
func (i *Index) Nodes(found []whereabouts.Found) (nodes []whereabouts.Node, err error) {
	seen := map[whereabouts.Node]struct{}{}
	for _, f := range found {
		if f.Err != nil {
			return nil, f.Err
		}
		for _, e := range f.Entries {
			if _, has := seen[e.Node]; !has && !i.opt.Ended(e.Node) {
				seen[e.Node] = struct{}{}
				nodes = append(nodes, e.Node)
			}
		}
	}
	return nodes, nil
}

// mended ends the mending of a group.
func (i *Index) mended(group uint32, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mends.due[group] = i.opt.Now().Add(mendPause)
	if err == nil {
		i.metrics.mends.WithLabelValues("ok").Inc()
		return
	}
	i.metrics.mends.WithLabelValues("failed").Inc()
	i.often.Warn(i.opt.Log, i.opt.Now(), "the message servers of a group are not known, its "+
		"messages go to all", "group", group, "err", err)
}
