package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

// spy is a proxy between a store and MySQL. It calls a function at the n-th command that
// matches, before the server receives the command or after its answer has arrived.
type spy struct {
	listener net.Listener
	server   string
	mu       sync.Mutex
	match    string
	left     int // commands until do is called; 0: do is not called
	after    bool
	do       func()
}

// newSpy starts a spy in front of a server.
func newSpy(t *testing.T, server string) *spy {
	t.Helper()
	p := &spy{server: server}
	p.listener = accept(t, p.serve)
	return p
}

// at arms the spy, and reports whether the command armed before has arrived.
func (p *spy) at(n int, match string, after bool, do func()) (came bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	came = p.left == 0
	p.left, p.match, p.after, p.do = n, match, after, do
	return came
}

// count counts the commands that match, until seen returns their number.
func (p *spy) count(match string) { p.at(math.MaxInt, match, false, nil) }

// seen returns the number of commands since count.
func (p *spy) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return math.MaxInt - p.left
}

// due receives a command, and returns the function to call.
func (p *spy) due(command []byte) (do func(), after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || !bytes.Contains(command, []byte(p.match)) {
		return nil, false
	}
	if p.left--; p.left > 0 {
		return nil, false
	}
	return p.do, p.after
}

// serve carries one connection. The driver sends a command in one write and waits for the
// answer.
func (p *spy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	var mu sync.Mutex
	var answered func() // called with the next answer, before the client receives it
	go func() {
		defer client.Close()
		buf := make([]byte, 1<<16)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			do := answered
			answered = nil
			mu.Unlock()
			if do != nil {
				do()
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer server.Close()
	buf := make([]byte, 4<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		do, after := p.due(buf[:n])
		switch {
		case do != nil && after:
			mu.Lock()
			answered = do
			mu.Unlock()
		case do != nil:
			do()
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// spied opens a store with one connection, through a spy.
func (e *env) spied(t *testing.T) (*Store, *spy) {
	t.Helper()
	p := e.spy(t)
	e.o.Workers = 1
	return e.store(t), p
}

// spy puts a spy between MySQL and the stores that are opened later.
func (e *env) spy(t *testing.T) *spy {
	t.Helper()
	cfg, err := mysql.ParseDSN(e.dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := newSpy(t, cfg.Addr)
	cfg.Addr = p.listener.Addr().String()
	e.o.Master = cfg.FormatDSN()
	return p
}

// wantStored checks that the messages stored in a conversation are those that were acked.
func wantStored(t *testing.T, s *Store, a, b uint32, sent []*im.Message) {
	t.Helper()
	list, err := s.History(context.Background(), a, b, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	name := func(m *im.Message) string {
		if m.Audio != nil {
			return m.Audio.Path
		}
		return string(m.Data)
	}
	there := map[string]uint32{}
	for _, m := range list {
		if there[name(&m)] != 0 {
			t.Errorf("%q is stored twice", name(&m))
		}
		there[name(&m)] = m.ID
	}
	for _, m := range sent {
		id := there[name(m)]
		switch {
		case m.Err == nil && id != m.ID:
			t.Errorf("%q was acked with id %d, stored with %d", name(m), m.ID, id)
		case m.Err != nil && id != 0 && !errors.Is(m.Err, database.ErrOutcome):
			t.Errorf("%q is stored, but the sender was told: %v", name(m), m.Err)
		}
	}
}

// TestCancelledAnywhere cancels a batch at each command, before and after the server has
// executed it. The stored messages must be the acked ones, and the only connection must
// continue without the old transaction.
func TestCancelledAnywhere(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name string
		env  func(*testing.T) *env
	}{{"finalized", newEnvT}, {"unfinalized", unfinalized}} {
		t.Run(kind.name, func(t *testing.T) {
			e := kind.env(t)
			s, p := e.spied(t)
			all := users(t, s, 200)
			for _, after := range []bool{false, true} {
				for n, met := 1, true; met; n++ {
					// New pairs of users, so that relation and session rows are inserted.
					var u []uint32
					u, all = all[:2], all[2:]
					batch := []*im.Message{text(u[0], u[1], fmt.Sprintf("a %v %d", after, n)),
						text(u[1], u[0], fmt.Sprintf("b %v %d", after, n))}
					batch[1].ClientID = fmt.Appendf(nil, "%v %d", after, n)
					batch = append(batch, &im.Message{From: u[0], To: u[1],
						Created: batch[0].Created, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
						Audio: &im.Audio{Path: fmt.Sprintf("c %v %d", after, n)}})
					ctx, cancel := context.WithCancel(context.Background())
					p.at(n, "", after, cancel)
					s.AppendMessages(ctx, batch)
					met = p.at(0, "", false, nil)
					cancel()
					next := text(u[0], u[1], fmt.Sprintf("next %v %d", after, n))
					send(t, s, next)
					wantStored(t, s, u[0], u[1], append(batch, next))
					if n > 90 || t.Failed() {
						t.Fatalf("cancelled at command %d, after: %v", n, after)
					}
				}
			}
		})
	}
}

// TestAppendPanics requires that a batch that panics leaves no transaction on the
// connection, and that the store keeps all its workers.
func TestAppendPanics(t *testing.T) {
	e := newEnv(t)
	e.o.Workers = 1
	s := e.open(t)
	u := users(t, s, 2)
	lost := text(u[0], u[1], "lost")
	for range 3 {
		s.db.Hooks.Commit = func(context.Context, *sql.Conn) error { panic("in the commit") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			s.AppendMessages(context.Background(), []*im.Message{lost})
		}()
		s.db.Hooks.Commit = nil
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		next := text(u[0], u[1], "next")
		s.AppendMessages(ctx, []*im.Message{next})
		cancel()
		if next.Err != nil {
			t.Fatalf("after a panic: %v", next.Err)
		}
	}
	list, err := s.History(context.Background(), u[0], u[1], 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if string(m.Data) == "lost" {
			t.Error("the next transaction committed what the panic left")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestLockWait lets a statement in the middle of the script wait too long for a lock.
// MySQL rolls back only this statement. The store must roll back the transaction, and the
// next try must not commit any of it.
func TestLockWait(t *testing.T) {
	e := newEnv(t)
	s, p := e.spied(t)
	u := users(t, s, 2)
	send(t, s, text(u[0], u[1], "first"))
	conn, err := s.db.Master.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "SET innodb_lock_wait_timeout=1"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	tx, err := e.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE IMRecentSession SET status=status"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("SELECT id FROM IMRecentSession FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	// The rows are unlocked when the store rolls back its first try.
	p.at(1, "ROLLBACK", false, func() { tx.Rollback() })
	e.clock.ahead.Add(int64(5 * time.Second)) // the message writes the session rows again
	send(t, s, text(u[0], u[1], "second"))
	wantIDs(t, s, u[0], u[1], 1, 2)
}
