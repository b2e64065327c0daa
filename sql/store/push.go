package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// A token stands twice in Redis: device_<user> holds "ios:<token>" or "android:<token>", device_<token> holds the user. No command touches two keys, so
// another process, or a crash, may come between any two. What makes one user of a token is its own key: who is not named there does not have it,
// whatever the user's key says. (C++ servers leave a token with its former users, and empty values instead of none.) Hence the order:
//
//   - To take a token, first its key, then the user's, then what both had before is cleared: each only if it is still what was found. A crash after the first
//     step leaves the token with nobody until its phone says it again, which phones do with every login.
//   - To clear, first the user's key, then the token's. A token's key that stays behind after a crash names a user who does not name the token, which is
//     nobody.
//
// A token without its key is with nobody, and is not given to a user who still names it: that would push to a phone on which somebody else logged out.

// push is the part that keeps push tokens and the groups that users have muted.
type push struct{ *databases }

// deviceKey is the key of a user.
func deviceKey(user uint32) string { return "device_" + strconv.FormatUint(uint64(user), 10) }

// tokenKey is the key of a token. im.CheckDeviceToken sees to it that it is no user's.
func tokenKey(token string) string { return "device_" + token }

// tokenPrefixes say whose phone it is, in the value of a user's key.
var tokenPrefixes = map[pb.ClientType]string{pb.ClientType_CLIENT_TYPE_IOS: "ios:", pb.ClientType_CLIENT_TYPE_ANDROID: "android:"}

// parseToken reads the value of a user's key. C++ servers leave other things there too: they are no token.
func parseToken(user uint32, value string) (im.DeviceToken, bool) {
	for client, prefix := range tokenPrefixes {
		if token, ok := strings.CutPrefix(value, prefix); ok && token != "" {
			t := im.DeviceToken{User: user, Client: client, Token: token}
			return t, im.CheckDeviceToken(t) == nil
		}
	}
	return im.DeviceToken{}, false
}

// parseOwner reads the value of a token's key; 0 is nobody.
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
func (s *push) dropUser(ctx context.Context, user uint32, token string) error {
	values := make([]any, 0, len(tokenPrefixes))
	for _, prefix := range tokenPrefixes {
		values = append(values, prefix+token)
	}
	return drops.Run(ctx, s.redis.token, []string{deviceKey(user)}, values...).Err()
}

// dropToken deletes a token's key if it names this user.
func (s *push) dropToken(ctx context.Context, token string, user uint32) error {
	return drops.Run(ctx, s.redis.token, []string{tokenKey(token)}, user).Err()
}

// found passes an answer on, and makes "" of a key that is not there.
func found(value string, err error) (string, error) {
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return value, err
}

// SetDeviceToken gives a user a token, or clears it; see im.PushStore.
func (s *push) SetDeviceToken(ctx context.Context, t im.DeviceToken) error {
	if err := im.CheckDeviceToken(t); err != nil {
		return err
	}
	if t.Token == "" {
		return s.redisError("clear a push token", s.clearToken(ctx, t.User))
	}
	return s.redisError("set a push token", s.takeToken(ctx, t))
}

// takeToken gives a token to a user.
func (s *push) takeToken(ctx context.Context, t im.DeviceToken) error {
	owner, err := found(s.redis.token.GetSet(ctx, tokenKey(t.Token), t.User).Result())
	if err != nil {
		return err
	}
	before, err := found(s.redis.token.GetSet(ctx, deviceKey(t.User), tokenPrefixes[t.Client]+t.Token).Result())
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

// clearToken takes its token from a user.
func (s *push) clearToken(ctx context.Context, user uint32) error {
	value, err := found(s.redis.token.Get(ctx, deviceKey(user)).Result())
	if err != nil || value == "" {
		return err
	}
	if err := drops.Run(ctx, s.redis.token, []string{deviceKey(user)}, value).Err(); err != nil {
		return err
	}
	if t, ok := parseToken(user, value); ok {
		return s.dropToken(ctx, t.Token, user)
	}
	return nil
}

// DropDeviceToken clears a token that no phone answers to; see im.PushStore.
func (s *push) DropDeviceToken(ctx context.Context, token string) error {
	if token == "" || im.CheckDeviceToken(im.DeviceToken{Client: pb.ClientType_CLIENT_TYPE_IOS, Token: token}) != nil {
		return s.redisError("drop a push token", ctx.Err()) // nobody can have it
	}
	owner, err := found(s.redis.token.Get(ctx, tokenKey(token)).Result())
	if user := parseOwner(owner); err == nil && user != 0 {
		if err = s.dropUser(ctx, user, token); err == nil {
			err = s.dropToken(ctx, token, user)
		}
	}
	return s.redisError("drop a push token", err)
}

// DeviceTokens returns the tokens of users; see im.PushStore. In two pipelines: what the users name, and whom the tokens name.
func (s *push) DeviceTokens(ctx context.Context, users []uint32) ([]im.DeviceToken, error) {
	var list []im.DeviceToken
	err := inChunks(ascending(users), 1000, func(part []uint32) error {
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
		err = ctx.Err() // nobody may have been asked for
	}
	if err != nil {
		return nil, s.redisError("read push tokens", err)
	}
	return list, nil
}

// getAll reads keys of the tokens' instance in one pipeline; "" for those that are not there.
func (s *push) getAll(ctx context.Context, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.StringCmd, len(keys))
	// Its error is that of the first command that failed; each has its own.
	_, _ = s.redis.token.Pipelined(ctx, func(p redis.Pipeliner) error {
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

// ascending is ids once each, in increasing order.
func ascending(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// shieldKey is the hash of a group's settings.
func shieldKey(group uint32) string { return "group_set_" + strconv.FormatUint(uint64(group), 10) }

// shieldField is the setting of a user; 1 is the kind of it: no pushes.
func shieldField(user uint32) string { return strconv.FormatUint(uint64(user), 10) + "_1" }

// SetGroupShield turns pushes off or on; see im.PushStore.
func (s *push) SetGroupShield(ctx context.Context, user, group uint32, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return s.redisError("set a group's shield", s.redis.groupSet.HSet(ctx, shieldKey(group), shieldField(user), value).Err())
}

// GroupShields returns who wants no pushes; see im.PushStore.
func (s *push) GroupShields(ctx context.Context, group uint32, users []uint32) ([]uint32, error) {
	var list []uint32
	err := inChunks(ascending(users), 1000, func(part []uint32) error {
		fields := make([]string, len(part))
		for i, user := range part {
			fields[i] = shieldField(user)
		}
		values, err := s.redis.groupSet.HMGet(ctx, shieldKey(group), fields...).Result()
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
		err = ctx.Err() // nobody may have been asked for
	}
	if err != nil {
		return nil, s.redisError("read a group's shields", err)
	}
	return list, nil
}

// ShieldedGroups returns for which groups a user wants no pushes; see im.PushStore. In a pipeline: each group has a hash of its own.
func (s *push) ShieldedGroups(ctx context.Context, user uint32, groups []uint32) ([]uint32, error) {
	var list []uint32
	err := inChunks(ascending(groups), 1000, func(part []uint32) error {
		cmds := make([]*redis.StringCmd, len(part))
		// Its error is that of the first command that failed; each has its own.
		_, _ = s.redis.groupSet.Pipelined(ctx, func(p redis.Pipeliner) error {
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
		err = ctx.Err() // nothing may have been asked
	}
	if err != nil {
		return nil, s.redisError("read a user's shields", err)
	}
	return list, nil
}
