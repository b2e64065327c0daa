package move

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/redisconn"
)

// The keys are those of sql/SCHEMA.md.

// ours matches the keys with data of users.
var ours = regexp.MustCompile(`^(unread_\d+|msg_id_\d+|group_msg_id_\d+|\d+_im_group_msg|` +
	`\d+_\d+_im_user_group|group_member_\d+|device_.+|group_set_\d+|login_\{\d+\}.*)$`)

// leftover matches keys without meaning of their own, which a new store begins anew.
var leftover = regexp.MustCompile(`^(last_update_group|total_user_update|unread_mark_.*|` +
	`unread_kept.*|resent_.*|budget_.*)$`)

// keys calls do for the keys of all instances.
func (b *big) keys(ctx context.Context, do func(redis.UniversalClient, string) error) error {
	for _, c := range b.redis.All {
		scan := func(ctx context.Context, node *redis.Client) error {
			i := node.Scan(ctx, 0, "", 1000).Iterator()
			for i.Next(ctx) {
				if err := do(c, i.Val()); err != nil {
					return err
				}
			}
			return i.Err()
		}
		var err error
		switch c := c.(type) {
		case *redis.Client:
			err = scan(ctx, c)
		case interface {
			ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
		}:
			err = c.ForEachMaster(ctx, scan)
		default:
			err = im.Errorf(im.Internal, "a client of type %T has no scan", c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scan calls do for each key with data of users.
func (b *big) scan(ctx context.Context, do func(key string) error) error {
	return b.keys(ctx, func(_ redis.UniversalClient, key string) error {
		if ours.MatchString(key) {
			return do(key)
		}
		return nil
	})
}

// wipe deletes the keys of an earlier move.
func (b *big) wipe(ctx context.Context) error {
	return b.keys(ctx, func(c redis.UniversalClient, key string) error {
		if ours.MatchString(key) || leftover.MatchString(key) {
			return c.Unlink(ctx, key).Err()
		}
		return nil
	})
}

// pipelined runs the commands that do adds, all at once.
func pipelined(ctx context.Context, c redis.UniversalClient, do func(redis.Pipeliner)) error {
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		do(p)
		return nil
	})
	return err
}

// setCounters sets the counters of message ids of conversations or groups.
func (b *big) setCounters(ctx context.Context, prefix string, rows []row, column int) error {
	return pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
		for _, r := range rows {
			p.Set(ctx, fmt.Sprint(prefix, r.num(0)), r.num(column), 0)
		}
	})
}

// counters returns the counters of message ids, by conversation or group. Missing ones are 0.
func (b *big) counters(ctx context.Context, prefix string, rows []row) (map[int64]int64, error) {
	cmds := make(map[int64]*redis.StringCmd, len(rows))
	// Each command has its own error.
	_ = pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
		for _, r := range rows {
			if id := r.num(0); cmds[id] == nil {
				cmds[id] = p.Get(ctx, fmt.Sprint(prefix, id))
			}
		}
	})
	list := make(map[int64]int64, len(cmds))
	for id, cmd := range cmds {
		v, err := cmd.Result()
		if err != nil && !errors.Is(err, redis.Nil) && !redisconn.WrongType(err) {
			return nil, err
		}
		list[id] = redisconn.CountOf(v)
	}
	return list, nil
}

// setSent sets the numbers of messages of groups.
func (b *big) setSent(ctx context.Context, rows []row) error {
	return pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
		for _, r := range rows {
			p.HSet(ctx, fmt.Sprint(r.num(0), "_im_group_msg"), "count", r.num(6))
		}
	})
}

// readKey returns the key of the number of messages that a user has read in a group.
func readKey(user, group int64) string { return fmt.Sprintf("%d_%d_im_user_group", user, group) }

