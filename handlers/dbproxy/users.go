package dbproxy

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/directory"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/proto/pb"
)

// users answers the requests about users and departments.
type users struct {
	*runner
	store   im.UserStore
	list    *directory.Book[im.User]
	departs *directory.Book[im.Depart]
}

func newUsers(r *runner, store directoryStore, reg prometheus.Registerer) *users {
	m := directory.NewMetrics(reg)
	return &users{runner: r, store: store,
		list:    directory.NewUsers(store, r.now, r.storeTime, m),
		departs: directory.NewDeparts(store, r.now, r.storeTime, m)}
}

// directoryStore is what users needs of the store.
type directoryStore interface {
	im.UserStore
	im.DepartStore
}

func (u *users) register() {
	r := u.runner
	handle(r, work[*pb.IMAllUserReq]{user: userOf[*pb.IMAllUserReq], run: u.allUsers})
	handle(r, work[*pb.IMUsersInfoReq]{user: userOf[*pb.IMUsersInfoReq], run: u.usersInfo})
	handle(r, work[*pb.IMDepartmentReq]{user: userOf[*pb.IMDepartmentReq], run: u.departments})
	handle(r, work[*pb.IMChangeSignInfoReq]{user: userOf[*pb.IMChangeSignInfoReq],
		run: u.changeSignInfo,
		refuse: func(m *pb.IMChangeSignInfoReq, _ error) pb.Message {
			return signInfoChanged(m, resultRefused)
		}})
	handle(r, work[*pb.IMChangeAvatarReq]{user: userOf[*pb.IMChangeAvatarReq], run: u.changeAvatar,
		refuse: func(m *pb.IMChangeAvatarReq, _ error) pb.Message {
			return avatarChanged(m, resultRefused)
		}})
}

// userOf returns the key of a user's request.
func userOf[P interface{ GetUserId() uint32 }](m P) uint64 { return uint64(m.GetUserId()) }

func (u *users) allUsers(ctx context.Context, m *pb.IMAllUserReq) (pb.Message, error) {
	return u.list.Reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
}

func (u *users) departments(ctx context.Context, m *pb.IMDepartmentReq) (pb.Message, error) {
	return u.departs.Reply(ctx, m.GetUserId(), m.GetLatestUpdateTime(), m.GetAttachData())
}

// usersInfo asks the store, not the cached directory: it is a lookup by key, and also
// finds a user that another server added a moment ago.
func (u *users) usersInfo(ctx context.Context, m *pb.IMUsersInfoReq) (pb.Message, error) {
	ids := m.GetUserIdList()
	found, err := u.store.Users(ctx, grouprules.Ascending(ids[:min(len(ids), infoLimit)]))
	if err != nil {
		return nil, err
	}
	rsp := pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		UserInfoList: directory.UserInfos(found)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

func (u *users) changeSignInfo(ctx context.Context, m *pb.IMChangeSignInfoReq) (pb.Message,
	error) {
	defer u.list.Touch() // after an error too: the store may have changed the row
	if err := u.store.SetSignInfo(ctx, m.GetUserId(), m.GetSignInfo()); err != nil {
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

func (u *users) changeAvatar(ctx context.Context, m *pb.IMChangeAvatarReq) (pb.Message, error) {
	defer u.list.Touch()
	if err := u.store.SetAvatar(ctx, m.GetUserId(), m.GetAvatarUrl()); err != nil {
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
