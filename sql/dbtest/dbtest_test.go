package dbtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestMariaDBDatabasesAreSeparate(t *testing.T) {
	s := MariaDB(t)
	a, b := s.NewDatabase(t), s.NewDatabase(t)
	if a == b {
		t.Fatalf("two databases have one DSN: %s", a)
	}
	db := s.Open(t, a)
	if _, err := db.Exec("CREATE TABLE t (id INT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t, b).Exec("SELECT * FROM t"); err == nil {
		t.Error("a table of one database exists in the other")
	}
	var flush int
	if err := db.QueryRow("SELECT @@innodb_flush_log_at_trx_commit").Scan(&flush); err != nil ||
		flush != 1 {
		t.Errorf("innodb_flush_log_at_trx_commit = %d, %v; benchmarks would be wrong", flush, err)
	}
}

func TestRedisRestartsFromItsSnapshot(t *testing.T) {
	r := Redis(t)
	r.Do("SET a 1")
	r.Save()
	r.Do("SET a 2")
	r.Stop()
	r.Start()
	if got := r.Do("GET a"); got != "1" {
		t.Errorf("after a restart from the snapshot a = %q, want 1", got)
	}
	r.FlushAll()
	if got := r.Do("EXISTS a"); got != "0" {
		t.Errorf("EXISTS a = %s after FLUSHALL", got)
	}
}

func TestRedisClusterRefusesCrossSlot(t *testing.T) {
	r := RedisCluster(t)
	if _, err := r.do("MSET a 1 b 2"); err == nil || !strings.Contains(err.Error(), "CROSSSLOT") {
		t.Errorf("keys of two slots in one command: %v, want CROSSSLOT", err)
	}
}

// TestKilledProcessLeavesNothing runs itself in a child process, kills the child, and
// looks for servers and folders.
func TestKilledProcessLeavesNothing(t *testing.T) {
	if os.Getenv("TEAMTALK_DBTEST_CHILD") != "" {
		s, r := MariaDB(t), Redis(t)
		println("serving", s.proc.pid, s.proc.dir, r.proc.pid, r.proc.dir)
		select {}
	}
	MariaDB(t)
	Redis(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcessLeavesNothing$")
	cmd.Env = append(os.Environ(), "TEAMTALK_DBTEST_CHILD=1")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var word, dir1, dir2 string
	var pid1, pid2 int
	if _, err := fmt.Fscan(out, &word, &pid1, &dir1, &pid2, &dir2); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	p := &process{pid: os.Getpid()}
	for _, pid := range []int{pid1, pid2} {
		if err := p.await(func() error {
			if syscall.Kill(pid, 0) == nil && !zombie(pid) {
				return errStill
			}
			return nil
		}); err != nil {
			t.Errorf("server %d runs after the end of its process: %v", pid, err)
		}
	}
	for _, dir := range []string{dir1, dir2} {
		if err := p.await(func() error {
			if _, err := os.Stat(dir); err == nil {
				return errStill
			}
			return nil
		}); err != nil {
			t.Errorf("folder %s is left: %v", dir, err)
		}
	}
}

var errStill = errors.New("still there")