// setRead sets what members have read to everything, and writes the members for C++ servers.
func (b *big) setRead(ctx context.Context, rows []row) error {
	err := pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
		for _, r := range rows {
			p.HSet(ctx, readKey(r.num(1), r.num(0)), "count", r.num(3))
		}
	})
	if err != nil {
		return err
	}
	return pipelined(ctx, b.redis.GroupMember, func(p redis.Pipeliner) {
		for _, r := range rows {
			p.HSet(ctx, fmt.Sprint("group_member_", r.num(0)), r.num(1), r.num(6))
		}
	})
}

// platforms are the beginnings of the values of users' tokens.
var platforms = map[pb.ClientType]string{pb.ClientType_CLIENT_TYPE_IOS: "ios:",
	pb.ClientType_CLIENT_TYPE_ANDROID: "android:"}

// writeRedis stores rows of the subjects that Redis alone has.
func (b *big) writeRedis(ctx context.Context, what string, rows []row) error {
	switch what {
	case unread:
		return pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
			for _, r := range rows {
				if r.num(1) == 2 {
					p.HIncrBy(ctx, readKey(r.num(0), r.num(2)), "count", -r.num(3))
				} else {
					p.HSet(ctx, fmt.Sprint("unread_", r.num(0)), r.num(2), r.num(3))
				}
			}
		})
	case tokens:
		return pipelined(ctx, b.redis.Token, func(p redis.Pipeliner) {
			for _, r := range rows {
				token := string(r.text(2))
				p.Set(ctx, "device_"+token, r.num(0), 0)
				value := platforms[pb.ClientType(r.num(1))] + token
				p.Set(ctx, fmt.Sprint("device_", r.num(0)), value, 0)
			}
		})
	case shields:
		return pipelined(ctx, b.redis.GroupSet, func(p redis.Pipeliner) {
			for _, r := range rows {
				p.HSet(ctx, fmt.Sprint("group_set_", r.num(0)), fmt.Sprint(r.num(1), "_1"), 1)
			}
		})
	case logins:
		list := make([]im.NewLoginMark, len(rows))
		for i, r := range rows {
			list[i] = im.NewLoginMark{
				LoginMarkKey: im.LoginMarkKey{Kind: im.LoginMarkKind(r.num(0)),
					Key: string(r.text(1))},
				LoginMark: im.LoginMark{Value: string(r.text(2)), At: uint32(r.num(3))},
				Keep:      time.Duration(max(r.num(4)-r.num(3), 1)) * time.Second,
			}
		}
		return b.store.ChangeLoginMarks(ctx, nil, list)
	}
	return im.Errorf(im.Internal, "no place for %s", what)
}

// readRedis emits the rows of the subjects that Redis alone has.
func (b *big) readRedis(ctx context.Context, what string, emit func(row) error) error {
	switch what {
	case tokens:
		return b.readTokens(ctx, emit)
	case shields:
		return b.paged(ctx, "SELECT id FROM IMGroup WHERE status=0 ORDER BY id", "i",
			func(page []row) error { return b.readShields(ctx, page, emit) })
	case logins:
		return b.readLogins(ctx, emit)
	}
	return im.Errorf(im.Internal, "no place for %s", what)
}

