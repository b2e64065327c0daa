package client

import (
	"context"
	"maps"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Group is a group as the server describes it to a user. The embedded im.Group has ID,
// Name, Avatar, Creator, Type, Version and Members.
type Group struct {
	im.Group
	Shield bool // the user wants no pushes for it
}

// Has reports whether a user is a member.
func (g *Group) Has(user uint32) bool { return slices.Contains(g.Members, user) }

// NormalGroups returns the normal groups that the user is in. Temporary groups are only
// in the list of conversations.
func NormalGroups(ctx context.Context, c Caller) ([]im.GroupVersion, error) {
	var res pb.IMNormalGroupListRsp
	if err := c.Call(ctx, normalReq(c.UserID()), &res); err != nil {
		return nil, err
	}
	return versionsOf(&res), nil
}

// normalReq returns the request for the normal groups.
func normalReq(user uint32) *pb.IMNormalGroupListReq {
	return pb.IMNormalGroupListReq_builder{UserId: new(user)}.Build()
}

// versionsOf returns the groups in an answer to normalReq.
func versionsOf(res *pb.IMNormalGroupListRsp) []im.GroupVersion {
	list := make([]im.GroupVersion, 0, len(res.GetGroupVersionList()))
	for _, v := range res.GetGroupVersionList() {
		list = append(list, im.GroupVersion{ID: v.GetGroupId(), Version: v.GetVersion()})
	}
	return list
}

// infoBatch is the number of groups in one request. Servers ignore those above 1,000.
const infoBatch = 500

// GroupInfos returns the groups that are newer than the known versions. Version 0 means
// that the group is not known.
func GroupInfos(ctx context.Context, c Caller, known []im.GroupVersion) ([]Group, error) {
	var all []Group
	for batch := range slices.Chunk(known, infoBatch) {
		var res pb.IMGroupInfoListRsp
		if err := c.Call(ctx, infoReq(c.UserID(), batch), &res); err != nil {
			return nil, err
		}
		all = append(all, groupsOf(&res)...)
	}
	return all, nil
}

// infoReq returns a request for groups.
func infoReq(user uint32, known []im.GroupVersion) *pb.IMGroupInfoListReq {
	req := pb.IMGroupInfoListReq_builder{UserId: new(user)}
	for _, v := range known {
		req.GroupVersionList = append(req.GroupVersionList,
			pb.GroupVersionInfo_builder{GroupId: new(v.ID), Version: new(v.Version)}.Build())
	}
	return req.Build()
}

// groupsOf returns the groups in an answer to infoReq.
func groupsOf(res *pb.IMGroupInfoListRsp) []Group {
	list := make([]Group, 0, len(res.GetGroupInfoList()))
	for _, g := range res.GetGroupInfoList() {
		list = append(list, Group{Shield: g.GetShieldStatus() != 0, Group: im.Group{
			ID: g.GetGroupId(), Name: g.GetGroupName(), Avatar: g.GetGroupAvatar(),
			Creator: g.GetGroupCreatorId(), Type: g.GetGroupType(),
			Version: g.GetVersion(), Members: sorted(g.GetGroupMemberList()),
		}})
	}
	return list
}

// sorted returns ids in increasing order, once each.
func sorted(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Groups are the groups of a Client's user. The Client keeps them up to date. Any
// goroutine.
type Groups struct {
	*session
	in     *inbox
	states map[uint32]*groupState // session.mu guards it
}

// groupState is a Client's knowledge of a group. Notifies contain no version, so after
// one the version is 0, and the next connection requests the group again.
type groupState struct {
	Group
	known   bool // the server has described the group
	asked   bool // requested on this connection: the answer is due, or did not describe the group
	changed bool // a notify arrived after the last request
	held    []Event
	timer   *time.Timer // releases the held events when no answer arrives
}

// maxHeldEvents is the most events of a group that wait for its name. After that they are
// reported without it.
const maxHeldEvents = 64

// All returns the groups that the Client knows, also left ones, in increasing order of
// id.
func (gs *Groups) All() []Group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	return gs.list()
}

// Get returns a group; false when the Client does not know it.
func (gs *Groups) Get(id uint32) (Group, bool) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.states[id]
	if g == nil || !g.known {
		return Group{}, false
	}
	return g.copy(), true
}

