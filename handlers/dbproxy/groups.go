package dbproxy

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/handlers/dbproxy/settle"
	"teamtalk/proto/pb"
)

// infoLimit is the largest number of users, or of groups, in the answer to one request
// for their data. Further ids are ignored.
const infoLimit = 1000

const (
	// normalGroupLimit is the largest number of groups in the answer to
	// IMNormalGroupListReq. Only administrators create such groups.
	normalGroupLimit = 30_000
	// infoMembers is the number of members, read for a request, above which its answer contains
	// no further group: 5 MB. Those of groups that the requester may not read count, too:
	// everybody can guess the ids of the largest groups.
	infoMembers = 1_000_000
	// Groups are read by infoPage, each with up to im.MaxGroupMembers members. While groups are
	// small, each page is twice as long as the one before, up to maxInfoPage: 1,000 groups
	// that are in the cache of the store take half of the time.
	infoPage    = 50
	maxInfoPage = 200
)

// Values of result_code in answers that have only two.
const (
	resultOK      = 0
	resultRefused = 1
)

// groups answers the requests about groups, and makes the changes of groups that other
// systems ask for.
type groups struct {
	*runner
	store groupStore
	rules *grouprules.Rules
}

// groupStore is what groups needs of the store.
type groupStore interface {
	im.GroupStore
	SetGroupShield(ctx context.Context, user, group uint32, on bool) error
	GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error)
	ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error)
}

func newGroups(r *runner, store im.Store, opt *Options) *groups {
	m := newGroupMetrics(opt.Registerer)
	rules := &grouprules.Rules{Store: store, Limits: opt.Groups, StoreNow: r.storeTime, Now: r.now,
		Timeout: r.timeout / 4, Log: r.log,
		Refused: func(reason string, n int) {
			m.refused.WithLabelValues(reason).Add(float64(n))
		},
		Failed: m.unavailable.Inc}
	return &groups{runner: r, store: store, rules: rules}
}

func (gs *groups) register() {
	r := gs.runner
	handle(r, work[*pb.IMNormalGroupListReq]{user: userOf[*pb.IMNormalGroupListReq],
		run: gs.normalGroups})
	handle(r, work[*pb.IMGroupInfoListReq]{user: userOf[*pb.IMGroupInfoListReq],
		run: gs.groupInfos})
	handle(r, work[*pb.IMGroupCreateReq]{user: userOf[*pb.IMGroupCreateReq], run: gs.createGroup,
		refuse: func(m *pb.IMGroupCreateReq, _ error) pb.Message { return groupNotCreated(m) }})
	handle(r, work[*pb.IMGroupChangeMemberReq]{user: userOf[*pb.IMGroupChangeMemberReq],
		run: gs.changeMembers,
		refuse: func(m *pb.IMGroupChangeMemberReq, err error) pb.Message {
			var change im.MemberChange
			if r, ok := errors.AsType[*grouprules.Refusal](err); ok && m.GetWantMembers() {
				change.Current = r.Current
			}
			return membersChanged(m, resultRefused, change)
		}})
	handle(r, work[*pb.IMGroupShieldReq]{user: userOf[*pb.IMGroupShieldReq], run: gs.shieldGroup,
		refuse: func(m *pb.IMGroupShieldReq, _ error) pb.Message {
			return groupShielded(m, resultRefused)
		}})
	handle(r, work[*pb.IMGroupGetShieldReq]{user: func(m *pb.IMGroupGetShieldReq) uint64 {
		return uint64(m.GetGroupId())
	}, run: gs.groupShields})
}

