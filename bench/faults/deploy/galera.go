package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"teamtalk/core/dbprog"
)

// galeraNodes is the number of nodes of a cluster: the smallest number with a quorum after
// the loss of one node.
const galeraNodes = 3

// galeraNode is a node of a Galera cluster before its start.
type galeraNode struct {
	*mariadbd
	name, addr string
	peer, ist  string // addresses of the group communication and of the transfer of changes
}

// startGalera starts a cluster and returns the addresses of its nodes. All nodes begin
// with copies of one data folder, so a joiner needs the changes that it has missed and no
// snapshot.
func (s *System) startGalera(ctx context.Context) (addrs []string, err error) {
	library := dbprog.GaleraLibrary()
	if library == "" {
		return nil, errors.New("no library of Galera found (Debian: apt-get install galera-4)")
	}
	if s.client = dbprog.Find("mariadb", "mysql"); s.client == "" {
		return nil, errNoClient
	}
	ports, err := s.ports.reserve(3 * galeraNodes)
	if err != nil {
		return nil, err
	}
	addrs, peers := ports[:galeraNodes], ports[galeraNodes:2*galeraNodes]
	ist := ports[2*galeraNodes:]
	var nodes []*galeraNode
	for i := range galeraNodes {
		n := &galeraNode{name: fmt.Sprint("galera", i+1), addr: addrs[i], peer: peers[i],
			ist: ist[i]}
		if i == 0 {
			n.mariadbd, err = s.newMariaDB(ctx, n.name, n.addr)
		} else {
			n.mariadbd, err = s.describeMariaDB(nodes[0].program, n.name, n.addr)
		}
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	if err := s.seed(ctx, nodes, library); err != nil {
		return nil, err
	}
	for i, n := range nodes {
		r := s.galeraRole(n, library, peers)
		if i == 0 {
			r.first = []string{"--wsrep-new-cluster"}
		}
		if err := s.add(ctx, r); err != nil {
			return nil, err
		}
	}
	return addrs, s.onServer(ctx, nodes[0].home, "CREATE DATABASE faults; "+
		"CREATE TABLE faults.probe (node VARCHAR(10) PRIMARY KEY, writes INT UNSIGNED)")
}

// WatchOthers writes to the other nodes of a killed one until that one commits writes, too.
// It calls serve with false when they have not done so for stallTime, and with true when they
// do again. They commit nothing for at least the 5 s after which they count the killed node
// as lost (evs.suspect_timeout), and again for up to 11 s when it starts and meets them while
// they agree on that. WatchOthers does nothing unless the role is a node of a Galera cluster.
func (s *System) WatchOthers(ctx context.Context, killed *Role, serve func(bool)) error {
	if s.opts.Kind != Galera || killed.Kind != mariadb {
		return nil
	}
	for first := true; ; first = false {
		done := make(chan error, 1)
		go func() { done <- writeTo(ctx, s, killed) }()
		stalls := false
		var err error
		select {
		case err = <-done:
		case <-time.After(stallTime):
			stalls = true
			serve(false)
			err = <-done
		}
		if err != nil {
			return err
		}
		if first || stalls {
			serve(true)
		}
		if s.onServer(ctx, killed.path, probeOf(killed)) == nil {
			return nil
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return fmt.Errorf("%s commits no write: %w", killed.Name, ctx.Err())
		}
	}
}

// stallTime is how long the writes to all other nodes take when a cluster stalls. probePause
// is the time between them.
const stallTime, probePause = 500 * time.Millisecond, 50 * time.Millisecond

// writeTo commits a write on each node of a system but one.
func writeTo(ctx context.Context, s *System, but *Role) error {
	for _, r := range s.OfKind(mariadb) {
		if r == but {
			continue
		}
		err := await(ctx, func() error { return s.onServer(ctx, r.path, probeOf(r)) })
		if err != nil {
			return fmt.Errorf("%s commits no write without %s: %w", r.Name, but.Name, err)
		}
	}
	return nil
}

// probeOf returns the statements that commit a write on a node.
func probeOf(node *Role) string {
	return fmt.Sprintf("SET innodb_lock_wait_timeout=1; INSERT INTO faults.probe "+
		"VALUES ('%s', 1) ON DUPLICATE KEY UPDATE writes=writes+1", node.Name)
}

// galeraRole returns the role of a node.
func (s *System) galeraRole(n *galeraNode, library string, peers []string) *Role {
	_, group, _ := net.SplitHostPort(n.peer) // reserve made the address
	return &Role{Kind: mariadb, Name: n.name, program: n.program, dir: s.opts.Dir,
		args: append(n.args, "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
			"--wsrep-on=ON", "--wsrep-provider="+library, "--wsrep-cluster-name=teamtalk",
			"--wsrep-sst-method="+dbprog.SnapshotMethod, "--wsrep-node-name="+n.name,
			"--wsrep-node-address=127.0.0.1", "--wsrep-slave-threads=2",
			"--wsrep-cluster-address=gcomm://"+strings.Join(peers, ","),
			fmt.Sprintf("--wsrep-provider-options=gmcast.listen_addr=tcp://%s;"+
				"base_port=%s;ist.recv_addr=%s;gcache.size=256M", n.peer, group, n.ist)),
		ready: func(ctx context.Context) error { return greeted(ctx, n.addr) },
		again: n.recovered, path: n.home}
}

// seed makes the data folders of all nodes: that of the first, after it was a cluster of
// its own, and copies.
func (s *System) seed(ctx context.Context, nodes []*galeraNode, library string) error {
	first := nodes[0]
	r := s.galeraRole(first, library, []string{first.peer})
	r.first = []string{"--wsrep-new-cluster"}
	if err := dbprog.WriteSnapshotScript(first.home); err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	defer r.Kill()
	if err := r.AwaitReady(ctx); err != nil {
		return err
	}
	if err := r.Terminate(ctx); err != nil {
		return err
	}
	at, err := dbprog.EndPosition(first.home)
	if err != nil {
		return fmt.Errorf("%w: see %s", err, r.Log())
	}
	for _, n := range nodes {
		if n != first {
			if err := os.CopyFS(n.home, os.DirFS(first.home)); err != nil {
				return err
			}
		}
		if err := dbprog.WriteSnapshotScript(n.home); err != nil {
			return err
		}
		if err := at.Save(n.home); err != nil {
			return err
		}
	}
	return nil
}

// galeraPosition finds the position in the log of a recovery.
var galeraPosition = regexp.MustCompile(`Recovered position:?\s*(\S+):(\d+)\D`)

// recovered finds the position of the data of a node that was killed, and returns the
// argument with which the node asks the others for the later changes only.
func (n *galeraNode) recovered() ([]string, error) {
	args := append(slices.Clone(n.args), "--wsrep-on=ON", "--wsrep-recover", "--skip-networking",
		"--wsrep-provider="+dbprog.GaleraLibrary(), "--wsrep-cluster-address=gcomm://",
		"--binlog-format=ROW")
	// The process is killed once it has written the position. One of a few, instead of
	// ending, used a processor for minutes and took 8 GB of memory in each.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	out := &until{pattern: galeraPosition, found: stop}
	cmd := exec.CommandContext(ctx, n.program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err := startBound(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	at := galeraPosition.FindSubmatch(out.text.Bytes())
	if at == nil {
		return nil, fmt.Errorf("recover the position: %w: %s", err,
			bytes.TrimSpace(out.text.Bytes()))
	}
	position := dbprog.Position{Cluster: string(at[1]), Seqno: string(at[2])}
	return []string{"--wsrep-start-position=" + position.String()}, position.Save(n.home)
}

// until keeps what is written, and calls found when that matches a pattern.
type until struct {
	text    bytes.Buffer
	pattern *regexp.Regexp
	found   func()
}

// Write appends b.
func (u *until) Write(b []byte) (int, error) {
	u.text.Write(b)
	if u.pattern.Match(u.text.Bytes()) {
		u.found()
	}
	return len(b), nil
}
