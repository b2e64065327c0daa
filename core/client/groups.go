package client

import (
	"context"
	"maps"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Group is a group as the server shows it to a user: of im.Group it has ID, Name, Avatar, Creator, Type, Version and Members.
type Group struct {
	im.Group
	Shield bool // the user wants no pushes for it
}

// Has reports whether a user is in the group.
func (g *Group) Has(user uint32) bool { return slices.Contains(g.Members, user) }

// NormalGroups returns the normal groups that the user is in. The temporary ones show in the list of conversations.
func NormalGroups(ctx context.Context, c Caller) ([]im.GroupVersion, error) {
	var res pb.IMNormalGroupListRsp
	if err := c.Call(ctx, normalReq(c.UserID()), &res); err != nil {
		return nil, err
	}
	return versionsOf(&res), nil
}

// normalReq asks for the normal groups.
func normalReq(user uint32) *pb.IMNormalGroupListReq {
	return pb.IMNormalGroupListReq_builder{UserId: new(user)}.Build()
}

// versionsOf is what an answer to normalReq says.
func versionsOf(res *pb.IMNormalGroupListRsp) []im.GroupVersion {
	list := make([]im.GroupVersion, 0, len(res.GetGroupVersionList()))
	for _, v := range res.GetGroupVersionList() {
		list = append(list, im.GroupVersion{ID: v.GetGroupId(), Version: v.GetVersion()})
	}
	return list
}

// infoBatch is how many groups are asked about at once: servers pass over what exceeds 1,000.
const infoBatch = 500

// GroupInfos returns those of the groups that are newer than the versions say; version 0 is for a group of which nothing is known.
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

// infoReq asks for groups.
func infoReq(user uint32, known []im.GroupVersion) *pb.IMGroupInfoListReq {
	req := pb.IMGroupInfoListReq_builder{UserId: new(user)}
	for _, v := range known {
		req.GroupVersionList = append(req.GroupVersionList, pb.GroupVersionInfo_builder{GroupId: new(v.ID), Version: new(v.Version)}.Build())
	}
	return req.Build()
}

// groupsOf is what an answer to infoReq says.
func groupsOf(res *pb.IMGroupInfoListRsp) []Group {
	list := make([]Group, 0, len(res.GetGroupInfoList()))
	for _, g := range res.GetGroupInfoList() {
		list = append(list, Group{Shield: g.GetShieldStatus() != 0, Group: im.Group{
			ID: g.GetGroupId(), Name: g.GetGroupName(), Avatar: g.GetGroupAvatar(), Creator: g.GetGroupCreatorId(), Type: g.GetGroupType(),
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

// groupState is what a Client knows of a group. Notifies name no version, so after one the version is 0, and the next connection asks anew.
type groupState struct {
	Group
	known   bool // Group is what the server said
	asked   bool // an answer is on its way, or there was none
	changed bool // a notify came since it was last asked for
	held    []Event
	timer   *time.Timer // hands out what is held when no answer comes
}

// maxHeldEvents is how many events of a group wait for its name before they go out without.
const maxHeldEvents = 64

// Groups returns the groups the Client knows, those the user has left too, in increasing order of id.
func (c *Client) Groups() []Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.knownGroups()
}

// Group returns a group; false when the Client does not know it.
func (c *Client) Group(id uint32) (Group, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[id]
	if g == nil || !g.known {
		return Group{}, false
	}
	return g.copy(), true
}

// copy is the group for others to keep.
func (g *groupState) copy() Group {
	out := g.Group
	out.Members = slices.Clone(g.Members)
	return out
}

// knownGroups is Groups; c.mu is held.
func (c *Client) knownGroups() []Group {
	var list []Group
	for _, g := range c.groups {
		if g.known {
			list = append(list, g.copy())
		}
	}
	slices.SortFunc(list, func(a, b Group) int { return int(int64(a.ID) - int64(b.ID)) })
	return list
}

// group returns the entry of a group, making it; c.mu is held.
func (c *Client) group(id uint32) *groupState {
	g := c.groups[id]
	if g == nil {
		g = &groupState{Group: Group{Group: im.Group{ID: id}}}
		c.groups[id] = g
	}
	return g
}

// CreateGroup makes a temporary group of the user and the given ones, and returns it. Invalid when the name is empty, too long, or there are too many
// members; Denied when the server refuses.
func (c *Client) CreateGroup(ctx context.Context, name, avatar string, members []uint32) (Group, error) {
	switch {
	case name == "" || len([]rune(name)) > im.MaxGroupName || len([]rune(avatar)) > im.MaxGroupName:
		return Group{}, im.Errorf(im.Invalid, "a group's name has 1 to %d characters", im.MaxGroupName)
	case len(members) > im.MaxGroupMembers:
		return Group{}, im.Errorf(im.Invalid, "a group has at most %d members", im.MaxGroupMembers)
	}
	self := c.UserID()
	req := pb.IMGroupCreateReq_builder{
		UserId: new(self), GroupType: pb.GroupType_GROUP_TYPE_TMP.Enum(), GroupName: new(name), GroupAvatar: new(avatar),
		MemberIdList: sorted(append(slices.Clone(members), self)),
	}.Build()
	var res pb.IMGroupCreateRsp
	var made Group
	err := c.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "a group"); err != nil {
			return err
		}
		if res.GetGroupId() == 0 {
			return im.Errorf(im.Malformed, "group without id")
		}
		g := c.group(res.GetGroupId())
		g.known, g.Name, g.Avatar, g.Creator, g.Type = true, res.GetGroupName(), avatar, self, pb.GroupType_GROUP_TYPE_TMP
		c.setMembers(g, res.GetUserIdList())
		made = g.copy()
		c.emit(GroupChanged{Group: made, By: self, Added: made.Members})
		return nil
	})
	return made, err
}

// ChangeMembers adds users to a group or takes them out, and says what became of it (Version is 0). Denied when the server refuses: in a temporary group
// every member may add, but only the creator take out others than itself; in a normal group only the creator may do either.
func (c *Client) ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType, users []uint32) (im.MemberChange, error) {
	if len(users) > im.MaxGroupMembers {
		return im.MemberChange{}, im.Errorf(im.Invalid, "a group has at most %d members", im.MaxGroupMembers)
	}
	req := pb.IMGroupChangeMemberReq_builder{UserId: new(c.UserID()), ChangeType: t.Enum(), GroupId: new(group), MemberIdList: sorted(users)}.Build()
	var res pb.IMGroupChangeMemberRsp
	var change im.MemberChange
	err := c.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "the change"); err != nil {
			return err
		}
		change = im.MemberChange{Current: sorted(res.GetCurUserIdList()), Changed: sorted(res.GetChgUserIdList())}
		c.changeGroup(group, c.self.ID, t, change)
		return nil
	})
	return change, err
}

