package replica

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// errNoVariable is the number of the error of a server that does not have a variable.
const errNoVariable = 1193

// Server says what is known about the server of a connection. The connections of both pools
// have a method Server that returns it.
type Server struct {
	Cluster string // the Galera cluster that it is a node of; "" without one
	reached string // the last GTIDs of the master that it has applied, as a replica
}

// position says what a master has committed. Either field is empty.
type position struct {
	gtid    string // the last transactions in the binary log
	cluster string // of a Galera node: the cluster, whose nodes know by themselves
}

// positions asks the master for its position. Calls that arrive during a question share
// the next one, so at most one is in flight.
type positions struct {
	master *sql.DB // a connection of its own: those of the writes may all be busy

	mu      sync.Mutex
	asking  bool
	waiting *question // not sent yet; nil when no call waits
}

// question is one question to the master, and its answer.
type question struct {
	done chan struct{}
	at   position // valid after done, as err
	err  error
}

// get returns a position that includes everything committed before the call.
func (p *positions) get(ctx context.Context) (position, error) {
	p.mu.Lock()
	if p.waiting == nil {
		p.waiting = &question{done: make(chan struct{})}
	}
	q := p.waiting
	if !p.asking {
		p.asking = true
		go p.ask()
	}
	p.mu.Unlock()
	select {
	case <-q.done:
		return q.at, q.err
	case <-ctx.Done():
		return position{}, ctx.Err()
	}
}

// ask sends questions until no call waits. It ends within answerTime when the pool is
// closed.
func (p *positions) ask() {
	for {
		p.mu.Lock()
		q := p.waiting
		p.waiting, p.asking = nil, q != nil
		p.mu.Unlock()
		if q == nil {
			return
		}
		q.at, q.err = askPosition(p.master)
		close(q.done)
	}
}

// askPosition reads the master's position.
func askPosition(master *sql.DB) (at position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	conn, err := master.Conn(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Close()
	withServer(conn, func(s *Server) { at.cluster = s.Cluster })
	if at.cluster != "" {
		return at, nil
	}
	err = conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&at.gtid)
	var e *mysql.MySQLError
	if errors.As(err, &e) && e.Number == errNoVariable {
		err = nil // MySQL: no position
	}
	return at, err
}

// reached waits until the server of a connection has what a position includes.
func (at position) reached(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	var known, cluster string
	withServer(conn, func(s *Server) { known, cluster = s.reached, s.Cluster })
	switch {
	case at.cluster != "" && at.cluster == cluster:
		return syncNode(ctx, conn, wait)
	case at.gtid == "":
		return ErrUnproven
	case at.gtid == known:
		return nil
	}
	var result sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, ?)", at.gtid,
		wait.Seconds()).Scan(&result); err != nil {
		return err
	}
	if !result.Valid || result.Int64 != 0 {
		return errBehind
	}
	withServer(conn, func(s *Server) { s.reached = at.gtid })
	return nil
}

// syncNode waits until a node has applied what any node of its cluster had committed.
func syncNode(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_, err := conn.ExecContext(short, "SET wsrep_sync_wait=1; SELECT 1; SET wsrep_sync_wait=0")
	if err == nil {
		return nil
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // closes the connection
	if short.Err() != nil && ctx.Err() == nil {
		return errBehind
	}
	return err
}

// withServer calls do with what is known about the server of a connection.
func withServer(conn *sql.Conn, do func(*Server)) {
	_ = conn.Raw(func(c any) error { // fails only on a closed connection
		if c, ok := c.(interface{ Server() *Server }); ok {
			do(c.Server())
		}
		return nil
	})
}
