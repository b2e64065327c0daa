package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"teamtalk/core/dbprog"
)

// Databases are the kinds of the roles that are databases.
var Databases = []string{mariadb, redis}

const mariadb, redis = "mariadb", "redis"

// databases starts the databases, and returns the addresses of the proxies to them: a
// database for each dbproxy, and Redis. All write to the disk before they answer, as in
// production. A killed process then loses nothing that it answered.
func (s *System) databases(ctx context.Context) (databases []string, cache string, err error) {
	addrs, err := s.ports.reserve(2)
	if err != nil {
		return nil, "", err
	}
	direct := addrs[:1]
	if s.opts.Kind == Galera {
		direct, err = s.startGalera(ctx)
	} else {
		err = s.startMariaDB(ctx, addrs[0])
	}
	if err != nil {
		return nil, "", err
	}
	s.DSN = dsn(direct[len(direct)-1])
	if s.opts.Kind == Galera {
		// A read on one node then waits for the commits of the others. A dbproxy starts only
		// when its node has the tables.
		const synced = "?wsrep_sync_wait=15"
		s.DSN += synced
		for _, addr := range direct {
			s.migrate = append(s.migrate, dsn(addr)+synced)
		}
		slices.Reverse(s.migrate)
	} else {
		s.migrate = []string{s.DSN}
	}
	for _, addr := range direct[:max(1, len(direct)-1)] {
		front, err := s.link(mariadb, addr)
		if err != nil {
			return nil, "", err
		}
		databases = append(databases, front)
	}
	if s.opts.Kind == Cluster {
		cache, err = s.startCluster(ctx)
		return databases, cache, err
	}
	if err := s.startRedis(ctx, addrs[1]); err != nil {
		return nil, "", err
	}
	cache, err = s.link(redis, addrs[1])
	return databases, cache, err
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
	m := &mariadbd{program: program, home: filepath.Join(s.opts.Dir, name)}
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

// startRedis starts Redis.
func (s *System) startRedis(ctx context.Context, addr string) error {
	return s.addRedis(ctx, redis, addr, func(ctx context.Context) error {
		return redisAnswers(ctx, addr, "PING", "+PONG")
	})
}

// addRedis starts a Redis with an append-only file.
func (s *System) addRedis(ctx context.Context, name, addr string,
	ready func(context.Context) error, args ...string) error {
	server := dbprog.Find("redis-server", "valkey-server")
	if server == "" {
		return errNoRedis
	}
	home := filepath.Join(s.opts.Dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return s.add(ctx, &Role{Kind: redis, Name: name, program: server, dir: s.opts.Dir,
		args: append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", home, "--save", "",
			"--appendonly", "yes", "--appendfsync", "everysec"}, args...), ready: ready})
}

// errNoRedis is returned where Redis is not installed.
var errNoRedis = errors.New("redis is not installed (Debian: apt-get install redis-server)")

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

// redisAnswers returns nil when the answer of a Redis to a command begins with a text, or
// holds it in its second line, which is the first of a bulk string.
func redisAnswers(ctx context.Context, addr, command, want string) error {
	c, err := probe(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "$") {
		line, err = in.ReadString('\n')
	}
	if err == nil && !strings.HasPrefix(line, want) {
		err = fmt.Errorf("redis answers %q", line)
	}
	return err
}