// ShieldGroup turns pushes for a group off or on. Denied when the server refuses.
func (c *Client) ShieldGroup(ctx context.Context, group uint32, on bool) error {
	req := pb.IMGroupShieldReq_builder{UserId: new(c.UserID()), GroupId: new(group), ShieldStatus: new(number(on))}.Build()
	var res pb.IMGroupShieldRsp
	return c.callThen(ctx, req, &res, func() error {
		if err := refusal(res.GetResultCode(), "the setting"); err != nil {
			return err
		}
		if g := c.groups[group]; g != nil && g.Shield != on {
			g.Shield = on
			if g.known {
				c.emit(GroupChanged{Group: g.copy(), By: c.self.ID})
			}
		}
		return nil
	})
}

// RefreshGroups asks what groups the user is in and what became of them: for those made by administrators, of which clients are not told before they log in
// again. GroupChanged tells what is new.
func (c *Client) RefreshGroups(ctx context.Context) error {
	normal, err := NormalGroups(ctx, c)
	if err != nil {
		return err
	}
	c.mu.Lock()
	batches := c.groupQuestions(normal, nil)
	c.mu.Unlock()
	for _, batch := range batches {
		var res pb.IMGroupInfoListRsp
		if err := c.callThen(ctx, infoReq(c.UserID(), batch), &res, func() error {
			c.tellGroups(c.takeGroups(groupsOf(&res), batch))
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// groupQuestions returns the groups to be asked about, with the versions known: those known, those of the list that are newer, and others that
// are unknown; so many at a time as servers answer. c.mu is held.
func (c *Client) groupQuestions(normal []im.GroupVersion, others []uint32) [][]im.GroupVersion {
	ids := make(map[uint32]struct{}, len(c.groups)+len(normal))
	for id := range c.groups {
		ids[id] = struct{}{}
	}
	for _, g := range normal {
		if old := c.groups[g.ID]; old != nil && old.Version == g.Version && g.Version != 0 {
			delete(ids, g.ID)
		} else {
			ids[g.ID] = struct{}{}
		}
	}
	for _, id := range others {
		if c.groups[id] == nil {
			ids[id] = struct{}{}
		}
	}
	var ask []im.GroupVersion
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		g := c.group(id)
		g.changed = false
		ask = append(ask, im.GroupVersion{ID: id, Version: g.Version})
	}
	return slices.Collect(slices.Chunk(ask, infoBatch))
}

// tellGroups reports groups that are new or changed, but for what Ready will say; c.mu is held.
func (c *Client) tellGroups(changed []Group) {
	for _, g := range changed {
		if c.baseline {
			c.emit(GroupChanged{Group: g})
		}
	}
}

// callThen is Call, with then called right after the answer was decoded, before any later frame, with c.mu held.
func (c *Client) callThen(ctx context.Context, req, resp pb.Message, then func() error) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return im.Errorf(im.Unavailable, "not connected")
	}
	return conn.call(ctx, req, resp, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		return then()
	})
}