// normalGroups returns the normal groups of a user. Clients learn of temporary groups
// from their conversations, and message servers ask for both. When the client sent a time,
// the answer contains the time to send next. With too many groups it has those with the
// highest ids, and the time is the client's.
func (gs *groups) normalGroups(ctx context.Context, m *pb.IMNormalGroupListReq) (pb.Message,
	error) {
	now := gs.storeTime() // before the read
	earliest := settle.From(m.GetLatestUpdateTime(), now, settle.Directory)
	t := pb.GroupType_GROUP_TYPE_NORMAL
	if m.GetEveryType() {
		t = 0
	}
	groups, err := gs.store.GroupsOf(ctx, m.GetUserId(), t, earliest)
	if err != nil {
		return nil, err
	}
	next := settle.At(now, settle.Directory)
	cut := len(groups) - normalGroupLimit
	if cut > 0 {
		gs.metrics.listsCut.WithLabelValues("groups").Inc()
		groups, next = groups[cut:], min(next, m.GetLatestUpdateTime())
	}
	list := make([]*pb.GroupVersionInfo, len(groups))
	for i, g := range groups {
		list[i] = pb.GroupVersionInfo_builder{GroupId: proto.Uint32(g.ID),
			Version: proto.Uint32(g.Version)}.Build()
	}
	rsp := pb.IMNormalGroupListRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		GroupVersionList: list}.Build()
	if m.HasLatestUpdateTime() {
		rsp.SetLatestUpdateTime(next)
	}
	if m.GetEveryType() && cut <= 0 && earliest == 0 {
		rsp.SetEveryType(true)
	}
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// groupInfos returns those groups of the requester whose version is newer than the
// requester's, in ascending order of id. Names and members of a group are for its members
// only: group ids are small numbers, easily guessed. User 0, a message server that asks
// for itself, gets every group, without shields. Groups beyond infoMembers are left out: a
// client that keeps the versions of what it received asks for them next.
func (gs *groups) groupInfos(ctx context.Context, m *pb.IMGroupInfoListReq) (pb.Message, error) {
	ids, err := gs.newerGroups(ctx, m.GetGroupVersionList())
	if err != nil {
		return nil, err
	}
	groups, err := gs.readGroups(ctx, m.GetUserId(), ids)
	if err != nil {
		return nil, err
	}
	var shields []uint32
	if len(groups) > 0 && m.GetUserId() != 0 {
		if shields, err = gs.store.ShieldedGroups(ctx, m.GetUserId(), ids); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(groups, func(a, b im.Group) int { return cmp.Compare(a.ID, b.ID) })
	list := make([]*pb.GroupInfo, len(groups))
	for i := range groups {
		_, on := slices.BinarySearch(shields, groups[i].ID)
		list[i] = groupInfo(&groups[i], shieldStatus(on))
	}
	rsp := pb.IMGroupInfoListRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		GroupInfoList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// readGroups returns those of some groups that user may read, up to infoMembers.
func (gs *groups) readGroups(ctx context.Context, user uint32, ids []uint32) ([]im.Group, error) {
	var list []im.Group
	members := 0
	for page := infoPage; len(ids) > 0; {
		if members >= infoMembers {
			gs.metrics.listsCut.WithLabelValues("group_infos").Inc()
			break
		}
		n := min(page, len(ids))
		groups, err := gs.store.Groups(ctx, ids[:n])
		if err != nil {
			return nil, err
		}
		ids = ids[n:]
		for _, g := range groups {
			members += len(g.Members)
		}
		list = append(list, readable(user, groups)...)
		if page = infoPage; members < infoMembers/10 {
			page = min(2*n, maxInfoPage)
		}
	}
	return list, nil
}

// readable returns those of groups that user may read; it overwrites groups.
func readable(user uint32, groups []im.Group) []im.Group {
	if user == 0 {
		return groups
	}
	return slices.DeleteFunc(groups, func(g im.Group) bool {
		_, member := slices.BinarySearch(g.Members, user)
		return !member
	})
}

// newerGroups returns the ids of those groups whose version is newer than the
// requester's, of at most infoLimit requested ids. Version 0 means that the requester has
// no version of the group. For the other groups the store is asked for the versions
// first, because reading a version is cheap and reading the members is not.
func (gs *groups) newerGroups(ctx context.Context, asked []*pb.GroupVersionInfo) ([]uint32, error) {
	have := make(map[uint32]uint32, min(len(asked), infoLimit))
	var ids, known []uint32
	for _, v := range asked[:min(len(asked), infoLimit)] {
		id := v.GetGroupId()
		if _, twice := have[id]; twice {
			continue
		}
		have[id] = v.GetVersion()
		if v.GetVersion() == 0 {
			ids = append(ids, id)
		} else {
			known = append(known, id)
		}
	}
	if len(known) == 0 {
		return ids, nil
	}
	versions, err := gs.store.GroupVersions(ctx, known)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if v.Version > have[v.ID] {
			ids = append(ids, v.ID)
		}
	}
	return ids, nil
}

func groupInfo(g *im.Group, shield uint32) *pb.GroupInfo {
	return pb.GroupInfo_builder{
		GroupId: proto.Uint32(g.ID), Version: proto.Uint32(g.Version),
		GroupName: proto.String(g.Name), GroupAvatar: proto.String(g.Avatar),
		GroupCreatorId: proto.Uint32(g.Creator), GroupType: g.Type.Enum(),
		ShieldStatus: proto.Uint32(shield), GroupMemberList: g.Members,
	}.Build()
}

func (gs *groups) createGroup(ctx context.Context, m *pb.IMGroupCreateReq) (pb.Message, error) {
	g, err := gs.rules.Create(ctx, im.Group{Name: m.GetGroupName(), Avatar: m.GetGroupAvatar(),
		Creator: m.GetUserId(), Type: m.GetGroupType(),
		Members: m.GetMemberIdList()})
	if err != nil {
		return nil, err
	}
	rsp := pb.IMGroupCreateRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(resultOK), GroupId: proto.Uint32(g.ID),
		GroupName: proto.String(g.Name), UserIdList: g.Members}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// groupNotCreated returns the answer to a refused request: it has the requested name and
// members, and no group_id.
func groupNotCreated(m *pb.IMGroupCreateReq) *pb.IMGroupCreateRsp {
	rsp := pb.IMGroupCreateRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(resultRefused),
		GroupName:  proto.String(m.GetGroupName()),
		UserIdList: grouprules.Ascending(m.GetMemberIdList())}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

func (gs *groups) changeMembers(ctx context.Context, m *pb.IMGroupChangeMemberReq) (pb.Message,
	error) {
	change, err := gs.rules.Change(ctx, m.GetUserId(), m.GetGroupId(), m.GetChangeType(),
		m.GetMemberIdList())
	if err != nil {
		return nil, err
	}
	rsp := membersChanged(m, resultOK, change)
	rsp.SetVersion(change.Version)
	return rsp, nil
}

func membersChanged(m *pb.IMGroupChangeMemberReq, code uint32,
	c im.MemberChange) *pb.IMGroupChangeMemberRsp {
	rsp := pb.IMGroupChangeMemberRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ChangeType: m.GetChangeType().Enum(), ResultCode: proto.Uint32(code),
		GroupId: proto.Uint32(m.GetGroupId()), CurUserIdList: c.Current,
		ChgUserIdList: c.Changed}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

// shieldGroup turns pushes for a group off or on. Only members may do so: other users
// could fill the store with settings of groups that they are not in.
func (gs *groups) shieldGroup(ctx context.Context, m *pb.IMGroupShieldReq) (pb.Message, error) {
	groups, err := gs.store.Groups(ctx, []uint32{m.GetGroupId()})
	if err != nil {
		return nil, err
	}
	in := false
	for i := range groups {
		_, in = slices.BinarySearch(groups[i].Members, m.GetUserId())
	}
	if !in {
		return nil, im.Errorf(im.Denied, "user %d is not in group %d", m.GetUserId(),
			m.GetGroupId())
	}
	if err := gs.store.SetGroupShield(ctx, m.GetUserId(), m.GetGroupId(),
		m.GetShieldStatus() != 0); err != nil {
		return nil, err
	}
	return groupShielded(m, resultOK), nil
}

func groupShielded(m *pb.IMGroupShieldReq, code uint32) *pb.IMGroupShieldRsp {
	rsp := pb.IMGroupShieldRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		GroupId: proto.Uint32(m.GetGroupId()), ResultCode: proto.Uint32(code)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

// shieldStatus returns 1 when the user receives no pushes.
func shieldStatus(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}

// groupShields returns for each of the users, in the order of the request, whether it
// receives no pushes for the group.
func (gs *groups) groupShields(ctx context.Context, m *pb.IMGroupGetShieldReq) (pb.Message, error) {
	users := m.GetUserId()
	users = users[:min(len(users), im.MaxGroupMembers)]
	var shields []uint32
	if len(users) > 0 {
		var err error
		if shields, err = gs.store.GroupShields(ctx, m.GetGroupId(), users); err != nil {
			return nil, err
		}
	}
	list := make([]*pb.ShieldStatus, len(users))
	for i, u := range users {
		_, on := slices.BinarySearch(shields, u)
		list[i] = pb.ShieldStatus_builder{UserId: proto.Uint32(u),
			GroupId:      proto.Uint32(m.GetGroupId()),
			ShieldStatus: proto.Uint32(shieldStatus(on))}.Build()
	}
	rsp := pb.IMGroupGetShieldRsp_builder{GroupId: proto.Uint32(m.GetGroupId()),
		ShieldStatusList: list}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}
