package store

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// errNoVariable is the number of the error of a server that does not have a variable.
const errNoVariable = 1193

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

// ask sends questions until no call waits. It ends within replicaTime when the pool is
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
	ctx, cancel := context.WithTimeout(context.Background(), replicaTime)
	defer cancel()
	conn, err := master.Conn(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Close()
	withConnection(conn, func(c *connection) { at.cluster = c.cluster })
	if at.cluster != "" {
		return at, nil
	}
	err = conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&at.gtid)
	if e := mysqlError(err); e != nil && e.Number == errNoVariable {
		err = nil // MySQL: no position
	}
	return at, err
}

// reached waits until the server of a connection has what a position includes.
func (at position) reached(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	var known, cluster string
	withConnection(conn, func(c *connection) { known, cluster = c.reached, c.cluster })
	switch {
	case at.cluster != "" && at.cluster == cluster:
		return syncNode(ctx, conn, wait)
	case at.gtid == "":
		return errUnproven
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
	withConnection(conn, func(c *connection) { c.reached = at.gtid })
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
	discard(conn)
	if short.Err() != nil && ctx.Err() == nil {
		return errBehind
	}
	return err
}

// withConnection calls do with the driver's side of a connection.
func withConnection(conn *sql.Conn, do func(*connection)) {
	_ = conn.Raw(func(c any) error { // fails only on a closed connection
		if c, ok := c.(*connection); ok {
			do(c)
		}
		return nil
	})
}
