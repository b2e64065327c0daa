package httpapi

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// createGroupRequest is the request of CreateGroup. Its fields are the first
// implementation's.
type createGroupRequest struct {
	request
	As      uint32   `json:"req_user_id"`
	Name    string   `json:"group_name"`
	Type    uint32   `json:"group_type"`
	Avatar  string   `json:"group_avatar"`
	Members []uint32 `json:"user_id_list"`
}

type createGroupResult struct {
	answer
	Group uint32 `json:"group_id"`
}

// createGroup creates a group. A req_user_id other than 0 has the rights and limits of that
// user. Clients learn of it from the next list that they request,
// as in the first implementation.
func (s *Server) createGroup(ctx context.Context, app *app, q *createGroupRequest,
	r *createGroupResult) error {
	t := pb.GroupType(q.Type)
	switch {
	case t != pb.GroupType_GROUP_TYPE_NORMAL && t != pb.GroupType_GROUP_TYPE_TMP:
		return fail(codeBad, "group_type is 1 (normal) or 2 (temporary)")
	case im.CheckGroupName(q.Name) != nil,
		im.CheckText("group_avatar", q.Avatar, im.MaxGroupName) != nil:
		return fail(codeBad, "group_name is missing, or it or group_avatar is too long")
	case len(q.Members) == 0 || len(q.Members) > im.MaxGroupMembers:
		return fail(codeBad, "user_id_list is empty or too long")
	}
	if err := firstOf(app.mayAct(q.As), app.mayReach(q.Members...)); err != nil {
		return err
	}
	if q.As != 0 {
		if err := s.known(ctx, q.As); err != nil {
			return err
		}
	}
	req := &pb.IMGroupCreateReq{}
	req.SetUserId(q.As)
	req.SetGroupType(t)
	req.SetGroupName(q.Name)
	req.SetGroupAvatar(q.Avatar)
	req.SetMemberIdList(q.Members)
	rsp, err := ask[*pb.IMGroupCreateRsp](ctx, s.opt.DB, uint64(q.As), req)
	if err != nil {
		return err
	}
	if rsp.GetResultCode() != 0 {
		return fail(codeBad, "the group was not created: do its members exist?")
	}
	r.Group = rsp.GetGroupId()
	return nil
}

// changeMembersRequest is the request of ChangeMembers. Its fields are the first
// implementation's.
type changeMembersRequest struct {
	request
	As    uint32   `json:"req_user_id"`
	Group uint32   `json:"group_id"`
	Type  uint32   `json:"modify_type"`
	Users []uint32 `json:"user_id_list"`
}

// changeMembers adds users to a group or removes them, and notifies the members.
func (s *Server) changeMembers(ctx context.Context, app *app, q *changeMembersRequest,
	_ *answer) error {
	t := pb.GroupModifyType(q.Type)
	switch {
	case t != pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD &&
		t != pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL:
		return fail(codeBad, "modify_type is 1 (add) or 2 (remove)")
	case q.Group == 0:
		return fail(codeBad, "group_id is missing")
	case len(q.Users) == 0 || len(q.Users) > im.MaxGroupMembers:
		return fail(codeBad, "user_id_list is empty or too long")
	}
	if err := firstOf(app.mayAct(q.As), app.mayChange(q.Group),
		app.mayReach(q.Users...)); err != nil {
		return err
	}
	req := &pb.IMGroupChangeMemberReq{}
	req.SetUserId(q.As)
	req.SetChangeType(t)
	req.SetGroupId(q.Group)
	req.SetMemberIdList(q.Users)
	rsp, err := ask[*pb.IMGroupChangeMemberRsp](ctx, s.opt.DB, im.GroupKey(q.Group), req)
	if err != nil {
		return err
	}
	if rsp.GetResultCode() != 0 {
		return fail(codeDenied,
			"the members were not changed: does the group exist, and may this user change it?")
	}
	n := MembersNotify(q.As, q.Group, t, rsp.GetCurUserIdList(), rsp.GetChgUserIdList())
	if rsp.HasVersion() {
		n.SetVersion(rsp.GetVersion())
	}
	s.forward(im.GroupKey(q.Group), n)
	return nil
}

// MembersNotify returns the notify for the members of a group, and for those that were, that user
// by has added or removed changed. Its version may be set.
func MembersNotify(by, group uint32, t pb.GroupModifyType,
	current, changed []uint32) *pb.IMGroupChangeMemberNotify {
	n := &pb.IMGroupChangeMemberNotify{}
	n.SetUserId(by)
	n.SetChangeType(t)
	n.SetGroupId(group)
	n.SetCurUserIdList(current)
	n.SetChgUserIdList(changed)
	return n
}

// forward sends m to a route server, which forwards it. A failure is counted and logged:
// the change is stored, and clients receive it later.
func (s *Server) forward(key uint64, m pb.Message) {
	if err := s.opt.Route.Send(key, 0, m); err != nil {
		s.metrics.notForwarded.WithLabelValues(m.Command().String()).Inc()
		if held, ok := s.often.Allow(s.opt.Now()); ok {
			s.log.Warn("message not forwarded", "cmd", m.Command().String(), "err", err, "held",
				held)
		}
	}
}

// firstOf returns the first error that is not nil.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
