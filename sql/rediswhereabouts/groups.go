package rediswhereabouts

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
	"teamtalk/sql/store/redisconn"
)

// GroupKey returns the key of a group's marks, a hash. Its fields:
//
//	<node>   the epoch of the message server of that name, which has a member of the group
//	#        a version of the group, see whereabouts.Group; it is no name of a node
//
// A hash without a node, of a group that has no member online, lives for a day.
func GroupKey(group uint32) string {
	return "teamtalk:where:{group_" + strconv.FormatUint(uint64(group), 10) + "}"
}

// unusedLife is the lifetime in seconds of a hash without a node.
const unusedLife = 24 * 60 * 60

// mark sets the fields of nodes. Its arguments: the version or 0, the version that the hash must
// have for it or a later one, the bounds of the number of fields, the length of a field and of a
// value, the lifetime without nodes, and pairs of a node and its epoch. The answer begins with
//
//	ok, and with a version then field and value of each node and of the version; or
//	full, the number of fields, and nothing was written.
var mark = redis.NewScript(number + `
local key, version = KEYS[1], tonumber(ARGV[1])
local fields = redis.call('HLEN', key)
if fields + (#ARGV - 6) / 2 > tonumber(ARGV[3]) then return {'full', text(fields)} end
for i = 7, #ARGV, 2 do
  local by = number(redis.call('HGET', key, ARGV[i]), 15)
  if not by or by < tonumber(ARGV[i + 1]) then
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end
local last = number(redis.call('HGET', key, '#'), 10) or 0
if version > last and last >= tonumber(ARGV[2]) then
  redis.call('HSET', key, '#', text(version))
end
if redis.call('HLEN', key) > redis.call('HEXISTS', key, '#') then
  redis.call('PERSIST', key)
else
  redis.call('EXPIRE', key, ARGV[6])
end
local out = {'ok'}
if version == 0 then return out end
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  if #all[i] <= tonumber(ARGV[4]) and #all[i + 1] <= tonumber(ARGV[5]) then
    out[#out + 1] = all[i]
    out[#out + 1] = all[i + 1]
  end
end
return out
`)

// unmark removes the field of a node. Its arguments: the node, its epoch, and the latest version
// that the hash may have. The hash vanishes with its last node.
var unmark = redis.NewScript(number + `
local key = KEYS[1]
local last = number(redis.call('HGET', key, '#'), 10) or 0
if last > tonumber(ARGV[3]) or redis.call('HGET', key, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', key, ARGV[1])
if redis.call('HLEN', key) == redis.call('HEXISTS', key, '#') then redis.call('DEL', key) end
return 1
`)

// Mark sets marks; see whereabouts.Groups.
func (s *Store) Mark(ctx context.Context, marks []whereabouts.Mark) []whereabouts.Group {
	groups := make([]whereabouts.Group, len(marks))
	for first := 0; first < len(marks); first += redisconn.PipelineSize {
		end := min(len(marks), first+redisconn.PipelineSize)
		s.markPart(ctx, marks[first:end], groups[first:end])
	}
	return groups
}

// markPart sets the marks of one pipeline.
func (s *Store) markPart(ctx context.Context, marks []whereabouts.Mark,
	groups []whereabouts.Group) {
	runs := make([]*redisconn.Run, len(marks))
	for i, m := range marks {
		args := []any{m.Version, m.Since, maxFields, registry.MaxName, maxValue, unusedLife}
		for _, n := range m.Nodes {
			args = append(args, n.Name, whereabouts.EncodeMark(n.Epoch))
		}
		runs[i] = &redisconn.Run{Script: mark, Keys: []string{GroupKey(m.Group)}, Args: args}
	}
	c := s.begin(ctx, opMark)
	redisconn.RunAll(c.ctx, s.client, runs)
	for i, m := range marks {
		key := GroupKey(m.Group)
		answer, err := runs[i].Answer.StringSlice()
		switch {
		case err != nil:
			groups[i].Err = c.failed(key, err)
			continue
		case len(answer) == 2 && answer[0] == "full":
			groups[i].Err = fullError(key, answer[1])
		case len(answer)%2 != 1 || answer[0] != "ok" || len(answer) > 1+2*maxFields:
			groups[i].Err = errAnswer
		default:
			groups[i] = groupOf(key, answer[1:], &c.refused)
		}
		c.judge(groups[i].Err)
	}
	c.end(len(marks))
}

