package dbtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"teamtalk/core/dbprog"
	"teamtalk/core/porttest"
)

// RedisServer is the Redis server of a test. Its address stays the same when it is
// stopped and started again.
type RedisServer struct {
	tb      testing.TB
	dir     string
	port    int
	tls     int // port with TLS; 0: none
	cluster bool
	options []string // further options of the program
	watch   string   // of a Sentinel: its configuration
	proc    *process // nil while stopped
}

// Redis starts an empty Redis server and stops it at the end of the test. It writes
// nothing to the disk except by Save. The test is skipped when Redis is not installed,
// and fails with CI=true.
func Redis(tb testing.TB) *RedisServer {
	tb.Helper()
	return newRedis(tb, false)
}

// RedisCluster starts a Redis Cluster of one node with all slots. Commands on keys of
// different slots fail there, as they do on a larger cluster.
func RedisCluster(tb testing.TB) *RedisServer {
	tb.Helper()
	r := newRedis(tb, true)
	r.Do("CLUSTER ADDSLOTSRANGE 0 16383")
	deadline := time.Now().Add(startTimeout)
	for !strings.Contains(r.Do("CLUSTER INFO"), "cluster_state:ok") {
		if time.Now().After(deadline) {
			tb.Fatal("the Redis Cluster did not become ready")
		}
		time.Sleep(10 * time.Millisecond) // polls another process, which sends no event
	}
	return r
}

// newRedis makes a folder and starts a server in it.
func newRedis(tb testing.TB, cluster bool, options ...string) *RedisServer {
	tb.Helper()
	if dbprog.Find("redis-server", "valkey-server") == "" {
		missing(tb, "redis-server")
	}
	dir, err := tempDir("redis")
	if err != nil {
		tb.Fatal(err)
	}
	r := &RedisServer{tb: tb, dir: dir, cluster: cluster, options: options}
	r.begin()
	return r
}

// begin starts a new server on a port that is reserved for it until the end of the test.
func (r *RedisServer) begin() {
	r.tb.Helper()
	var release func()
	var err error
	if r.port, release, err = reserve(r.cluster); err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() {
		r.Stop()
		release()
		os.RemoveAll(r.dir)
	})
	if err := r.start(); err != nil {
		r.tb.Fatalf("start Redis: %v", err)
	}
}

// busOffset is the distance from a cluster node's port to the port of its bus.
const busOffset = 10000

// reserve reserves a port for a server, and for a cluster's node that of its bus.
func reserve(cluster bool) (int, func(), error) {
	for {
		port, release, err := porttest.Hold(0)
		if err != nil || !cluster {
			return port, release, err
		}
		if port+busOffset > 1<<16-1 {
			defer release() // after another port was found
			continue
		}
		_, releaseBus, err := porttest.Hold(port + busOffset)
		if errors.Is(err, syscall.EADDRINUSE) {
			defer release()
			continue
		}
		return port, func() { release(); releaseBus() }, err
	}
}

// start starts a server on the port and waits until it answers.
func (r *RedisServer) start() error {
	args := []string{"--port", fmt.Sprint(r.port), "--bind", "127.0.0.1", "--dir", r.dir, "--save",
		"", "--appendonly", "no"}
	if r.cluster {
		args = append(args, "--cluster-enabled", "yes")
	}
	args = append(args, r.options...)
	if r.watch != "" {
		file := filepath.Join(r.dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(r.watch), 0o600); err != nil {
			return err
		}
		args = []string{file, "--sentinel", "--port", fmt.Sprint(r.port), "--bind", "127.0.0.1",
			"--dir", r.dir}
	}
	proc, err := start(r.dir, dbprog.Find("redis-server", "valkey-server"), args...)
	if err != nil {
		return err
	}
	err = proc.await(func() error {
		_, err := r.do("INFO server")
		return err
	})
	if err != nil {
		proc.stop()
		return err
	}
	r.proc = proc
	return nil
}

// Addr returns the server's TCP address. There is no password.
func (r *RedisServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// peer returns the port at which other servers reach this one.
func (r *RedisServer) peer() int {
	if r.tls != 0 {
		return r.tls
	}
	return r.port
}

// Stop kills the server (SIGKILL). Data that was not saved is lost. It does nothing when
// the server is stopped.
func (r *RedisServer) Stop() {
	if r.proc != nil {
		r.proc.stop()
		r.proc = nil
	}
}

// Start starts a stopped server on the same address, with the data of the last Save.
func (r *RedisServer) Start() {
	r.tb.Helper()
	if r.proc != nil {
		return
	}
	if err := r.start(); err != nil {
		r.tb.Fatalf("restart Redis: %v", err)
	}
}

// Save writes a snapshot to the disk, which Start loads.
func (r *RedisServer) Save() { r.Do("SAVE") }

// FlushAll removes all keys, as an operator's FLUSHALL does. Connections stay open.
func (r *RedisServer) FlushAll() { r.Do("FLUSHALL") }

// Detach ends the replication from master to r, a replica of it. What master writes from now
// on is lost when r takes its place. r stays a replica, and asks its master in vain.
func (r *RedisServer) Detach(master *RedisServer) {
	r.tb.Helper()
	r.Do("CONFIG SET masteruser nobody masterauth nothing")
	master.Do("CLIENT KILL TYPE replica")
	deadline := time.Now().Add(startTimeout)
	for !strings.Contains(replication(r), "master_link_status:down") {
		if time.Now().After(deadline) {
			r.tb.Fatal("the replica still follows its master")
		}
		time.Sleep(10 * time.Millisecond) // polls another process, which sends no event
	}
}

// Do sends one command, whose words are separated by spaces, and returns the answer as
// text.
func (r *RedisServer) Do(command string) string {
	r.tb.Helper()
	out, err := r.do(command)
	if err != nil {
		r.tb.Fatalf("redis %s: %v", command, err)
	}
	return out
}

// do sends an inline command over a new connection. This package needs no client library,
// and a client's pool would hide restarts.
func (r *RedisServer) do(command string) (string, error) {
	c, err := net.DialTimeout("tcp", r.Addr(), startTimeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(startTimeout))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	var n int
	switch line[0] {
	case '-':
		return "", fmt.Errorf("%s", strings.TrimSpace(line[1:]))
	case '$':
		if _, err := fmt.Sscanf(line, "$%d", &n); err != nil || n < 0 {
			return "", err
		}
		body := make([]byte, n+2)
		for read := 0; read < len(body); {
			k, err := in.Read(body[read:])
			if err != nil {
				return "", err
			}
			read += k
		}
		return string(body[:n]), nil
	}
	return strings.TrimSpace(line[1:]), nil
}
