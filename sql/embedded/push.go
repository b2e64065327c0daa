package embedded

import (
	"context"
	"database/sql"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
)

// push is the part that keeps push tokens and the groups that users have muted.
type push struct{ *database }

// SetDeviceToken sets the token of a user, or clears it; see im.PushStore.
func (s *push) SetDeviceToken(ctx context.Context, t im.DeviceToken) error {
	if err := im.CheckDeviceToken(t); err != nil {
		return err
	}
	return s.call("set device token", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error {
			if err := w.exec("delete from DeviceToken where userId = ? or token = ?", t.User,
				t.Token); err != nil || t.Token == "" {
				return err
			}
			return w.exec("insert into DeviceToken (userId, client, token) values (?, ?, ?)",
				t.User, t.Client, t.Token)
		})
	})
}

// DropDeviceToken clears a token; see im.PushStore.
func (s *push) DropDeviceToken(ctx context.Context, token string) error {
	return s.call("drop device token", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error {
			return w.exec("delete from DeviceToken where token = ?", token)
		})
	})
}

// DeviceTokens returns the tokens of users; see im.PushStore.
func (s *push) DeviceTokens(ctx context.Context, users []uint32) ([]im.DeviceToken, error) {
	var tokens []im.DeviceToken
	err := s.rows(ctx, "device tokens", arrivals.None, s.read.deviceTokens,
		func(row scanner) error {
			var t im.DeviceToken
			err := row.Scan(&t.User, &t.Client, &t.Token)
			tokens = append(tokens, t)
			return err
		}, jsonArray(users))
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// SetGroupShield mutes a group for a user or unmutes it; see im.PushStore.
func (s *push) SetGroupShield(ctx context.Context, user, group uint32, on bool) error {
	text := "delete from GroupShield where groupId = ? and userId = ?"
	if on {
		text = "insert or ignore into GroupShield (groupId, userId) values (?, ?)"
	}
	return s.call("set group shield", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error { return w.exec(text, group, user) })
	})
}

// GroupShields returns the users that have muted a group; see im.PushStore.
func (s *push) GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error) {
	return s.shields(ctx, s.read.groupShields, group, users)
}

// ShieldedGroups returns the groups that a user has muted; see im.PushStore.
func (s *push) ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error) {
	return s.shields(ctx, s.read.shieldedGroups, user, groups)
}

// shields returns those of ids that share a row of GroupShield with one.
func (s *push) shields(ctx context.Context, stmt *sql.Stmt, one uint32,
	ids []uint32) ([]uint32, error) {
	var shields []uint32
	err := s.rows(ctx, "group shields", arrivals.None, stmt, func(row scanner) error {
		var id uint32
		err := row.Scan(&id)
		shields = append(shields, id)
		return err
	}, one, jsonArray(ids))
	if err != nil {
		return nil, err
	}
	return shields, nil
}