// readTokens emits the push tokens of users.
func (b *big) readTokens(ctx context.Context, emit func(row) error) error {
	return eachUser(ctx, b.store, func(page []im.User) error {
		ids := make([]uint32, len(page))
		for i, u := range page {
			ids[i] = u.ID
		}
		list, err := b.store.DeviceTokens(ctx, ids)
		if err != nil {
			return err
		}
		for _, t := range list {
			r := append(numbers(t.User, uint32(t.Client)), []byte(t.Token))
			if err := emit(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// readShields emits the users that have muted the groups of a page.
func (b *big) readShields(ctx context.Context, page []row, emit func(row) error) error {
	cmds := make([]*redis.MapStringStringCmd, len(page))
	// Each command has its own error.
	_ = pipelined(ctx, b.redis.GroupSet, func(p redis.Pipeliner) {
		for i, r := range page {
			cmds[i] = p.HGetAll(ctx, fmt.Sprint("group_set_", r.num(0)))
		}
	})
	for i, cmd := range cmds {
		fields, err := cmd.Result()
		if err != nil && !redisconn.WrongType(err) {
			return err
		}
		for field, value := range fields {
			name, kind, _ := strings.Cut(field, "_")
			user, err := strconv.ParseUint(name, 10, 32)
			if err != nil || kind != "1" || value != "1" {
				continue // another setting, or one that is off
			}
			if err := emit(numbers(uint32(page[i].num(0)), uint32(user))); err != nil {
				return err
			}
		}
	}
	return nil
}

// loginKey matches the keys of login marks.
var loginKey = regexp.MustCompile(`^login_\{\d+\}_(\d+)_(.+)$`)

// readLogins emits the login marks. When a mark expires follows from the life of its key.
func (b *big) readLogins(ctx context.Context, emit func(row) error) error {
	now := uint32(b.store.Now().Unix())
	return b.keys(ctx, func(c redis.UniversalClient, key string) error {
		m := loginKey.FindStringSubmatch(key)
		if m == nil || c != b.redis.Token {
			return nil
		}
		kind, err := strconv.ParseUint(m[1], 10, 8)
		if err != nil {
			return nil
		}
		list, err := c.ZRangeWithScores(ctx, key, 0, -1).Result()
		if err != nil || len(list) == 0 {
			return err
		}
		life, err := c.TTL(ctx, key).Result()
		if err != nil || life <= 0 {
			return err
		}
		until := now + uint32(life/time.Second)
		keep := until - min(uint32(list[len(list)-1].Score), until)
		for _, z := range list {
			value, _ := z.Member.(string)
			at := uint32(z.Score)
			if err := emit(row{int64(kind), []byte(m[2]), []byte(value), int64(at),
				int64(at) + int64(keep)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// keptKeys returns the keys by whose absence a store knows that Redis has lost its data.
func (b *big) keptKeys() []string {
	if !b.redis.Cluster {
		return []string{"unread_kept"}
	}
	var list []string
	for i := range 256 {
		list = append(list, fmt.Sprint("unread_kept_", i))
	}
	return list
}

// restoreCounts makes the unread counts again if Redis has lost its data since read marks began,
// as a server would after its start.
func (b *big) restoreCounts(ctx context.Context) error {
	begun := false
	err := b.query(ctx, "SELECT msgId FROM IMReadMark WHERE userId=0", "i", func(row) error {
		begun = true
		return nil
	})
	if err != nil || !begun {
		return err
	}
	for _, key := range b.keptKeys() {
		n, err := b.redis.Unread.Exists(ctx, key).Result()
		if err != nil {
			return err
		}
		if n == 0 {
			_, err := b.store.RebuildUnread(ctx)
			return err
		}
	}
	return nil
}

// finishRedis sets the marks without data of users.
func (b *big) finishRedis(ctx context.Context) error {
	var newest int64
	err := b.db.QueryRowContext(ctx, "SELECT GREATEST("+
		"(SELECT COALESCE(MAX(updated), 0) FROM IMUser), "+
		"(SELECT COALESCE(MAX(updated), 0) FROM IMDepart))").Scan(&newest)
	if err != nil {
		return err
	}
	now := b.store.Now().Unix()
	if err := pipelined(ctx, b.redis.Sync, func(p redis.Pipeliner) {
		p.Set(ctx, "total_user_update", newest, 0)
		p.Set(ctx, "last_update_group", now, 0)
	}); err != nil {
		return err
	}
	// Redis has lost nothing since.
	return pipelined(ctx, b.redis.Unread, func(p redis.Pipeliner) {
		for _, key := range b.keptKeys() {
			p.Set(ctx, key, 1, 0)
		}
	})
}