// copy returns a copy for the owner.
func (g *groupState) copy() Group {
	out := g.Group
	out.Members = slices.Clone(g.Members)
	return out
}

// list is All. The caller holds gs.mu.
func (gs *Groups) list() []Group {
	var list []Group
	for _, g := range gs.states {
		if g.known {
			list = append(list, g.copy())
		}
	}
	slices.SortFunc(list, func(a, b Group) int { return int(int64(a.ID) - int64(b.ID)) })
	return list
}

// group returns the entry of a group, which it creates if necessary. The caller holds
// gs.mu.
func (gs *Groups) group(id uint32) *groupState {
	g := gs.states[id]
	if g == nil {
		g = &groupState{Group: Group{Group: im.Group{ID: id}}}
		gs.states[id] = g
	}
	return g
}

// Create creates a temporary group of the user and the given members, and returns
// it. Invalid when the name is empty, name or avatar is too long, or there are too many
// members. Denied when the server refuses.
func (gs *Groups) Create(ctx context.Context, name, avatar string,
	members []uint32) (Group, error) {
	g := im.Group{Type: pb.GroupType_GROUP_TYPE_TMP, Name: name, Avatar: avatar}
	if err := im.CheckGroup(&g); err != nil {
		return Group{}, err
	}
	if len(members) > im.MaxGroupMembers {
		return Group{}, im.Errorf(im.Invalid, "%d members are more than %d",
			len(members), im.MaxGroupMembers)
	}
	self := gs.user().ID
	req := pb.IMGroupCreateReq_builder{
		UserId: new(self), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new(name),
		GroupAvatar:  new(avatar),
		MemberIdList: sorted(append(slices.Clone(members), self)),
	}.Build()
	var res pb.IMGroupCreateRsp
	var made Group
	err := gs.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "a group"); err != nil {
			return err
		}
		if res.GetGroupId() == 0 {
			return im.Errorf(im.Malformed, "group without id")
		}
		g := gs.group(res.GetGroupId())
		g.known, g.Name, g.Avatar, g.Creator = true, res.GetGroupName(), avatar, self
		g.Type = pb.GroupType_GROUP_TYPE_TMP
		gs.setMembers(g, res.GetUserIdList())
		made = g.copy()
		gs.emit(GroupChanged{Group: made, By: self, Added: made.Members})
		return nil
	})
	return made, err
}

// ChangeMembers adds users to a group or removes them, and returns the result, with
// Version 0. Denied when the server refuses. In a temporary group every member may add,
// and only the creator may remove members other than itself. In a normal group only the
// creator may do either.
func (gs *Groups) ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType,
	users []uint32) (im.MemberChange, error) {
	if len(users) > im.MaxGroupMembers {
		return im.MemberChange{}, im.Errorf(im.Invalid, "%d members are more than %d",
			len(users), im.MaxGroupMembers)
	}
	req := pb.IMGroupChangeMemberReq_builder{UserId: new(gs.user().ID), ChangeType: t.Enum(),
		GroupId: new(group), MemberIdList: sorted(users)}.Build()
	var res pb.IMGroupChangeMemberRsp
	var change im.MemberChange
	err := gs.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "the change"); err != nil {
			return err
		}
		change = im.MemberChange{Current: sorted(res.GetCurUserIdList()),
			Changed: sorted(res.GetChgUserIdList())}
		gs.change(group, gs.self.ID, t, change)
		return nil
	})
	return change, err
}

