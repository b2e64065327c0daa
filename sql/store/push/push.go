// Package push keeps push tokens and the groups that users have muted.
package push

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// A token has two keys in Redis: device_<user> holds "ios:<token>" or "android:<token>",
// and device_<token> holds the user. No command changes both keys, so another process or
// a crash may come between two commands. The key of the token decides which user has it:
// a user that this key does not name has no token, whatever the user's key holds. C++
// servers leave a token with former users, and empty values in place of deleted ones.
// Hence the order of changes:
//
//   - To take a token, set the token's key, then the user's key, then clear what both
//     held before, each only if it still holds that value. A crash after the first step
//     leaves the token unused until its phone sends it again, which phones do with every
//     login.
//   - To clear a token, delete the user's key, then the token's key. After a crash the
//     token's key may remain and name a user whose key does not hold the token: such a
//     token is unused.
//
// A token without a key of its own belongs to nobody. It is not given to a user whose key
// still holds it: that would push to a phone on which another user has logged out.

// Push is the part that keeps push tokens and the groups that users have muted.
type Push struct{ db *database.DB }

// New makes the part.
func New(db *database.DB) *Push { return &Push{db: db} }

// deviceKey returns the key of a user.
func deviceKey(user uint32) string { return "device_" + strconv.FormatUint(uint64(user), 10) }

// tokenKey returns the key of a token. im.CheckDeviceToken rejects tokens that have the
// form of a user's id.
func tokenKey(token string) string { return "device_" + token }

// tokenPrefixes are the prefixes by device class in the value of a user's key.
var tokenPrefixes = map[pb.ClientType]string{pb.ClientType_CLIENT_TYPE_IOS: "ios:",
	pb.ClientType_CLIENT_TYPE_ANDROID: "android:"}

// parseToken parses the value of a user's key. C++ servers store other values too, which
// are no tokens.
func parseToken(user uint32, value string) (im.DeviceToken, bool) {
	for client, prefix := range tokenPrefixes {
		if token, ok := strings.CutPrefix(value, prefix); ok && token != "" {
			t := im.DeviceToken{User: user, Client: client, Token: token}
			return t, im.CheckDeviceToken(t) == nil
		}
	}
	return im.DeviceToken{}, false
}

