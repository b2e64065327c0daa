#!/bin/sh
# Redis: in a Lua script, different numbers of 15 digits may give the same text, so the same key.
#
# Versions: Redis 7.0.15 of Debian 12.
# Situation: a script takes the next id of a message from INCR and stores its text under
#   'message:' .. id. Ids are counted from microseconds since 1970, so they have 16 digits.
# Expected: numbers of Lua are doubles, which hold each integer up to 2^53 (9007199254740992), and
#   Redis passes such a number on without loss. So 'message:' .. id has all digits of a smaller id.
# Seen: .. writes 14 significant digits, 1.7985312e+15. Messages with neighbouring ids have
#   one key, and the second replaces the first without an error. cjson.encode writes numbers in the
#   same way, so a script that decodes a message and encodes it again changes its id. The same id
#   as an argument of redis.call or as the result of the script is exact.
# Way out: string.format('%.0f', id) in keys, and ids as strings in JSON.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='key of .. from id 1798531200000001: message:1.7985312e+15
key of .. from id 1798531200000002: message:1.7985312e+15
messages stored by 2 calls: 1
text under the key of the first: second
cjson, there and back: {"id":1.7985312e+15}
argument of SET: 1798531200000001
result of the script: 1798531200000001
keys with string.format, by 2 calls: message:1798531200000001 message:1798531200000002'

for program in redis-server redis-cli; do
	command -v $program >/dev/null || { echo "needs $program 7.0.15" >&2; exit 2; }
done
redis-server --version | grep -q 'v=7\.0\.15 ' || { echo "needs Redis 7.0.15" >&2; exit 2; }
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait; rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

redis-server --port 0 --unixsocket "$tmp/socket" --save '' --dir "$tmp" >log 2>&1 &
pid=$!
ask() { redis-cli --raw -s "$tmp/socket" "$@"; }
for _ in $(seq 600); do
	[ "$(ask PING 2>/dev/null)" = PONG ] && break
	sleep 0.1
done
[ "$(ask PING 2>/dev/null)" = PONG ] || { cat log >&2; exit 2; }

store="local id = redis.call('INCR', KEYS[1])
	redis.call('SET', 'message:' .. id, ARGV[1])
	return 'message:' .. id"
exact="local key = string.format('message:%.0f', redis.call('INCR', KEYS[1]))
	redis.call('SET', key, ARGV[1])
	return key"
got=$(
	ask SET id 1798531200000000 >/dev/null
	first=$(ask EVAL "$store" 1 id first)
	printf 'key of .. from id %s: %s\n' "$(ask GET id)" "$first"
	second=$(ask EVAL "$store" 1 id second)
	printf 'key of .. from id %s: %s\n' "$(ask GET id)" "$second"
	printf 'messages stored by 2 calls: %s\n' "$(ask KEYS 'message:*' | grep -c .)"
	printf 'text under the key of the first: %s\n' "$(ask GET "$first")"
	printf 'cjson, there and back: %s\n' \
		"$(ask EVAL 'return cjson.encode(cjson.decode(ARGV[1]))' 0 '{"id":1798531200000001}')"
	ask EVAL "redis.call('SET', KEYS[1], tonumber(ARGV[1]))" 1 copy 1798531200000001 >/dev/null
	printf 'argument of SET: %s\n' "$(ask GET copy)"
	printf 'result of the script: %s\n' "$(ask EVAL 'return tonumber(ARGV[1])' 0 1798531200000001)"
	ask SET id 1798531200000000 >/dev/null
	printf 'keys with string.format, by 2 calls: %s %s\n' \
		"$(ask EVAL "$exact" 1 id first)" "$(ask EVAL "$exact" 1 id second)"
)
printf '\nThis run: %s\n%s\n' "$(redis-server --version)" "$got"
[ "$got" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