// Shield turns pushes for a group off or on. Denied when the server refuses.
func (gs *Groups) Shield(ctx context.Context, group uint32, on bool) error {
	req := pb.IMGroupShieldReq_builder{UserId: new(gs.user().ID), GroupId: new(group),
		ShieldStatus: new(number(on))}.Build()
	var res pb.IMGroupShieldRsp
	return gs.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "the setting"); err != nil {
			return err
		}
		if g := gs.states[group]; g != nil && g.Shield != on {
			g.Shield = on
			if g.known {
				gs.emit(GroupChanged{Group: g.copy(), By: gs.self.ID})
			}
		}
		return nil
	})
}

// Refresh requests the user's groups and their changes. It finds groups that
// administrators created, which servers otherwise announce only at the next login.
// GroupChanged reports the differences.
func (gs *Groups) Refresh(ctx context.Context) error {
	var list pb.IMNormalGroupListRsp
	if err := gs.call(ctx, normalReq(gs.user().ID), &list); err != nil {
		return err
	}
	normal := versionsOf(&list)
	gs.mu.Lock()
	batches := gs.questions(normal, nil)
	gs.mu.Unlock()
	for _, batch := range batches {
		var res pb.IMGroupInfoListRsp
		if err := gs.callThen(ctx, infoReq(gs.user().ID, batch), &res, func() error {
			gs.update(groupsOf(&res), batch)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// questions returns the groups to request, with their known versions, in batches of
// the size that servers answer. These are the known groups, groups of the list with
// another version, and the others that are not known. The caller holds gs.mu.
func (gs *Groups) questions(normal []im.GroupVersion, others []uint32) [][]im.GroupVersion {
	ids := make(map[uint32]struct{}, len(gs.states)+len(normal))
	for id := range gs.states {
		ids[id] = struct{}{}
	}
	for _, g := range normal {
		if old := gs.states[g.ID]; old != nil && old.Version == g.Version && g.Version != 0 {
			delete(ids, g.ID)
		} else {
			ids[g.ID] = struct{}{}
		}
	}
	for _, id := range others {
		if gs.states[id] == nil {
			ids[id] = struct{}{}
		}
	}
	var ask []im.GroupVersion
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		g := gs.group(id)
		g.changed = false
		ask = append(ask, im.GroupVersion{ID: id, Version: g.Version})
	}
	return slices.Collect(slices.Chunk(ask, infoBatch))
}

// update stores the server's description of requested groups. It reports new and changed
// groups, unless Ready is still to report them. The caller holds gs.mu.
func (gs *Groups) update(list []Group, asked []im.GroupVersion) {
	for _, g := range gs.take(list, asked) {
		if gs.baseline {
			gs.emit(GroupChanged{Group: g})
		}
		gs.release(gs.group(g.ID))
	}
}

// setMembers sets the members from a server's list without a version. The caller holds
// gs.mu.
func (gs *Groups) setMembers(g *groupState, members []uint32) {
	g.Members, g.Version, g.changed = sorted(members), 0, true
}

// change applies and reports a change of members. The caller holds gs.mu.
func (gs *Groups) change(id, by uint32, t pb.GroupModifyType, change im.MemberChange) {
	g := gs.group(id)
	gs.setMembers(g, change.Current)
	e := GroupChanged{By: by}
	if t == pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL {
		e.Removed = change.Changed
	} else {
		e.Added = change.Changed
	}
	if slices.Contains(e.Added, gs.self.ID) {
		gs.in.joined(Peer{ID: id, Group: true})
	}
	e.Group = g.copy()
	gs.groupEvent(g, e)
}

// joined resets the base of a group's conversation, because servers never return messages
// from before the user joined. The caller holds b.mu.
func (b *inbox) joined(p Peer) {
	if v := b.convs[p]; v != nil && v.fetch == nil {
		v.base = 0
	}
}

// groupEvent reports an event of a group, and first waits a short time for the group's
// name if it is not known. Servers do not tell members that a group was created, so the
// first message may be the first news of a group. Events of one group stay in order. The
// caller holds gs.mu.
func (gs *Groups) groupEvent(g *groupState, e Event) {
	waits := len(g.held) > 0 || !g.known && !g.asked
	if !waits || gs.conn == nil || gs.opts.OnEvent == nil {
		gs.emit(gs.named(g, e))
		return
	}
	g.held = append(g.held, e)
	if len(g.held) >= maxHeldEvents {
		gs.release(g)
	}
	if g.asked {
		return
	}
	gs.request(g)
	g.timer = time.AfterFunc(gs.opts.SyncTimeout, func() {
		gs.mu.Lock()
		defer gs.mu.Unlock()
		gs.release(g)
	})
}

// named returns the event with the present data of the group, and with the members of the
// event. The caller holds gs.mu.
func (gs *Groups) named(g *groupState, e Event) Event {
	if ch, ok := e.(GroupChanged); ok {
		members := ch.Group.Members
		ch.Group = g.copy()
		ch.Group.Members = members
		return ch
	}
	return e
}

// release reports the held events. The caller holds gs.mu.
func (gs *Groups) release(g *groupState) {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	for _, e := range g.held {
		gs.emit(gs.named(g, e))
	}
	g.held = nil
}

// request requests one group. The caller holds gs.mu.
func (gs *Groups) request(g *groupState) {
	g.asked, g.changed = true, false
	conn, req := gs.conn, infoReq(gs.self.ID, []im.GroupVersion{{ID: g.ID}})
	gs.ask(conn, req, &pb.IMGroupInfoListRsp{}, func(m pb.Message, err error) {
		var news []Group
		if err == nil {
			asked := []im.GroupVersion{{ID: g.ID}}
			news = gs.take(groupsOf(m.(*pb.IMGroupInfoListRsp)), asked)
		}
		if g.changed && gs.conn == conn {
			gs.request(g)
			return
		}
		// A group that the server does not describe is requested once per connection.
		g.asked = !g.known
		if _, told := first(g.held).(GroupChanged); len(news) > 0 && !told {
			gs.emit(GroupChanged{Group: g.copy()})
		}
		gs.release(g)
	})
}

// first returns the first event, nil when there is none.
func first(list []Event) Event {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// take stores the server's description of requested groups, and returns the new and
// changed ones. When a notify arrived after the request, its members are kept, because
// the answer may be older. The caller holds gs.mu.
func (gs *Groups) take(list []Group, asked []im.GroupVersion) []Group {
	var changed []Group
	for _, n := range list {
		if !slices.ContainsFunc(asked, func(v im.GroupVersion) bool { return v.ID == n.ID }) {
			continue
		}
		g := gs.group(n.ID)
		if g.changed {
			n.Members, n.Version = g.Members, 0
		}
		if !g.known || !g.same(n) {
			changed = append(changed, n)
		}
		g.Group, g.known = n, true
	}
	return changed
}

// same reports whether n has the same properties and members as the group.
func (g *groupState) same(n Group) bool {
	return g.Name == n.Name && g.Avatar == n.Avatar && g.Creator == n.Creator &&
		g.Type == n.Type && g.Shield == n.Shield &&
		slices.Equal(g.Members, n.Members)
}

// forgetAsked resets the requests on a lost connection, and releases the held events. The
// caller holds gs.mu.
func (gs *Groups) forgetAsked() {
	for _, g := range gs.states {
		g.asked = false
		gs.release(g)
	}
}

// received reports a message, and first waits for the name of its group. The caller holds
// gs.mu.
func (gs *Groups) received(r Received) {
	if !r.Peer.Group {
		gs.emit(r)
		return
	}
	g := gs.group(r.Peer.ID)
	gs.groupEvent(g, r)
	// Only members receive messages, so the notify of the user's membership was lost or
	// is late.
	if g.known && !g.asked && !g.Has(gs.self.ID) && gs.conn != nil {
		gs.request(g)
	}
}