// parseOwner parses the value of a token's key. 0 means no user.
func parseOwner(value string) uint32 {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// drops deletes KEYS[1] if its value is one of ARGV.
var drops = redis.NewScript(`local v = redis.call('GET', KEYS[1])
for i = 1, #ARGV do
  if v == ARGV[i] then return redis.call('DEL', KEYS[1]) end
end
return 0`)

// dropUser deletes a user's key if it holds this token.
func (s *Push) dropUser(ctx context.Context, user uint32, token string) error {
	values := make([]any, 0, len(tokenPrefixes))
	for _, prefix := range tokenPrefixes {
		values = append(values, prefix+token)
	}
	return drops.Run(ctx, s.db.Redis.Token, []string{deviceKey(user)}, values...).Err()
}

// dropToken deletes a token's key if it names this user.
func (s *Push) dropToken(ctx context.Context, token string, user uint32) error {
	return drops.Run(ctx, s.db.Redis.Token, []string{tokenKey(token)}, user).Err()
}

// found returns an answer of Redis, with "" for a key that does not exist.
func found(value string, err error) (string, error) {
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return value, err
}

// SetDeviceToken sets the token of a user, or clears it; see im.PushStore.
func (s *Push) SetDeviceToken(ctx context.Context, t im.DeviceToken) error {
	if err := im.CheckDeviceToken(t); err != nil {
		return err
	}
	if t.Token == "" {
		return s.db.RedisError("clear a push token", s.clearToken(ctx, t.User))
	}
	return s.db.RedisError("set a push token", s.takeToken(ctx, t))
}

// takeToken gives a token to a user.
func (s *Push) takeToken(ctx context.Context, t im.DeviceToken) error {
	owner, err := found(s.db.Redis.Token.GetSet(ctx, tokenKey(t.Token), t.User).Result())
	if err != nil {
		return err
	}
	before, err := found(s.db.Redis.Token.GetSet(ctx, deviceKey(t.User),
		tokenPrefixes[t.Client]+t.Token).Result())
	if err != nil {
		return err
	}
	if old, ok := parseToken(t.User, before); ok && old.Token != t.Token {
		if err := s.dropToken(ctx, old.Token, t.User); err != nil {
			return err
		}
	}
	if other := parseOwner(owner); other != 0 && other != t.User {
		return s.dropUser(ctx, other, t.Token)
	}
	return nil
}

// clearToken clears the token of a user.
func (s *Push) clearToken(ctx context.Context, user uint32) error {
	value, err := found(s.db.Redis.Token.Get(ctx, deviceKey(user)).Result())
	if err != nil || value == "" {
		return err
	}
	if err := drops.Run(ctx, s.db.Redis.Token, []string{deviceKey(user)}, value).Err(); err != nil {
		return err
	}
	if t, ok := parseToken(user, value); ok {
		return s.dropToken(ctx, t.Token, user)
	}
	return nil
}

// DropDeviceToken clears a token that no phone uses; see im.PushStore.
func (s *Push) DropDeviceToken(ctx context.Context, token string) error {
	t := im.DeviceToken{Client: pb.ClientType_CLIENT_TYPE_IOS, Token: token}
	if token == "" || im.CheckDeviceToken(t) != nil {
		return s.db.RedisError("drop a push token", ctx.Err()) // no user can have such a token
	}
	owner, err := found(s.db.Redis.Token.Get(ctx, tokenKey(token)).Result())
	if user := parseOwner(owner); err == nil && user != 0 {
		if err = s.dropUser(ctx, user, token); err == nil {
			err = s.dropToken(ctx, token, user)
		}
	}
	return s.db.RedisError("drop a push token", err)
}

// DeviceTokens returns the tokens of users; see im.PushStore. It costs two pipelines: one
// for the keys of the users, one for the keys of their tokens.
func (s *Push) DeviceTokens(ctx context.Context, users []uint32) ([]im.DeviceToken, error) {
	var list []im.DeviceToken
	err := database.InChunks(database.Distinct(users), 1000, func(part []uint32) error {
		keys := make([]string, len(part))
		for i, user := range part {
			keys[i] = deviceKey(user)
		}
		values, err := s.getAll(ctx, keys)
		if err != nil {
			return err
		}
		named, keys := make([]im.DeviceToken, 0, len(part)), keys[:0]
		for i, user := range part {
			if t, ok := parseToken(user, values[i]); ok {
				named, keys = append(named, t), append(keys, tokenKey(t.Token))
			}
		}
		if values, err = s.getAll(ctx, keys); err != nil {
			return err
		}
		for i, t := range named {
			if parseOwner(values[i]) == t.User {
				list = append(list, t)
			}
		}
		return nil
	})
	if err == nil {
		err = ctx.Err() // with no users Redis was not asked
	}
	if err != nil {
		return nil, s.db.RedisError("read push tokens", err)
	}
	return list, nil
}

// getAll reads keys of the Token instance in one pipeline. A key that does not exist
// gives "".
func (s *Push) getAll(ctx context.Context, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.StringCmd, len(keys))
	// The error of the pipeline is that of its first failed command. Each command has its
	// own.
	_, _ = s.db.Redis.Token.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			cmds[i] = p.Get(ctx, key)
		}
		return nil
	})
	values := make([]string, len(keys))
	for i, cmd := range cmds {
		var err error
		if values[i], err = found(cmd.Result()); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// shieldKey returns the key of a group's settings.
func shieldKey(group uint32) string { return "group_set_" + strconv.FormatUint(uint64(group), 10) }

// shieldField returns the field of a user's setting of kind 1, no pushes.
func shieldField(user uint32) string { return strconv.FormatUint(uint64(user), 10) + "_1" }

// SetGroupShield mutes a group for a user or unmutes it; see im.PushStore.
func (s *Push) SetGroupShield(ctx context.Context, user, group uint32, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return s.db.RedisError("set a group's shield", s.db.Redis.GroupSet.HSet(ctx, shieldKey(group),
		shieldField(user), value).Err())
}

// GroupShields returns the users that have muted a group; see im.PushStore.
func (s *Push) GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error) {
	var list []uint32
	err := database.InChunks(database.Distinct(users), 1000, func(part []uint32) error {
		fields := make([]string, len(part))
		for i, user := range part {
			fields[i] = shieldField(user)
		}
		values, err := s.db.Redis.GroupSet.HMGet(ctx, shieldKey(group), fields...).Result()
		if err != nil {
			return err
		}
		for i, v := range values {
			if v == "1" {
				list = append(list, part[i])
			}
		}
		return nil
	})
	if err == nil {
		err = ctx.Err() // with no users Redis was not asked
	}
	if err != nil {
		return nil, s.db.RedisError("read a group's shields", err)
	}
	return list, nil
}

// ShieldedGroups returns the groups that a user has muted; see im.PushStore. It costs one
// pipeline, because each group has a hash of its own.
func (s *Push) ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error) {
	var list []uint32
	err := database.InChunks(database.Distinct(groups), 1000, func(part []uint32) error {
		cmds := make([]*redis.StringCmd, len(part))
		// The error of the pipeline is that of its first failed command. Each command has
		// its own.
		_, _ = s.db.Redis.GroupSet.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, group := range part {
				cmds[i] = p.HGet(ctx, shieldKey(group), shieldField(user))
			}
			return nil
		})
		for i, cmd := range cmds {
			v, err := found(cmd.Result())
			if err != nil {
				return err
			}
			if v == "1" {
				list = append(list, part[i])
			}
		}
		return nil
	})
	if err == nil {
		err = ctx.Err() // with no groups Redis was not asked
	}
	if err != nil {
		return nil, s.db.RedisError("read a user's shields", err)
	}
	return list, nil
}
