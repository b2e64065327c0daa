package dbproxy

import (
	"context"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/router"
	"teamtalk/handlers/dbproxy/directory"
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
	return s.users.Reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
}

func (s *Server) departments(ctx context.Context, m *pb.IMDepartmentReq) (pb.Message, error) {
	return s.departs.Reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
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
		UserInfoList: directory.UserInfos(users)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func (s *Server) changeSignInfo(ctx context.Context, m *pb.IMChangeSignInfoReq) (pb.Message,
	error) {
	defer s.users.Touch() // after an error too: the store may have changed the row
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
	defer s.users.Touch()
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

// UsersChanged records that another role of the process created or changed users in the
// store, so that the next answer with the list of users contains the change.
func (s *Server) UsersChanged() { s.users.Touch() }