// setMembers takes the members as a server listed them without a version; c.mu is held.
func (c *Client) setMembers(g *groupState, members []uint32) {
	g.Members, g.Version, g.changed = sorted(members), 0, true
}

// changeGroup takes a change of members, and asks for the group when it is new here; c.mu is held.
func (c *Client) changeGroup(id, by uint32, t pb.GroupModifyType, change im.MemberChange) {
	g := c.group(id)
	c.setMembers(g, change.Current)
	e := GroupChanged{By: by}
	if t == pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL {
		e.Removed = change.Changed
	} else {
		e.Added = change.Changed
	}
	if slices.Contains(e.Added, c.self.ID) {
		c.joined(Peer{ID: id, Group: true})
	}
	e.Group = g.copy()
	c.groupEvent(g, e)
}

// joined forgets what was accounted for in a group: ids from before the user joined (again) will never be given. c.mu is held.
func (c *Client) joined(p Peer) {
	if v := c.convs[p]; v != nil && v.fetch == nil {
		v.base = 0
	}
}

// groupEvent reports an event about a group, after the group's name is known if the server gives it soon: nobody is told when somebody else
// makes a group, so its first message is the first that is heard of it. Events of one group stay in order. c.mu is held.
func (c *Client) groupEvent(g *groupState, e Event) {
	if g.known || len(g.held) == 0 && g.asked || c.conn == nil || c.opts.OnEvent == nil {
		c.emit(c.named(g, e))
		return
	}
	g.held = append(g.held, e)
	if len(g.held) >= maxHeldEvents {
		c.release(g)
	}
	if g.asked {
		return
	}
	c.askGroup(g)
	g.timer = time.AfterFunc(c.opts.SyncTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release(g)
	})
}

// named puts what is known of the group now into an event made before; c.mu is held.
func (c *Client) named(g *groupState, e Event) Event {
	if ch, ok := e.(GroupChanged); ok {
		members := ch.Group.Members
		ch.Group = g.copy()
		ch.Group.Members = members
		return ch
	}
	return e
}

// release reports what was held; c.mu is held.
func (c *Client) release(g *groupState) {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	for _, e := range g.held {
		c.emit(c.named(g, e))
	}
	g.held = nil
}

// askGroup asks for one group; c.mu is held.
func (c *Client) askGroup(g *groupState) {
	g.asked, g.changed = true, false
	conn, req := c.conn, infoReq(c.self.ID, []im.GroupVersion{{ID: g.ID}})
	c.ask(conn, req, &pb.IMGroupInfoListRsp{}, func(m pb.Message, err error) {
		var news []Group
		if err == nil {
			news = c.takeGroups(groupsOf(m.(*pb.IMGroupInfoListRsp)), []im.GroupVersion{{ID: g.ID}})
		}
		if g.changed && c.conn == conn {
			c.askGroup(g)
			return
		}
		g.asked = !g.known // what is not there is not asked for again on this connection
		if _, told := first(g.held).(GroupChanged); len(news) > 0 && !told {
			c.emit(GroupChanged{Group: g.copy()})
		}
		c.release(g)
	})
}

// first is the first event, nil when there is none.
func first(list []Event) Event {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// takeGroups takes what the server says of groups that were asked for, and returns those that are new or changed. Where a notify came in the
// meantime its members count, for the answer may be older. c.mu is held.
func (c *Client) takeGroups(list []Group, asked []im.GroupVersion) []Group {
	var changed []Group
	for _, n := range list {
		if !slices.ContainsFunc(asked, func(v im.GroupVersion) bool { return v.ID == n.ID }) {
			continue
		}
		g := c.group(n.ID)
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

// same reports whether a group looks as before to its members.
func (g *groupState) same(n Group) bool {
	return g.Name == n.Name && g.Avatar == n.Avatar && g.Creator == n.Creator && g.Type == n.Type && g.Shield == n.Shield &&
		slices.Equal(g.Members, n.Members)
}

// forgetAsked gives up on answers of a connection that is lost; c.mu is held.
func (c *Client) forgetAsked() {
	for _, g := range c.groups {
		g.asked = false
		c.release(g)
	}
}

// received reports a message, behind its group's name if it is one of a group; c.mu is held.
func (c *Client) received(r Received) {
	if !r.Peer.Group {
		c.emit(r)
		return
	}
	g := c.group(r.Peer.ID)
	c.groupEvent(g, r)
	if g.known && !g.asked && !g.Has(c.self.ID) && c.conn != nil { // only members get messages: a notify was missed, or came late
		c.askGroup(g)
	}
}
