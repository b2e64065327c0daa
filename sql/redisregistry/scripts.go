package redisregistry

import "github.com/redis/go-redis/v9"

// Key is the key of the registry. The whole registry is one hash, so that each script reads
// and writes one key: in a Redis Cluster its parts are always on one server, and no move of a
// slot separates them. Its fields:
//
//	clock        the registry's clock, in ms since the registry was empty
//	time         the time of Redis at which the clock was read last, in ms
//	epoch        the epoch that was assigned last, to any node
//	<role>/<name>  "<end> <epoch> <process> <time> <record>": the end of the lease on the
//	             registry's clock, the epoch, a random number of the process, and the time of
//	             Redis at the last renewal, in ms; then the record, see package registry
//	drain:<role>:<name>  the epoch of the process that shall drain the node, see Order
const Key = "teamtalk:registry"

// clocked begins every script of a process. It stores the registry's clock, advanced by the time
// that has passed on the clock of Redis since the last such script, at most by ARGV[1] ms. While
// no process reaches Redis, no script runs and the clock stands. So no lease ends because Redis
// was away, or because its clock was set: the nodes that live have the rest of their leases to
// renew them.
const clocked = common + `
redis.call('HSET', key, 'clock', text(clock), 'time', text(now))
`

// common begins every script. It computes the registry's clock and writes nothing. The function
// number returns nil for anything but an amount that a Lua number holds.
const common = `
local key = KEYS[1]
local function number(v)
  if v and #v <= 15 and string.find(v, '^%d+$') then return tonumber(v) end
end
local function text(n) return string.format('%.0f', n) end
local function record(v)
  if not v then return nil end
  local ends, epoch, process, time, body = string.match(v, '^(%d+) (%d+) (%x+) (%d+) (.*)$')
  ends, epoch = number(ends), number(epoch)
  if not ends or not epoch then return nil end
  return {ends = ends, epoch = epoch, process = process, body = body}
end
local function mark(node) return 'drain:' .. string.gsub(node, '/', ':') end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = redis.call('HMGET', key, 'clock', 'time', 'epoch')
local clock = number(state[1]) or 0
local passed = now - (number(state[2]) or now)
if passed > 0 then clock = clock + math.min(passed, tonumber(ARGV[1])) end
`

// keep registers nodes, or renews their leases. Its arguments after the first: the random
// number of the process; its epoch, 0 for a new one; the length of the lease in ms; the largest
// number of fields; then the key and the record of each node, and 1 if the process drains it by
// order, else 0. The answer begins with
//
//	ok, the epoch, the number of nodes that were not registered by this process, the number of
//	nodes that it shall drain and their keys, and with a new epoch the key and the record of
//	each other process whose lease has not ended;
//	replaced, the key of a node, the epoch and the record of the process that has it now; or
//	full, the number of fields.
//
// A new epoch is larger than the last one that was assigned, and than that of each process
// that has had one of the nodes. A renewal raises the last one, in case Redis has lost it. It
// restores an order that ended with the lease of a node, or that Redis lost together with the
// node.
var keep = redis.NewScript(clocked + `
local process, epoch = ARGV[2], number(ARGV[3]) or 0
local last = math.max(number(state[3]) or 0, epoch)
local former, missing, added, lost = {}, 0, 0, {}
for i = 6, #ARGV, 3 do
  local v = redis.call('HGET', key, ARGV[i])
  local r = record(v)
  if not v then added = added + 1 end
  if not r or r.process ~= process then
    missing = missing + 1
    lost[i] = epoch > 0 and ARGV[i + 2] == '1'
  end
  if r then last = math.max(last, r.epoch) end
  if r and r.process ~= process and r.ends > clock then
    if epoch > 0 and r.epoch >= epoch then
      return {'replaced', ARGV[i], text(r.epoch), r.body}
    end
    if epoch == 0 then
      former[#former + 1] = ARGV[i]
      former[#former + 1] = r.body
    end
  end
end
local fields = redis.call('HLEN', key) + added
if added > 0 and fields > tonumber(ARGV[5]) then return {'full', text(fields)} end
if epoch == 0 then
  epoch = last + 1
  last = epoch
end
redis.call('HSET', key, 'epoch', text(last))
local head = text(clock + tonumber(ARGV[4])) .. ' ' .. text(epoch) .. ' ' .. process .. ' ' ..
  text(now) .. ' '
local drains = {}
for i = 6, #ARGV, 3 do
  redis.call('HSET', key, ARGV[i], head .. ARGV[i + 1])
  if lost[i] then redis.call('HSET', key, mark(ARGV[i]), text(epoch)) end
  local order = redis.call('HGET', key, mark(ARGV[i]))
  if number(order) == epoch then
    drains[#drains + 1] = ARGV[i]
  elseif order then
    redis.call('HDEL', key, mark(ARGV[i]))
  end
end
local out = {'ok', text(epoch), text(missing), text(#drains)}
for i = 1, #drains do out[#out + 1] = drains[i] end
for i = 1, #former do out[#out + 1] = former[i] end
return out
`)

