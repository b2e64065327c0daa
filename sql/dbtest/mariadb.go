package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"teamtalk/core/dbprog"

	"github.com/go-sql-driver/mysql"
)

// Server is a MariaDB server for tests, which starts empty.
type Server struct {
	proc   *process
	socket string
	port   int
	args   []string      // of a server that can be started again
	last   atomic.Uint64 // number of the last database
	admin  *sql.DB
	// Certificates are those of the server, with which clients may use TLS.
	Certificates Certificates
}

// shared is the MariaDB of this process. A start takes almost a second and 100 MB, so all
// tests of a process share a server, each with a database of its own. Only a package
// variable is reachable for all of them.
var shared = sync.OnceValues(startMariaDB)

// MariaDB returns this process's MariaDB server. The first call starts it. The test is
// skipped when MariaDB is not installed, and fails with CI=true.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	if dbprog.Find("mariadbd", "mysqld") == "" ||
		dbprog.Find("mariadb-install-db", "mysql_install_db") == "" {
		missing(tb, "mariadbd")
	}
	s, err := shared()
	if err != nil {
		tb.Fatalf("start MariaDB: %v", err)
	}
	return s
}

// NewDatabase makes an empty database (utf8mb4) and returns its DSN for
// github.com/go-sql-driver/mysql, over TCP. It is dropped at the end of the test.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("teamtalk_%d", s.last.Add(1))
	if _, err := s.admin.Exec("CREATE DATABASE " + name +
		" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		if _, err := s.admin.Exec("DROP DATABASE IF EXISTS " + name); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	cfg := mysql.NewConfig()
	cfg.User = "root"
	cfg.Net = "tcp"
	cfg.Addr = s.Addr()
	cfg.DBName = name
	return cfg.FormatDSN()
}

// Addr returns the server's TCP address. The user is root, without a password.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Open opens a DSN of this server for a test's own queries. It is closed at the end of
// the test.
func (s *Server) Open(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		tb.Fatalf("open %s: %v", dsn, err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

// Admin returns a connection pool without a database, for the whole server: process
// lists, killing connections, global settings.
func (s *Server) Admin() *sql.DB { return s.admin }

// startMariaDB makes a data folder and starts a server on it.
func startMariaDB() (*Server, error) {
	dir, err := tempDir("mariadb")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := installData(data); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	c, err := makeCertificates(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s, err := startOn(dir, append(dataArgs(data), "--skip-log-bin", "--ssl-ca="+c.CA,
		"--ssl-cert="+c.Server, "--ssl-key="+c.ServerKey,
		"--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=128M"))
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s.Certificates = c
	return s, nil
}

// dataArgs returns the arguments of a server that name its data folder, and the folder for
// its temporary tables: a server that starts removes all of those, and would remove those of
// the other servers in a folder that they share.
func dataArgs(data string) []string {
	args := []string{"--no-defaults", "--datadir=" + data, "--tmpdir=" + filepath.Dir(data)}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	return args
}

// installData makes a data folder with the system tables, and with root without a
// password.
func installData(data string) error {
	return run(dbprog.Find("mariadb-install-db", "mysql_install_db"), append(dataArgs(data),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")...)
}

// startOn starts a server on an installed data folder in dir.
func startOn(dir string, args []string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, socket: filepath.Join(dir, "sock"), args: args}
	if err := s.connect(); err != nil {
		return nil, err
	}
	if err := s.run(); err != nil {
		s.admin.Close()
		return nil, err
	}
	return s, nil
}

// run starts the server and waits until it answers.
func (s *Server) run() error {
	dir := filepath.Dir(s.socket)
	proc, err := start(dir, dbprog.Find("mariadbd", "mysqld"), append(s.args,
		"--socket="+s.socket, "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.port),
		"--pid-file="+filepath.Join(dir, "pid"),
		"--skip-name-resolve", "--max-connections=500", "--performance-schema=OFF")...)
	if err != nil {
		return err
	}
	if err := proc.await(s.answers); err != nil {
		proc.stop()
		return err
	}
	s.proc = proc
	return nil
}
