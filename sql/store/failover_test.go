package store

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
	"teamtalk/sql/dbtest"
)

// tcpSwitch is a proxy whose new connections lead to one server, and whose old connections
// stay where they are, as with managed failovers.
type tcpSwitch struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
}

// newSwitch starts a tcpSwitch that leads to a server.
func newSwitch(t *testing.T, to string) *tcpSwitch {
	t.Helper()
	p := &tcpSwitch{to: to}
	p.listener = accept(t, p.serve)
	return p
}

// serve carries one connection.
func (p *tcpSwitch) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	go func() { io.Copy(c, server); c.Close() }()
	io.Copy(server, c)
	server.Close()
}

// accept listens on a free port until the test ends, and serves each connection on a
// goroutine of its own.
func accept(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l
}

// TestMasterDemoted makes the master read-only while another server takes over. Two nodes
// of a cluster stand for a master and its replica. The connections to the old master
// survive, and every batch after the change must be stored, by each of the workers.
func TestMasterDemoted(t *testing.T) {
	t.Parallel()
	list := galeraEnv(t)
	old, next := list[0], list[1]
	cfg, err := mysql.ParseDSN(old.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"CREATE USER writer", "GRANT ALL ON `" + cfg.DBName +
		"`.* TO writer"} {
		old.exec(t, q)
	}
	t.Cleanup(func() { old.db.Exec("DROP USER writer") })
	cluster := dbtest.Galera(t)
	p := newSwitch(t, cluster.Nodes[0].Addr())
	cfg.User, cfg.Addr = "writer", p.listener.Addr().String()
	e := *old
	e.o.Master, e.o.Workers = cfg.FormatDSN(), 16
	s := e.store(t)
	u := users(t, s, 2)
	next.sync(t)
	fill(t, s) // every worker has a connection to the old master
	if err := s.db.Ping(t.Context()); err != nil {
		t.Fatalf("ping of a master: %v", err)
	}
	old.exec(t, "SET GLOBAL read_only=1")
	t.Cleanup(func() { old.db.Exec("SET GLOBAL read_only=0") })
	if err := s.db.Ping(t.Context()); im.KindOf(err) != im.Unavailable || err == nil {
		t.Errorf("ping of a read-only server: %v, want kind unavailable", err)
	}
	fill(t, s)
	p.mu.Lock()
	p.to = cluster.Nodes[1].Addr()
	p.mu.Unlock()
	var wg sync.WaitGroup
	for range e.o.Workers {
		wg.Go(func() {
			batch := texts(u[0], u[1], 3)
			s.AppendMessages(context.Background(), batch)
			for _, m := range batch {
				if m.Err != nil {
					t.Errorf("after the change: %v", m.Err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.db.Ping(t.Context()); err != nil {
		t.Errorf("ping after the change: %v", err)
	}
}

// fill opens all connections of the pool.
func fill(t *testing.T, s *Store) {
	t.Helper()
	for range s.o.Workers {
		conn, err := s.db.Master.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() // at the end, so that each connection is taken once
	}
}

// TestPingOfRedisThatRefusesWrites requires that a Redis server or cluster that accepts no
// writes counts as unavailable.
func TestPingOfRedisThatRefusesWrites(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"server": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			if cluster {
				e.onCluster(t)
			}
			s := e.store(t)
			if err := s.db.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			e.redis.Do("CONFIG SET maxmemory 1")
			if err := s.db.Ping(t.Context()); im.KindOf(err) != im.Unavailable || err == nil {
				t.Errorf("out of memory: %v, want kind unavailable", err)
			}
			e.redis.Do("CONFIG SET maxmemory 0")
			if err := s.db.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if cluster {
				return // a node of a cluster is a replica of another node only
			}
			e.redis.Do("REPLICAOF 127.0.0.1 1")
			if err := s.db.Ping(t.Context()); im.KindOf(err) != im.Unavailable || err == nil {
				t.Errorf("a replica: %v, want kind unavailable", err)
			}
			e.redis.Do("REPLICAOF NO ONE")
		})
	}
}
