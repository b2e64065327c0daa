package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"teamtalk/core/dbprog"

	"github.com/go-sql-driver/mysql"
)

// Pair is a MariaDB master with a replica, which replicates every database of the master.
type Pair struct {
	Master, Replica *Server
}

// sharedPair is the pair of this process, for the reason of shared.
var sharedPair = sync.OnceValues(startPair)

// Replicated returns this process's master and replica. The first call starts them, which
// takes about a second. Tests that stop the replica or its replication must not run in
// parallel with others. The test is skipped when MariaDB is not installed, and fails with
// CI=true.
func Replicated(tb testing.TB) *Pair {
	tb.Helper()
	if dbprog.Find("mariadbd", "mysqld") == "" ||
		dbprog.Find("mariadb-install-db", "mysql_install_db") == "" {
		missing(tb, "mariadbd")
	}
	p, err := sharedPair()
	if err != nil {
		tb.Fatalf("start a master and a replica: %v", err)
	}
	return p
}

// startPair starts both servers on copies of one data folder.
func startPair() (*Pair, error) {
	seed, err := tempDir("mariadb-seed")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seed)
	if err := installData(filepath.Join(seed, "data")); err != nil {
		return nil, err
	}
	p := &Pair{}
	for i, s := range []**Server{&p.Master, &p.Replica} {
		home, err := tempDir("mariadb")
		if err == nil {
			err = os.CopyFS(home, os.DirFS(seed))
		}
		if err == nil {
			*s, err = startMember(home, i+1)
		}
		if err == nil {
			continue
		}
		os.RemoveAll(home)
		if p.Master != nil {
			p.Master.remove()
		}
		return nil, err
	}
	_, err = p.Replica.admin.Exec(fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', "+
		"MASTER_PORT=%d, MASTER_USER='root', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos",
		p.Master.port))
	if err == nil {
		_, err = p.Replica.admin.Exec("START SLAVE")
	}
	if err != nil {
		p.Master.remove()
		p.Replica.remove()
		return nil, err
	}
	return p, nil
}

// startMember starts a server of a pair. Both write a binary log. The commits need not be
// on the disk, because the machine does not crash.
func startMember(home string, id int) (*Server, error) {
	return startOn(home, append(dataArgs(filepath.Join(home, "data")),
		fmt.Sprintf("--server-id=%d", id), "--log-bin=bin", "--binlog-format=ROW",
		"--log-slave-updates",
		"--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0",
		"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"))
}

// NewDatabase makes an empty database on both servers and returns its DSN on each.
func (p *Pair) NewDatabase(tb testing.TB) (master, replica string) {
	tb.Helper()
	master = p.Master.NewDatabase(tb)
	cfg, err := mysql.ParseDSN(master)
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Addr = p.Replica.Addr()
	return master, cfg.FormatDSN()
}

// Sync waits until the replica has what the master has committed.
func (p *Pair) Sync(tb testing.TB) {
	tb.Helper()
	var position string
	if err := p.Master.admin.QueryRow("SELECT @@GLOBAL.gtid_binlog_pos").
		Scan(&position); err != nil {
		tb.Fatal(err)
	}
	var result sql.NullInt64
	if err := p.Replica.admin.QueryRow("SELECT MASTER_GTID_WAIT(?, ?)", position,
		startTimeout.Seconds()).Scan(&result); err != nil || result.Int64 != 0 || !result.Valid {
		tb.Fatalf("the replica did not reach %s: %v, %v", position, result, err)
	}
}

// Replicate starts or stops the replication. While it is stopped, the replica serves the
// data that it has.
func (p *Pair) Replicate(tb testing.TB, on bool) {
	tb.Helper()
	statement := "STOP SLAVE SQL_THREAD"
	if on {
		statement = "START SLAVE"
	}
	if _, err := p.Replica.admin.Exec(statement); err != nil {
		tb.Fatal(err)
	}
}

// Stop kills the server (SIGKILL). It does nothing when the server is stopped.
func (s *Server) Stop() {
	if s.proc != nil {
		s.proc.stop()
		s.proc = nil
	}
}

// Start starts a stopped server of a pair on the same address, with its data.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	if s.proc != nil {
		return
	}
	if err := s.run(); err != nil {
		tb.Fatalf("restart MariaDB: %v", err)
	}
}

// Freeze stops the process without ending it (SIGSTOP) until Thaw. Its connections stay open
// and are not answered.
func (s *Server) Freeze(tb testing.TB) { s.signal(tb, syscall.SIGSTOP) }

// Thaw continues a process that Freeze has stopped.
func (s *Server) Thaw(tb testing.TB) { s.signal(tb, syscall.SIGCONT) }

func (s *Server) signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := syscall.Kill(s.proc.pid, sig); err != nil {
		tb.Fatal(err)
	}
}

// remove ends a server and removes its folder.
func (s *Server) remove() {
	s.admin.Close()
	s.Stop()
	os.RemoveAll(filepath.Dir(s.socket))
}
