package store

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/sql/schema"
	"teamtalk/sql/store/conversation"
)

// lateCommit is a proxy between a store and MySQL. Each connection leads to the next of its
// servers. When armed, it disconnects the client that sends COMMIT. It passes the COMMIT to
// the server only when a later connection sends the look-up of the outcome, or the next try.
// A look-up that does not wait would then find nothing, and the batch would be stored twice.
type lateCommit struct {
	listener net.Listener
	servers  []string
	lookUp   string // part of a statement
	mu       sync.Mutex
	next     int // of servers
	armed    bool
	held     func() // passes the COMMIT to the server
	times    int    // how often that happened
	open     []net.Conn
}

// newLateCommit starts a lateCommit in front of servers.
func newLateCommit(t *testing.T, servers ...string) *lateCommit {
	t.Helper()
	p := &lateCommit{servers: servers, lookUp: " IMUnreadOutbox "}
	p.listener = accept(t, p.serve)
	// A connection that the client lost would keep locks, for which DROP DATABASE waits.
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.open {
			c.Close()
		}
	})
	return p
}

// serve carries one connection. The driver sends each command in one write and waits for
// the answer, so a read is a command.
func (p *lateCommit) serve(client net.Conn) {
	p.mu.Lock()
	p.next++
	to := p.servers[p.next%len(p.servers)]
	p.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, server)
	p.mu.Unlock()
	go func() { io.Copy(client, server); client.Close() }()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			server.Close()
			return
		}
		command := bytes.Clone(buf[:n])
		p.mu.Lock()
		if p.armed && bytes.Contains(command, []byte("COMMIT")) {
			p.armed = false
			// the connection to the server stays open, as behind a broken link
			p.held = func() { server.Write(command) }
			p.mu.Unlock()
			client.Close()
			return
		}
		if p.held != nil && bytes.Contains(command, []byte(p.lookUp)) {
			// The look-up comes first, then the COMMIT: the look-up must wait for it.
			server.Write(command)
			p.held()
			p.held, p.times = nil, p.times+1
			p.mu.Unlock()
			continue
		}
		p.mu.Unlock()
		if _, err := server.Write(command); err != nil {
			client.Close()
			return
		}
	}
}

// TestCommitArrivesLate loses the connection during COMMIT. The server receives the
// COMMIT after the store has asked for the outcome.
func TestCommitArrivesLate(t *testing.T) {
	e := newEnv(t)
	cfg, err := mysql.ParseDSN(e.dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := newLateCommit(t, cfg.Addr)
	cfg.Addr = p.listener.Addr().String()
	e.o.Master = cfg.FormatDSN()
	e.o.Workers = 1
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	for range 5 {
		p.mu.Lock()
		p.armed = true
		p.mu.Unlock()
		send(t, s, texts(u[0], u[1], 3)...)
	}
	p.mu.Lock()
	times := p.times
	p.mu.Unlock()
	if times != 5 {
		t.Fatalf("the COMMIT was late %d times of 5", times)
	}
	wantIDs(t, s, u[0], u[1], 1, 17)
	if n := unreadOf(t, s, u[1], u[0]); n != 17 {
		t.Errorf("unread %d, want 17", n)
	}
}

// TestFinalizeRaisesCounters requires that ids given by finalize are not given again.
func TestFinalizeRaisesCounters(t *testing.T) {
	e := unfinalized(t)
	e.exec(t, "INSERT INTO IMRelationShip (id, smallId, bigId, status, created, updated) "+
		"VALUES (11,1,2,0,1,1)")
	e.exec(t, "INSERT INTO IMMessage_3 (relateId, fromId, toId, msgId, content, status, type, "+
		"created, updated) VALUES (11,1,2,1,'a',0,1,1,1), (11,1,2,1,'b',0,1,2,2)")
	e.exec(t, "INSERT INTO IMGroupMessage_1 (groupId, userId, msgId, content, created) "+
		"VALUES (9,1,7,'a',1), (9,1,7,'b',1)")
	e.redis.Do("SET msg_id_11 1")
	raise, done, err := conversation.CounterRaiser(t.Context(), e.o.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := schema.Finalize(t.Context(), e.db, schema.Options{RaiseCounter: raise}); err != nil {
		t.Fatal(err)
	}
	if a, b := e.redis.Do("GET msg_id_11"), e.redis.Do("GET group_msg_id_9"); a != "2" || b != "8" {
		t.Errorf("counters are %s and %s, want 2 and 8", a, b)
	}
}
