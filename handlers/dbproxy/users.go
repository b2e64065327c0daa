package dbproxy

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// handleUsers enters logins and the directory.
func (s *Server) handleUsers() {
	handle(s, work[*pb.IMValidateReq]{
		user: func(m *pb.IMValidateReq) uint64 { return s.nameKey(m.GetUserName()) },
		run:  s.validate, refuse: notValidated,
	})
	handle(s, work[*pb.IMAllUserReq]{user: userOf[*pb.IMAllUserReq], run: s.allUsers})
	handle(s, work[*pb.IMUsersInfoReq]{user: userOf[*pb.IMUsersInfoReq], run: s.usersInfo})
	handle(s, work[*pb.IMDeviceTokenReq]{user: userOf[*pb.IMDeviceTokenReq], run: s.deviceToken})
}

// userOf is the key of what a user asks.
func userOf[P interface{ GetUserId() uint32 }](m P) uint64 { return uint64(m.GetUserId()) }

func (s *Server) allUsers(ctx context.Context, m *pb.IMAllUserReq) (pb.Message, error) {
	users, newest, err := s.store.UsersChangedSince(ctx, m.GetLatestUpdateTime())
	if err != nil {
		return nil, err
	}
	rsp := pb.IMAllUserRsp_builder{UserId: proto.Uint32(m.GetUserId()), LatestUpdateTime: proto.Uint32(newest), UserList: userInfos(users)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func (s *Server) usersInfo(ctx context.Context, m *pb.IMUsersInfoReq) (pb.Message, error) {
	ids := slices.Clone(m.GetUserIdList())
	slices.Sort(ids)
	users, err := s.store.Users(ctx, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	rsp := pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()), UserInfoList: userInfos(users)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// deviceToken answers only: pushes, and with them the tokens, are not served yet.
func (s *Server) deviceToken(_ context.Context, m *pb.IMDeviceTokenReq) (pb.Message, error) {
	rsp := pb.IMDeviceTokenRsp_builder{UserId: proto.Uint32(m.GetUserId())}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
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

// userInfo converts a user. There is no field for a real name in the directory: the login name stands for it, as in the first implementation.
func userInfo(u *im.User) *pb.UserInfo {
	return pb.UserInfo_builder{
		UserId: proto.Uint32(u.ID), UserGender: proto.Uint32(u.Gender), UserNickName: proto.String(u.Nick), AvatarUrl: proto.String(u.Avatar),
		DepartmentId: proto.Uint32(u.DepartID), Email: proto.String(u.Email), UserRealName: proto.String(u.Name),
		UserTel: proto.String(u.Phone), UserDomain: proto.String(u.Domain), Status: proto.Uint32(uint32(u.Status)), SignInfo: proto.String(u.SignInfo),
	}.Build()
}
