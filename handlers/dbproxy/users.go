package dbproxy

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/router"
	"teamtalk/proto/pb"
)

// handleUsers registers logins and the directory.
func (s *Server) handleUsers() {
	router.Handle(s.Router, router.Public, s.handleValidate)
	handle(s, work[*pb.IMAllUserReq]{user: userOf[*pb.IMAllUserReq], run: s.allUsers})
	handle(s, work[*pb.IMUsersInfoReq]{user: userOf[*pb.IMUsersInfoReq], run: s.usersInfo})
	handle(s, work[*pb.IMDepartmentReq]{user: userOf[*pb.IMDepartmentReq], run: s.departments})
	handle(s, work[*pb.IMChangeSignInfoReq]{user: userOf[*pb.IMChangeSignInfoReq],
		run: s.changeSignInfo,
		refuse: func(m *pb.IMChangeSignInfoReq, _ error) pb.Message {
			return signInfoChanged(m, resultRefused)
		}})
	handle(s, work[*pb.IMChangeAvatarReq]{user: userOf[*pb.IMChangeAvatarReq], run: s.changeAvatar,
		refuse: func(m *pb.IMChangeAvatarReq, _ error) pb.Message {
			return avatarChanged(m, resultRefused)
		}})
}

// userOf returns the key of a user's request.
func userOf[P interface{ GetUserId() uint32 }](m P) uint64 { return uint64(m.GetUserId()) }

func (s *Server) allUsers(ctx context.Context, m *pb.IMAllUserReq) (pb.Message, error) {
	return s.users.reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
}

func (s *Server) departments(ctx context.Context, m *pb.IMDepartmentReq) (pb.Message, error) {
	return s.departs.reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
}

// usersInfo asks the store, not the cached directory: it is a lookup by key, and also
// finds a user that another server added a moment ago.
func (s *Server) usersInfo(ctx context.Context, m *pb.IMUsersInfoReq) (pb.Message, error) {
	ids := m.GetUserIdList()
	users, err := s.store.Users(ctx, ascending(ids[:min(len(ids), infoLimit)]))
	if err != nil {
		return nil, err
	}
	rsp := pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		UserInfoList: userInfos(users)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func departInfo(d *im.Depart) *pb.DepartInfo {
	return pb.DepartInfo_builder{DeptId: proto.Uint32(d.ID), Priority: proto.Uint32(d.Priority),
		DeptName:     proto.String(d.Name),
		ParentDeptId: proto.Uint32(d.Parent), DeptStatus: d.Status.Enum()}.Build()
}

func (s *Server) changeSignInfo(ctx context.Context, m *pb.IMChangeSignInfoReq) (pb.Message,
	error) {
	defer s.users.touch() // after an error too: the store may have changed the row
	if err := s.store.SetSignInfo(ctx, m.GetUserId(), m.GetSignInfo()); err != nil {
		return nil, err
	}
	rsp := signInfoChanged(m, resultOK)
	rsp.SetSignInfo(m.GetSignInfo())
	return rsp, nil
}

func signInfoChanged(m *pb.IMChangeSignInfoReq, code uint32) *pb.IMChangeSignInfoRsp {
	rsp := pb.IMChangeSignInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(code)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

func (s *Server) changeAvatar(ctx context.Context, m *pb.IMChangeAvatarReq) (pb.Message, error) {
	defer s.users.touch()
	if err := s.store.SetAvatar(ctx, m.GetUserId(), m.GetAvatarUrl()); err != nil {
		return nil, err
	}
	return avatarChanged(m, resultOK), nil
}

func avatarChanged(m *pb.IMChangeAvatarReq, code uint32) *pb.IMChangeAvatarRsp {
	rsp := pb.IMChangeAvatarRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		ResultCode: proto.Uint32(code)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

// userInfos converts users, in order of id.
func userInfos(users []im.User) []*pb.UserInfo {
	slices.SortFunc(users, func(a, b im.User) int { return cmp.Compare(a.ID, b.ID) })
	list := make([]*pb.UserInfo, len(users))
	for i := range users {
		list[i] = userInfo(&users[i])
	}
	return list
}

// userInfo converts a user. The directory has no real name: the field contains the login
// name, as in the first implementation.
func userInfo(u *im.User) *pb.UserInfo {
	return pb.UserInfo_builder{
		UserId: proto.Uint32(u.ID), UserGender: proto.Uint32(u.Gender),
		UserNickName: proto.String(u.Nick), AvatarUrl: proto.String(u.Avatar),
		DepartmentId: proto.Uint32(u.DepartID), Email: proto.String(u.Email),
		UserRealName: proto.String(u.Name),
		UserTel:      proto.String(u.Phone), UserDomain: proto.String(u.Domain),
		Status: proto.Uint32(uint32(u.Status)), SignInfo: proto.String(u.SignInfo),
	}.Build()
}

// UsersChanged records that another role of the process created or changed users in the
// store, so that the next answer with the list of users contains the change.
func (s *Server) UsersChanged() { s.users.touch() }
