# What the scripts here share that start databases and servers of their own. Sourced with dir set to a
# temporary folder, or before prepare, which makes one.

PATH=$PATH:/usr/sbin
port=$((10000 + RANDOM % 15000)) # below those that Linux gives to connections
next() { port=$((port + 1)); }

# prepare [FLAG…] makes the temporary folder dir and goes there, and ends the servers and databases with the
# script. t is the binary to measure; if it is empty, prepare builds one with these flags. It is called at the
# project's top.
prepare() {
	dir=$(mktemp -d)
	pids=() admins=() stores=()
	trap tidy EXIT
	trap 'exit 1' INT TERM HUP
	[ -n "$t" ] || { t=$dir/teamtalk; go build "$@" -o "$t" ./cmd/teamtalk; }
	export TEAMTALK_LOG_LEVEL=warn
	cd "$dir" # for folders of the servers
}

# serve NAME FLAG… starts a server that limits no client, with an admin port of its own. Some scripts define
# another one.
serve() {
	shift
	next
	"$t" serve --admin.listen "127.0.0.1:$port" --msg.rate 0 --msg.ack stored --strangers.rate 0 "$@" >>"$dir/log" 2>&1 &
	pids+=($!)
	admins+=("$port")
}

# synctime prints the time of a sync of a block to the disk of dir, in ms: the mean of 50.
synctime() {
	{ dd if=/dev/zero of="$dir/block" bs=4k count=50 oflag=dsync 2>&1 || true; } |
		awk -F, '/copied/ { printf "%.2f", $(NF - 1) * 1000 / 50 }'
}

# databases starts MariaDB and Redis, and waits for them. It sets mysql and redis to their addresses,
# mariadb and cache to their processes, and store to the flags that name both.
databases() {
	next
	mysql=127.0.0.1:$port
	next
	redis=127.0.0.1:$port
	mkdir "$dir/db"
	mariadb-install-db --no-defaults --datadir="$dir/db" --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1
	mariadbd --no-defaults --user=root --datadir="$dir/db" --socket="$dir/sock" --bind-address=127.0.0.1 --port="${mysql##*:}" \
		>"$dir/mariadb.log" 2>&1 &
	mariadb=$!
	redis-server --port "${redis##*:}" --save '' --dir "$dir" >"$dir/redis.log" 2>&1 &
	cache=$!
	until mariadb --no-defaults --socket="$dir/sock" -u root -e 'create database if not exists teamtalk' 2>/dev/null; do sleep 0.2; done
	store=(--store mysql --mysql.master "root@tcp($mysql)/teamtalk" --redis.addrs "$redis")
}

# populate SHAPE USERS makes the store of a shape, with users, by the binary t. It sets store to the flags
# that name it, and stores to its processes.
populate() {
	rm -rf "$dir/db" "$dir/data"
	store=(--data-dir "$dir/data") stores=()
	if [ "$1" != embedded ]; then
		databases
		stores=("$mariadb" "$cache")
		"$t" migrate --mysql.master "root@tcp($mysql)/teamtalk" >/dev/null
	fi
	"$t" user add --count "$2" --format u%05d --password pw "${store[@]}" >/dev/null 2>&1
}

# tidy ends the servers pids and the databases stores, and removes dir: for the end of a script.
tidy() {
	kill -9 "${pids[@]}" "${stores[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}

# ready waits until the servers are ready: admins are their admin ports, pids their processes.
ready() {
	local i
	for i in "${!admins[@]}"; do
		until [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:${admins[i]}/readyz")" = 200 ]; do
			# Another program may have a port.
			kill -0 "${pids[i]}" 2>/dev/null || { cat "$dir"/*.log >&2; exit 1; }
			sleep 0.1
		done
	done
}

# launch SHAPE FLAG… starts the servers of a shape (five processes, or mysql or embedded: one process)
# by serve. The flags name the store. It sets addr to the address for
# clients.
launch() {
	local shape=$1 i
	shift
	for i in 1 2 3 4 5 6 7; do next; eval "local p$i=127.0.0.1:$port"; done
	addr=$p1
	case $shape in
	embedded | mysql) serve server "$@" --msg.listen "$addr" --file.listen "$p2" --msfs.listen "$p3" --login.client-listen off \
		--login.http-listen "$p4" --http.listen "$p5" ;;
	five)
		serve dbproxy --roles dbproxy "$@" --dbproxy.listen "$p2"
		serve route --roles route --route.listen "$p3"
		serve login --roles login --login.server-listen "$p4" --login.client-listen off --login.http-listen "$p5"
		serve file --roles file --data-dir "$dir/files" --file.listen "$p6" --file.server-listen "$p7" --file.route "$p3" --file.dbproxy "$p2"
		serve msg --roles msg --msg.listen "$addr" --msg.dbproxy "$p2" --msg.route "$p3" --msg.login "$p4" --msg.file "$p7"
		;;
	*) echo "$shape is no shape: want five, mysql or embedded" >&2; exit 1 ;;
	esac
}