// groupOf returns what pairs of a field and its value say of a group.
func groupOf(key string, pairs []string, refused *Refused) (g whereabouts.Group) {
	for i := 0; i+1 < len(pairs); i += 2 {
		field, value := pairs[i], pairs[i+1]
		if len(field) > registry.MaxName || len(value) > maxValue {
			refused.long(key, 1)
			continue
		}
		if field == versionField {
			version, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				refused.malformed(key, field, err)
			}
			g.Version = uint32(version)
			if err != nil {
				g.Version = 0
			}
			continue
		}
		n, err := whereabouts.DecodeMark(field, value)
		if err != nil {
			refused.malformed(key, field, err)
			continue
		}
		g.Nodes = append(g.Nodes, n)
	}
	byName := func(a, b whereabouts.Node) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(g.Nodes, byName)
	g.Nodes = slices.CompactFunc(g.Nodes,
		func(a, b whereabouts.Node) bool { return a.Name == b.Name })
	return g
}

// Unmark removes marks; see whereabouts.Groups.
func (s *Store) Unmark(ctx context.Context, marks []whereabouts.Unmark) []error {
	errs := make([]error, len(marks))
	for first := 0; first < len(marks); first += redisconn.PipelineSize {
		end := min(len(marks), first+redisconn.PipelineSize)
		s.unmarkPart(ctx, marks[first:end], errs[first:end])
	}
	return errs
}

// unmarkPart removes the marks of one pipeline.
func (s *Store) unmarkPart(ctx context.Context, marks []whereabouts.Unmark, errs []error) {
	runs := make([]*redisconn.Run, len(marks))
	for i, m := range marks {
		runs[i] = &redisconn.Run{Script: unmark, Keys: []string{GroupKey(m.Group)},
			Args: []any{m.Node.Name, whereabouts.EncodeMark(m.Node.Epoch), m.Version}}
	}
	c := s.begin(ctx, opUnmark)
	redisconn.RunAll(c.ctx, s.client, runs)
	for i, m := range marks {
		if err := runs[i].Answer.Err(); err != nil {
			errs[i] = c.failed(GroupKey(m.Group), err)
		}
	}
	c.end(len(marks))
}

// LookupAll returns what is known of users and groups; see whereabouts.Groups.
func (s *Store) LookupAll(ctx context.Context, users, groups []uint32) ([]whereabouts.Found,
	[]whereabouts.Group) {
	found, of := make([]whereabouts.Found, len(users)), make([]whereabouts.Group, len(groups))
	for u, g := 0, 0; u < len(users) || g < len(groups); {
		toUser := min(len(users), u+redisconn.PipelineSize)
		toGroup := min(len(groups), g+redisconn.PipelineSize-(toUser-u))
		s.lookupPart(ctx, users[u:toUser], found[u:toUser], groups[g:toGroup], of[g:toGroup])
		u, g = toUser, toGroup
	}
	return found, of
}

// groupFound returns what the answer to a question for a group says.
func groupFound(key string, answer *redis.ScanCmd, refused *Refused) (g whereabouts.Group) {
	pairs, cursor, err := answer.Result()
	switch {
	case err != nil:
		g.Err = explain(key, err)
	case cursor != 0 || len(pairs) > 2*maxFields:
		g.Err = fullError(key, fmt.Sprint(len(pairs)/2, " or more"))
	default:
		g = groupOf(key, pairs, refused)
	}
	return g
}
