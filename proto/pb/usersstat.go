package pb

import "slices"

// IsOnline reports whether the answer says that user is online. m may be nil.
func (m *IMUsersStatRsp) IsOnline(user uint32) bool {
	return slices.ContainsFunc(m.GetUserStatList(), func(st *UserStat) bool {
		return st.GetUserId() == user && st.GetStatus() == UserStatType_USER_STATUS_ONLINE
	})
}
