# What the scripts here share that start databases and servers of their own. Sourced with dir set to a
# temporary folder.

PATH=$PATH:/usr/sbin
port=$((10000 + RANDOM % 15000)) # below those that Linux gives to connections
next() { port=$((port + 1)); }

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
