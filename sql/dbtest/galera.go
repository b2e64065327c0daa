package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/dbprog"

	"github.com/go-sql-driver/mysql"
)

// Cluster is a Galera cluster of MariaDB servers, which starts empty. Every node accepts
// writes.
type Cluster struct {
	Nodes []*Server
}

// galeraNodes is the number of nodes of a cluster: the smallest number with a quorum after
// the loss of one node.
const galeraNodes = 3

// sharedCluster is the cluster of this process, for the reason of shared.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	return startGalera(dbprog.GaleraLibrary())
})

// Galera returns this process's cluster of three nodes. The first call starts it, which
// takes several seconds. The test is skipped when MariaDB or its Galera library is not
// installed, and fails with CI=true.
func Galera(tb testing.TB) *Cluster {
	tb.Helper()
	if dbprog.GaleraLibrary() == "" || dbprog.Find("mariadbd") == "" ||
		dbprog.Find("mariadb-install-db") == "" {
		missing(tb, "MariaDB with Galera (the package galera-4)")
	}
	c, err := sharedCluster()
	if err != nil {
		tb.Fatalf("start Galera: %v", err)
	}
	return c
}

// startGalera starts all nodes and waits until they form a cluster. All begin with copies
// of one data folder that was a cluster of one node, so a joiner needs the few later
// changes and no snapshot.
func startGalera(library string) (*Cluster, error) {
	var peers []string // addresses of the group communication
	for range galeraNodes {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		peers = append(peers, fmt.Sprintf("127.0.0.1:%d", port))
	}
	seed, err := tempDir("galera-seed")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(seed)
	if err := seedData(library, seed, peers[0]); err != nil {
		return nil, err
	}
	c := &Cluster{}
	for i, peer := range peers {
		home, err := tempDir("galera")
		if err != nil {
			c.stop()
			return nil, err
		}
		if err = os.CopyFS(home, os.DirFS(seed)); err == nil {
			err = c.add(library, home, peer, peers)
		}
		if err != nil {
			c.stop()
			os.RemoveAll(home)
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
	}
	return c, nil
}

// add starts a node and waits until it serves in the cluster.
func (c *Cluster) add(library, home, peer string, peers []string) error {
	s, err := startNode(library, home, peer, peers, len(c.Nodes) == 0)
	if err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, s)
	return s.proc.await(func() error { return s.joined(len(c.Nodes)) })
}

// seedData makes the folder of a node that was a cluster of its own and has ended: its
// data, and the file "position" with the state of the data.
func seedData(library, home, peer string) error {
	data := filepath.Join(home, "data")
	if err := installData(data); err != nil {
		return err
	}
	s, err := startNode(library, home, peer, nil, true)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	defer s.admin.Close()
	if err := s.proc.await(func() error { return s.joined(1) }); err != nil {
		return err
	}
	if _, err := s.admin.Exec("SHUTDOWN"); err != nil {
		return err
	}
	for !zombie(s.proc.pid) && s.proc.alive() {
		time.Sleep(5 * time.Millisecond) // polls another process, which sends no event
	}
	at, err := dbprog.EndPosition(home)
	if err != nil {
		return fmt.Errorf("%w: %s", err, s.proc.log())
	}
	return at.Save(home)
}

// startNode starts a node in a folder. The first node begins a cluster, the others join
// it.
func startNode(library, home, peer string, peers []string, first bool) (*Server, error) {
	if err := dbprog.WriteSnapshotScript(home); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	ist, err := freePort()
	if err != nil {
		return nil, err
	}
	_, group, err := net.SplitHostPort(peer)
	if err != nil {
		return nil, err
	}
	s := &Server{port: port, socket: filepath.Join(home, "sock")}
	args := append(dataArgs(filepath.Join(home, "data")),
		"--socket="+s.socket, "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", port),
		"--pid-file="+filepath.Join(home, "pid"), "--skip-name-resolve",
		"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--performance-schema=OFF",
		"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
		"--innodb-flush-log-at-trx-commit=2", // the cluster replicates; the machine does not crash
		"--wsrep-on=ON", "--wsrep-provider="+library, "--wsrep-cluster-name=teamtalk",
		"--wsrep-sst-method="+dbprog.SnapshotMethod, "--wsrep-node-name="+filepath.Base(home),
		"--wsrep-node-address=127.0.0.1", "--wsrep-slave-threads=2",
		"--wsrep-cluster-address=gcomm://"+strings.Join(peers, ","),
		fmt.Sprintf("--wsrep-provider-options=gmcast.listen_addr=tcp://%s;"+
			"base_port=%s;ist.recv_addr=127.0.0.1:%d;gcache.size=16M", peer, group, ist))
	if first {
		args = append(args, "--wsrep-new-cluster")
	}
	if s.proc, err = start(home, dbprog.Find("mariadbd"), args...); err != nil {
		return nil, err
	}
	if err := s.connect(); err != nil {
		s.proc.stop()
		return nil, err
	}
	return s, nil
}

// errJoining means that a node is not a member of its cluster yet.
var errJoining = errors.New("the node has not joined its cluster")

// joined returns nil when a node serves in a cluster of a size.
func (s *Server) joined(size int) error {
	var name, ready string
	var have int
	if err := s.admin.QueryRow("SHOW STATUS LIKE 'wsrep_ready'").Scan(&name, &ready); err != nil {
		return err
	}
	if err := s.admin.QueryRow("SHOW STATUS LIKE 'wsrep_cluster_size'").Scan(&name,
		&have); err != nil {
		return err
	}
	if ready != "ON" || have != size {
		return errJoining
	}
	return nil
}

// NewDatabase makes an empty database on all nodes and returns its DSN on each node.
func (c *Cluster) NewDatabase(tb testing.TB) []string {
	tb.Helper()
	var dsns []string
	for i, s := range c.Nodes {
		if i == 0 {
			dsns = append(dsns, s.NewDatabase(tb))
			continue
		}
		cfg, err := mysql.ParseDSN(dsns[0])
		if err != nil {
			tb.Fatal(err)
		}
		cfg.Addr = s.Addr()
		dsns = append(dsns, cfg.FormatDSN())
	}
	return dsns
}

// stop stops all nodes and removes their folders.
func (c *Cluster) stop() {
	for _, s := range c.Nodes {
		s.admin.Close()
		s.proc.stop()
		os.RemoveAll(s.proc.dir)
	}
}

// connect opens the pool for Admin, over the server's socket.
func (s *Server) connect() error {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "unix", s.socket
	cfg.Logger = &mysql.NopLogger{} // the server refuses connections while it starts
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	s.admin = sql.OpenDB(connector)
	return nil
}

// answers returns nil when the server answers.
func (s *Server) answers() error { return s.admin.PingContext(context.Background()) }

// zombie reports whether a process has ended and its parent has not waited for it yet.
// Linux only.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}
