package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Databases are the kinds of the roles that are databases.
var Databases = []string{mariadb, redis}

const mariadb, redis = "mariadb", "redis"

// databases starts MariaDB and Redis, and returns the addresses of the proxies to them.
// Both write to the disk before they answer, as in production. A killed process then loses
// nothing that it answered.
func (s *System) databases(ctx context.Context) (database, cache string, err error) {
	addrs, err := s.ports.reserve(2)
	if err != nil {
		return "", "", err
	}
	s.DSN = dsn(addrs[0])
	if err := s.startMariaDB(ctx, addrs[0]); err != nil {
		return "", "", err
	}
	if err := s.startRedis(ctx, addrs[1]); err != nil {
		return "", "", err
	}
	if database, err = s.link(mariadb, addrs[0]); err != nil {
		return "", "", err
	}
	cache, err = s.link(redis, addrs[1])
	return database, cache, err
}

// dsn returns the data source name of the database at an address.
func dsn(addr string) string { return "root@tcp(" + addr + ")/teamtalk" }

// startMariaDB makes a data folder with an empty database, and starts MariaDB on it.
func (s *System) startMariaDB(ctx context.Context, addr string) error {
	server, install := find("mariadbd", "mysqld"), find("mariadb-install-db", "mysql_install_db")
	if server == "" || install == "" {
		return errors.New("MariaDB is not installed (Debian: apt-get install mariadb-server)")
	}
	home := filepath.Join(s.opts.Dir, mariadb)
	data := []string{"--no-defaults", "--datadir=" + filepath.Join(home, "data")}
	if os.Geteuid() == 0 {
		data = append(data, "--user=root")
	}
	script := filepath.Join(home, "init.sql")
	err := os.Mkdir(home, 0o700)
	if err == nil {
		err = os.WriteFile(script, []byte("CREATE DATABASE IF NOT EXISTS teamtalk "+
			"CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;\n"), 0o600)
	}
	if err == nil {
		err = runProgram(ctx, home, install, append(data, "--skip-test-db", "--skip-name-resolve",
			"--auth-root-authentication-method=normal")...)
	}
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return s.add(ctx, &Role{Kind: mariadb, Name: mariadb, program: server, dir: s.opts.Dir,
		args: append(data, "--socket="+filepath.Join(home, "sock"),
			"--bind-address=127.0.0.1", "--port="+port, "--pid-file="+filepath.Join(home, "pid"),
			"--init-file="+script, "--skip-log-bin", "--skip-name-resolve",
			"--max-connections=500", "--max-connect-errors=1000000",
			"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M",
			"--innodb-log-file-size=32M", "--performance-schema=OFF"),
		ready: func(ctx context.Context) error { return greeted(ctx, addr) }})
}

// startRedis starts Redis with an append-only file.
func (s *System) startRedis(ctx context.Context, addr string) error {
	server := find("redis-server", "valkey-server")
	if server == "" {
		return errors.New("redis is not installed (Debian: apt-get install redis-server)")
	}
	home := filepath.Join(s.opts.Dir, redis)
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return s.add(ctx, &Role{Kind: redis, Name: redis, program: server, dir: s.opts.Dir,
		args: []string{"--bind", "127.0.0.1", "--port", port, "--dir", home, "--save", "",
			"--appendonly", "yes", "--appendfsync", "everysec"},
		ready: func(ctx context.Context) error { return pinged(ctx, addr) }})
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

// pinged returns nil when a Redis has loaded its data and answers.
func pinged(ctx context.Context, addr string) error {
	c, err := probe(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+PONG") {
		err = fmt.Errorf("redis answers %q", line)
	}
	return err
}

// find returns the path of the first program that is installed. Debian keeps servers in
// sbin, which PATH may lack.
func find(programs ...string) string {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec"} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}
