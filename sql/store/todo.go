package store

import (
	"context"

	"teamtalk/core/im"
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
