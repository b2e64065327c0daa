package store

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// What is not built yet.

var errTodo = im.Errorf(im.Internal, "not built yet")

// SetSignInfo is not built yet.
func (s *Store) SetSignInfo(ctx context.Context, id uint32, text string) error { return errTodo }

// SetAvatar is not built yet.
func (s *Store) SetAvatar(ctx context.Context, id uint32, url string) error { return errTodo }

// SetUserDepart is not built yet.
func (s *Store) SetUserDepart(ctx context.Context, id, depart uint32) error { return errTodo }

// SetPushShield is not built yet.
func (s *Store) SetPushShield(ctx context.Context, id uint32, on bool) error { return errTodo }

// DepartsChangedSince is not built yet.
func (s *Store) DepartsChangedSince(ctx context.Context, since uint32) ([]im.Depart, uint32, error) {
	return nil, 0, errTodo
}

// CreateDepart is not built yet.
func (s *Store) CreateDepart(ctx context.Context, d im.Depart) (uint32, error) { return 0, errTodo }

// UpdateDepart is not built yet.
func (s *Store) UpdateDepart(ctx context.Context, d im.Depart) error { return errTodo }

// UnreadTotals is not built yet.
func (s *Store) UnreadTotals(ctx context.Context, users []uint32) (map[uint32]uint32, error) {
	return nil, errTodo
}

// RemoveSession is not built yet.
func (s *Store) RemoveSession(ctx context.Context, user, peer uint32, t pb.SessionType) error {
	return errTodo
}

// SyncSessions is not built yet.
func (s *Store) SyncSessions(ctx context.Context) (int, error) { return 0, errTodo }

// CreateGroup is not built yet.
func (s *Store) CreateGroup(ctx context.Context, g im.Group) (im.Group, error) {
	return im.Group{}, errTodo
}

// ChangeMembers is not built yet.
func (s *Store) ChangeMembers(ctx context.Context, group uint32, t pb.GroupModifyType, users []uint32, allow func(g *im.Group) error) (im.MemberChange, error) {
	return im.MemberChange{}, errTodo
}

// SetGroupName is not built yet.
func (s *Store) SetGroupName(ctx context.Context, group uint32, name string) error { return errTodo }

// Groups is not built yet.
func (s *Store) Groups(ctx context.Context, ids []uint32) ([]im.Group, error) { return nil, errTodo }

// GroupVersions is not built yet.
func (s *Store) GroupVersions(ctx context.Context, ids []uint32) ([]im.GroupVersion, error) {
	return nil, errTodo
}

// GroupsOf is not built yet.
func (s *Store) GroupsOf(ctx context.Context, user uint32, t pb.GroupType, since uint32) ([]im.GroupVersion, error) {
	return nil, errTodo
}

// ListGroups is not built yet.
func (s *Store) ListGroups(ctx context.Context, after uint32, limit int) ([]im.Group, error) {
	return nil, errTodo
}

// GroupHistory is not built yet.
func (s *Store) GroupHistory(ctx context.Context, user, group, begin uint32, count int) ([]im.Message, error) {
	return nil, errTodo
}

// GroupMessagesByID is not built yet.
func (s *Store) GroupMessagesByID(ctx context.Context, user, group uint32, ids []uint32) ([]im.Message, error) {
	return nil, errTodo
}

// GroupLatestID is not built yet.
func (s *Store) GroupLatestID(ctx context.Context, user, group uint32) (uint32, error) {
	return 0, errTodo
}

// ClearGroupUnread is not built yet.
func (s *Store) ClearGroupUnread(ctx context.Context, user, group uint32) error { return errTodo }

// SetDeviceToken is not built yet.
func (s *Store) SetDeviceToken(ctx context.Context, t im.DeviceToken) error { return errTodo }

// DropDeviceToken is not built yet.
func (s *Store) DropDeviceToken(ctx context.Context, token string) error { return errTodo }

// DeviceTokens is not built yet.
func (s *Store) DeviceTokens(ctx context.Context, users []uint32) ([]im.DeviceToken, error) {
	return nil, errTodo
}

// SetGroupShield is not built yet.
func (s *Store) SetGroupShield(ctx context.Context, user, group uint32, on bool) error {
	return errTodo
}

// GroupShields is not built yet.
func (s *Store) GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error) {
	return nil, errTodo
}
