package rediswhereabouts

import (
	"strconv"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/registry"
)

// Key returns the key of a user's whereabouts, a hash. Its fields:
//
//	<node>   what the message server of that name has of the user, see whereabouts.Encode
//	#        the version of the last update; it is no name of a node
//
// A script uses one key, so that no move of a slot of a Redis Cluster separates what it needs.
// The hash tag gives the key the slot of the user's unread counts: db_proxy reads both after a
// commit, and asks one master for them. The hash has no lifetime, and vanishes with its last node.
func Key(user uint32) string {
	return "teamtalk:where:{unread_" + strconv.FormatUint(uint64(user), 10) + "}"
}

// Bounds of a hash.
const (
	// maxFields is the largest number of fields of a hash that is read, with the version. A user
	// has a few devices, and entries of processes that ended are removed when they are met.
	maxFields = 1024
	// maxValue is the longest value that is read: an entry has 208 bytes at most.
	maxValue = 256
	// versionField is the field of the version.
	versionField = "#"
)

// number is a function of scripts. It returns nil for anything but a number that Lua holds.
const number = `
local function number(v, digits)
  if v and #v <= digits and string.find(v, '^%d+$') then return tonumber(v) end
end
local function text(n) return string.format('%.0f', n) end
`

// update sets or removes the field of a node. Its arguments: the node, its epoch, the value or ""
// without devices, the largest version that the caller has seen, and the bounds of the number of
// fields, the length of a field and of a value. The answer begins with
//
//	ok, the new version, the node's value of before, the number of fields that are too long, and
//	then field and value of each other node;
//	replaced, the epoch of the later process that has the node, and nothing was written; or
//	full, the number of fields, and nothing was written.
//
// A version is the time of Redis in microseconds, and larger than the one in the hash and than the
// caller's. So it grows when the clock of another master is behind, while the hash exists. When
// the last node left, the hash with its version is gone: then it grows as far as the clock does,
// and the callers have seen it.
var update = redis.NewScript(number + `
local key, node, epoch = KEYS[1], ARGV[1], tonumber(ARGV[2])
local fields = redis.call('HLEN', key)
if fields > tonumber(ARGV[5]) then return {'full', text(fields)} end
local all = redis.call('HGETALL', key)
local had, last, long = '', 0, 0
local out = {'ok', '', '', ''}
for i = 1, #all, 2 do
  local field, v = all[i], all[i + 1]
  if field == '#' then
    last = number(v, 16) or 0
  elseif #field > tonumber(ARGV[6]) or #v > tonumber(ARGV[7]) then
    long = long + 1
  elseif field == node then
    had = v
  else
    out[#out + 1] = field
    out[#out + 1] = v
  end
end
local by = number(string.match(had, '^(%d+):'), 15)
if by and by > epoch then return {'replaced', text(by)} end
if last > 8e15 then last = 0 end
local t = redis.call('TIME')
local version = math.max(t[1] * 1000000 + t[2], last + 1, number(ARGV[4], 16) + 1)
if ARGV[3] ~= '' then
  redis.call('HSET', key, node, ARGV[3], '#', text(version))
else
  redis.call('HDEL', key, node)
  if #out == 4 and long == 0 then
    redis.call('DEL', key)
  else
    redis.call('HSET', key, '#', text(version))
  end
end
out[2], out[3], out[4] = text(version), had, text(long)
return out
`)

// remove removes the fields of nodes. Its arguments are pairs of a node and the epoch that its
// value must have.
var remove = redis.NewScript(`
local gone = 0
for i = 1, #ARGV, 2 do
  local v = redis.call('HGET', KEYS[1], ARGV[i])
  if v and string.match(v, '^(%d+):') == ARGV[i + 1] then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
if gone > 0 and redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], '#') then
  redis.call('DEL', KEYS[1])
end
return gone
`)

// updateArgs returns the arguments of update.
func updateArgs(node string, epoch uint64, value string, seen uint64) []any {
	return []any{node, strconv.FormatUint(epoch, 10), value, strconv.FormatUint(seen, 10),
		maxFields, registry.MaxName, maxValue}
}
