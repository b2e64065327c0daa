package directory

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// UserInfos converts users, in order of id.
func UserInfos(users []im.User) []*pb.UserInfo {
	slices.SortFunc(users, func(a, b im.User) int { return cmp.Compare(a.ID, b.ID) })
	list := make([]*pb.UserInfo, len(users))
	for i := range users {
		list[i] = UserInfo(&users[i])
	}
	return list
}

// UserInfo converts a user. The directory has no real name: the field contains the login
// name, as in the first implementation.
func UserInfo(u *im.User) *pb.UserInfo {
	return pb.UserInfo_builder{
		UserId: proto.Uint32(u.ID), UserGender: proto.Uint32(u.Gender),
		UserNickName: proto.String(u.Nick), AvatarUrl: proto.String(u.Avatar),
		DepartmentId: proto.Uint32(u.DepartID), Email: proto.String(u.Email),
		UserRealName: proto.String(u.Name),
		UserTel:      proto.String(u.Phone), UserDomain: proto.String(u.Domain),
		Status: proto.Uint32(uint32(u.Status)), SignInfo: proto.String(u.SignInfo),
	}.Build()
}

func departInfo(d *im.Depart) *pb.DepartInfo {
	return pb.DepartInfo_builder{DeptId: proto.Uint32(d.ID), Priority: proto.Uint32(d.Priority),
		DeptName:     proto.String(d.Name),
		ParentDeptId: proto.Uint32(d.Parent), DeptStatus: d.Status.Enum()}.Build()
}
