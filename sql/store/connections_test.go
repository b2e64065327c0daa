package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/database"
)

// TestConnectionLostAtCommit breaks the connection during COMMIT, before or after the
// server has received it.
func TestConnectionLostAtCommit(t *testing.T) {
	for name, broken := range map[string]func(ctx context.Context, conn *sql.Conn) error{
		"committed": func(ctx context.Context, conn *sql.Conn) error {
			database.CommitOn(ctx, conn)
			return mysql.ErrInvalidConn
		},
		"not committed": func(ctx context.Context, conn *sql.Conn) error {
			database.RollBack(ctx, conn)
			return driver.ErrBadConn
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.o.Workers = 1
			s := e.store(t)
			u := users(t, s, 2)
			send(t, s, texts(u[0], u[1], 2)...)
			first := true
			s.db.Hooks.Commit = func(ctx context.Context, conn *sql.Conn) error {
				if first {
					first = false
					return broken(ctx, conn)
				}
				return database.CommitOn(ctx, conn)
			}
			send(t, s, texts(u[0], u[1], 3)...)
			wantIDs(t, s, u[0], u[1], 1, 5)
			if n := unreadOf(t, s, u[1], u[0]); n != 5 {
				t.Errorf("unread %d, want 5", n)
			}
		})
	}
}

// TestConnectionsKilled kills the connections of a store again and again while it stores
// messages.
func TestConnectionsKilled(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 8)
	ctx, stop := context.WithCancel(context.Background())
	var killer, senders sync.WaitGroup
	killed := 0
	// After each round of kills one batch must be stored before the next round. A killer
	// without a pause is faster than any store.
	through := make(chan struct{}, 1)
	killer.Go(func() {
		for ctx.Err() == nil {
			killed += e.killConnections(t)
			select {
			case <-through:
			case <-ctx.Done():
			}
		}
	})
	for w := range 4 {
		senders.Go(func() {
			for range 12 {
				batch := texts(u[w], u[w+4], 5)
				s.AppendMessages(context.Background(), batch)
				if batch[0].Err != nil {
					continue
				}
				select {
				case through <- struct{}{}:
				default:
				}
			}
		})
	}
	senders.Wait()
	stop()
	killer.Wait()
	if killed == 0 {
		t.Fatal("no connection was killed")
	}
	if _, err := s.outbox.Recover(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	for w := range 4 {
		// A message with an error may be stored only if the outcome was in doubt. No
		// message is stored twice, and all are counted.
		list, err := s.History(context.Background(), u[w], u[w+4], 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := unreadOf(t, s, u[w+4], u[w]); int(n) != len(list) {
			t.Errorf("%d messages and %d unread", len(list), n)
		}
		if len(list) == 0 || len(list) > 60 {
			t.Errorf("%d messages of 60", len(list))
		}
	}
}

// killConnections kills the connections to the database, except the test's own, and
// returns their number.
func (e *env) killConnections(t testing.TB) int {
	admin := dbtest.MariaDB(t).Admin()
	cfg, err := mysql.ParseDSN(e.dsn)
	if err != nil {
		t.Error(err)
		return 0
	}
	rows, err := admin.Query("SELECT ID FROM information_schema.PROCESSLIST WHERE DB=?", cfg.DBName)
	if err != nil {
		t.Error(err)
		return 0
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Error(err)
		}
		ids = append(ids, id)
	}
	rows.Close()
	n := 0
	for _, id := range ids {
		if _, err := admin.Exec(fmt.Sprintf("KILL %d", id)); err == nil {
			n++
		}
	}
	return n
}
