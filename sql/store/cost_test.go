package store

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// wire is a proxy in front of MySQL that keeps the commands of a store.
type wire struct {
	mu       sync.Mutex
	commands [][]byte
}

// newWire puts a wire between MySQL and the stores that are opened later.
func (e *env) newWire(t *testing.T) *wire {
	t.Helper()
	cfg, err := mysql.ParseDSN(e.dsn)
	if err != nil {
		t.Fatal(err)
	}
	w, to := &wire{}, cfg.Addr
	cfg.Addr = accept(t, func(client net.Conn) { w.serve(client, to) }).Addr().String()
	e.o.Master = cfg.FormatDSN()
	return w
}

// serve carries one connection. The driver sends a command in one write and waits for the
// answer.
func (w *wire) serve(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { io.Copy(client, server); client.Close() }()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.commands = append(w.commands, bytes.Clone(buf[:n]))
		w.mu.Unlock()
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// take returns the commands since the last call, and the number of their statements.
func (w *wire) take() (commands [][]byte, statements int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	commands, w.commands = w.commands, nil
	for _, c := range commands {
		statements += 1 + bytes.Count(c, []byte(";")) // contents are in hexadecimal digits
	}
	return commands, statements
}

// cost is what a text costs.
type cost struct {
	packets, statements int // of MySQL
	trips, commands     int // of Redis
	allocations         float64
}

// TestCostOfAText counts what a text costs that is a batch of its own: packets and statements of
// MySQL, round trips and commands of Redis, and allocations. The numbers do not depend on the
// machine. bench/COST.md explains them.
func TestCostOfAText(t *testing.T) { // not parallel, because it counts allocations
	for name, kind := range map[string]struct {
		change func(m *im.Message, seq uint16)
		want   cost
	}{
		// START TRANSACTION, outbox, kept counts, message, COMMIT; ids, counts
		"usual": {func(*im.Message, uint16) {}, cost{1, 5, 2, 2, 135}},
		// and the marks of senders
		"young connection": {func(m *im.Message, seq uint16) {
			m.SentAs = pb.SentAs(pb.ClientType_CLIENT_TYPE_ANDROID, seq)
			m.ResentWithin = 60
		}, cost{1, 5, 2, 3, 150}},
		// and the whereabouts of two users
		"cluster": {func(m *im.Message, _ uint16) { m.WantWhereabouts = true },
			cost{1, 5, 2, 4, 165}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnvT(t)
			e.freeze()          // session rows are written once a second
			fixed := time.Now() // and marks of senders
			e.o.Now = func() time.Time { return fixed }
			e.o.Housekeeping = time.Hour
			w := e.newWire(t)
			s := e.store(t)
			u := users(t, s, 2)
			seq := uint16(0)
			e.wantCost(t, s, w, kind.want, func() {
				m := text(u[0], u[1], "a text of usual length, as people write it")
				seq++
				kind.change(m, seq)
				send(t, s, m)
			})
		})
	}
}

// wantCost checks what a text costs that one sends.
func (e *env) wantCost(t *testing.T, s *Store, w *wire, want cost, one func()) {
	t.Helper()
	for range 5 { // fills the caches, and opens the connections
		one()
	}
	var redis trips
	for _, c := range s.db.Redis.All {
		c.AddHook(&redis)
	}
	const texts = 10
	w.take()
	for range texts {
		one()
	}
	commands, statements := w.take()
	if len(commands) != texts*want.packets || statements != texts*want.statements {
		t.Errorf("%d packets to MySQL and %d statements for %d texts, want %d and %d of each; the "+
			"first: %q", len(commands), statements, texts, want.packets, want.statements,
			commands[:min(3, len(commands))])
	}
	trips, sent := redis.pipelines.Load(), redis.commands.Load()
	if trips != int64(texts*want.trips) || sent != int64(texts*want.commands) {
		t.Errorf("%d round trips to Redis and %d commands for %d texts, want %d and %d of each",
			trips, sent, texts, want.trips, want.commands)
	}
	n := testing.AllocsPerRun(texts, one)
	t.Logf("%v allocations for a text", n)
	if n > want.allocations {
		t.Errorf("%v allocations for a text, want at most %v", n, want.allocations)
	}
}