// order makes nodes drain, or serve again. Its arguments after the first: 1 to drain, 0 to serve;
// the largest number of fields; then the keys of the nodes. The answer begins with ok and has the
// keys of the nodes that are not registered, or is full with the number of fields. Then no order
// is given.
//
// An order is for one process, by its epoch, so that a process that takes the place of a drained
// one serves.
var order = redis.NewScript(clocked + `
local unknown, epochs = {'ok'}, {}
for i = 4, #ARGV do
  local r = record(redis.call('HGET', key, ARGV[i]))
  if r and r.ends > clock then epochs[i] = r.epoch else unknown[#unknown + 1] = ARGV[i] end
end
if #unknown > 1 then return unknown end
for i = 4, #ARGV do
  if ARGV[2] == '0' then
    redis.call('HDEL', key, mark(ARGV[i]))
  elseif redis.call('HLEN', key) >= tonumber(ARGV[3]) then
    return {'full', text(redis.call('HLEN', key))}
  else
    redis.call('HSET', key, mark(ARGV[i]), text(epochs[i]))
  end
end
return unknown
`)

// read returns the clock, the time of Redis, the number of fields that are too long, and field
// and value of each node whose lease has not ended. It removes the others. Its arguments after
// the first: the largest number of fields, the longest value, and the longest field. Values that
// are no records are returned, so that the reader counts them, and stay.
var read = redis.NewScript(clocked + live + `
for i = 1, #ended do redis.call('HDEL', key, ended[i], mark(ended[i])) end
return out
`)

// look is read for a command: it writes nothing, so that an operator sees the servers also while
// Redis is full, or takes no writes.
var look = redis.NewScript(common + live + `return out`)

// live makes the answer of read and look.
const live = `
local fields = redis.call('HLEN', key)
if fields > tonumber(ARGV[2]) then return {'full', text(fields)} end
local all = redis.call('HGETALL', key)
local out, ended, long = {'ok', text(clock), text(now), ''}, {}, 0
for i = 1, #all, 2 do
  local field, v = all[i], all[i + 1]
  if string.find(field, '/', 1, true) then
    local r = record(v)
    if r and r.ends <= clock then
      ended[#ended + 1] = field
    elseif #field > tonumber(ARGV[4]) or #v > tonumber(ARGV[3]) then
      long = long + 1
    else
      out[#out + 1] = field
      out[#out + 1] = v
    end
  end
end
out[4] = text(long)
`

// leave removes the nodes of a process. Its arguments: the random number of the process, and
// the keys of the nodes. A node that another process has registered meanwhile stays.
var leave = redis.NewScript(`
for i = 2, #ARGV do
  local v = redis.call('HGET', KEYS[1], ARGV[i])
  if v and string.match(v, '^%d+ %d+ (%x+) ') == ARGV[1] then
    redis.call('HDEL', KEYS[1], ARGV[i], 'drain:' .. string.gsub(ARGV[i], '/', ':'))
  end
end
return 'ok'
`)
