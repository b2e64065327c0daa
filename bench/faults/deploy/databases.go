package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"teamtalk/core/dbprog"
)

// Databases are the kinds of the roles that are databases, or watch them.
var Databases = []string{mariadb, replica, redis, sentinel}

const mariadb, replica, redis, sentinel = "mariadb", "replica", "redis", "sentinel"

// databases starts the databases, and returns the settings of each dbproxy, which lead to
// them through proxies where these are possible. MariaDB writes to the disk before it
// answers. Redis does so unless a sync takes long, as in production.
func (s *System) databases(ctx context.Context) (dbproxies [][]string, err error) {
	if dbproxies, err = s.mysql(ctx); err != nil {
		return nil, err
	}
	cache, err := s.cache(ctx)
	if err != nil {
		return nil, err
	}
	s.redis = cache
	for i := range dbproxies {
		dbproxies[i] = append(dbproxies[i], cache...)
	}
	return dbproxies, nil
}

// mysql starts MariaDB, and returns the settings of each dbproxy.
func (s *System) mysql(ctx context.Context) (dbproxies [][]string, err error) {
	addrs, err := s.ports.reserve(2)
	if err != nil {
		return nil, err
	}
	switch s.opts.Kind {
	case Galera:
		return s.mysqlGalera(ctx)
	case Replica:
		err = s.startReplicated(ctx, addrs)
	default:
		err = s.startMariaDB(ctx, addrs[0])
	}
	if err != nil {
		return nil, err
	}
	s.DSN = dsn(addrs[0])
	s.migrate = []string{s.DSN}
	front, err := s.link(mariadb, addrs[0])
	if err != nil {
		return nil, err
	}
	dbproxies = [][]string{{"--mysql.master", dsn(front)}}
	if s.opts.Kind == Replica {
		front, err := s.link(replica, addrs[1])
		if err != nil {
			return nil, err
		}
		dbproxies[0] = append(dbproxies[0], "--mysql.slave", dsn(front))
		dbproxies = append(dbproxies, slices.Clone(dbproxies[0])) // reads meet writes of the other
	}
	return dbproxies, nil
}

// mysqlGalera starts a Galera cluster, and returns the settings of each dbproxy.
func (s *System) mysqlGalera(ctx context.Context) (dbproxies [][]string, err error) {
	direct, err := s.startGalera(ctx)
	if err != nil {
		return nil, err
	}
	// A read on one node then waits for the commits of the others. A dbproxy starts only
	// when its node has the tables.
	const synced = "?wsrep_sync_wait=15"
	s.DSN = dsn(direct[len(direct)-1]) + synced
	for _, addr := range slices.Backward(direct) {
		s.migrate = append(s.migrate, dsn(addr)+synced)
	}
	for _, addr := range direct[:len(direct)-1] {
		front, err := s.link(mariadb, addr)
		if err != nil {
			return nil, err
		}
		dbproxies = append(dbproxies, []string{"--mysql.master", dsn(front)})
	}
	return dbproxies, nil
}

// cache starts Redis, and returns the settings of the servers that use it.
func (s *System) cache(ctx context.Context) ([]string, error) {
	switch s.opts.Redis {
	case RedisCluster:
		addrs, err := s.startCluster(ctx)
		return []string{"--redis.addrs", addrs}, err
	case RedisSentinels:
		return s.startSentinels(ctx)
	}
	addrs, err := s.ports.reserve(1)
	if err != nil {
		return nil, err
	}
	if err := s.startRedis(ctx, addrs[0]); err != nil {
		return nil, err
	}
	front, err := s.link(redis, addrs[0])
	return []string{"--redis.addrs", front}, err
}

// dsn returns the data source name of the database at an address.
func dsn(addr string) string { return "root@tcp(" + addr + ")/teamtalk" }

// errNoMariaDB is returned where MariaDB is not installed.
var errNoMariaDB = errors.New("MariaDB is not installed (Debian: apt-get install mariadb-server)")

// mariadbd is a MariaDB server before its start.
type mariadbd struct {
	program string
	home    string
	data    []string // arguments that name the data folder
	args    []string
}

// newMariaDB makes a folder with the data folder of an empty database, for a server at an
// address.
func (s *System) newMariaDB(ctx context.Context, name, addr string) (*mariadbd, error) {
	server := dbprog.Find("mariadbd", "mysqld")
	install := dbprog.Find("mariadb-install-db", "mysql_install_db")
	if server == "" || install == "" {
		return nil, errNoMariaDB
	}
	m, err := s.describeMariaDB(server, name, addr)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(m.home, 0o700); err != nil {
		return nil, err
	}
	return m, runProgram(ctx, m.home, install, append(slices.Clone(m.data), "--skip-test-db",
		"--skip-name-resolve", "--auth-root-authentication-method=normal")...)
}

// describeMariaDB returns the arguments of a server.
func (s *System) describeMariaDB(program, name, addr string) (*mariadbd, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	script := filepath.Join(s.opts.Dir, "init.sql")
	err = os.WriteFile(script, []byte("CREATE DATABASE IF NOT EXISTS teamtalk "+
		"CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;\n"), 0o600)
	m := &mariadbd{program: program, home: filepath.Join(s.storeDir(), name)}
	// A server that starts removes all temporary tables from their folder, so each has its own.
	m.data = []string{"--no-defaults", "--datadir=" + filepath.Join(m.home, "data"),
		"--tmpdir=" + m.home}
	if os.Geteuid() == 0 {
		m.data = append(m.data, "--user=root")
	}
	m.args = append(slices.Clone(m.data), "--socket="+filepath.Join(m.home, "sock"),
		"--bind-address=127.0.0.1", "--port="+port, "--pid-file="+filepath.Join(m.home, "pid"),
		"--init-file="+script, "--skip-name-resolve",
		"--max-connections=500", "--max-connect-errors=1000000",
		"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M",
		"--innodb-log-file-size=32M", "--performance-schema=OFF")
	return m, err
}

// startMariaDB starts a MariaDB with an empty database.
func (s *System) startMariaDB(ctx context.Context, addr string) error {
	m, err := s.newMariaDB(ctx, mariadb, addr)
	if err != nil {
		return err
	}
	return s.add(ctx, &Role{Kind: mariadb, Name: mariadb, program: m.program, dir: s.opts.Dir,
		args:  append(m.args, "--skip-log-bin"),
		ready: func(ctx context.Context) error { return greeted(ctx, addr) }})
}

// probeTimeout bounds a question to a database.
const probeTimeout = 2 * time.Second

// probe connects to a database that is asked whether it is ready.
func probe(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: probeTimeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(probeTimeout))
}

// greeted returns nil when a MariaDB greets a client: it then accepts logins.
func greeted(ctx context.Context, addr string) error {
	c, err := probe(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	greeting := make([]byte, 5) // the length in three bytes, a number, the protocol's version
	if _, err := io.ReadFull(c, greeting); err != nil {
		return err
	}
	if greeting[4] != 10 {
		return fmt.Errorf("the database greets with %d", greeting[4])
	}
	return nil
}
