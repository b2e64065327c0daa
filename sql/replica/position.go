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

// Node is a connection of the driver, of either pool, that knows its server's cluster.
type Node interface {
	// Cluster returns the Galera cluster of the server, "" without one.
	Cluster() string
}

// position says what a master has committed. Either field is empty.
type position struct {
	gtid    string // the last transactions in the binary log
	cluster string // of a Galera node: the cluster, whose nodes know by themselves
}

// positions asks the master for its position. Calls that arrive during a question share
// the next one, so at most one is in flight.
type positions struct {
	read func() (position, error)

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

// ask asks until no call waits.
func (p *positions) ask() {
	for {
		p.mu.Lock()
		q := p.waiting
		p.waiting, p.asking = nil, q != nil
		p.mu.Unlock()
		if q == nil {
			return
		}
		q.at, q.err = p.read()
		close(q.done)
	}
}

// errDemoted means that the server at the master's address accepts no writes.
var errDemoted = errors.New("the master is read-only")

// readPosition reads the master's position, within answerTime. A managed failover leaves the
// connections to the old master open. That one does not know what the new master commits, so
// a read-only server has no position, and its connection is not used again.
func readPosition(master *sql.DB) (at position, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	conn, err := master.Conn(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Close()
	if at.cluster = clusterOf(conn); at.cluster != "" {
		return at, nil
	}
	var readOnly string
	err = conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos, @@GLOBAL.read_only").
		Scan(&at.gtid, &readOnly)
	if err == nil && readOnly != "0" && readOnly != "OFF" {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // closes the connection
		return position{}, errDemoted
	}
	var e *mysql.MySQLError
	if errors.As(err, &e) && e.Number == errNoVariable {
		err = nil // MySQL: no position
	}
	return at, err
}

// reached waits until the server of a connection has what a position includes.
func (at position) reached(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	switch {
	case at.cluster != "" && at.cluster == clusterOf(conn):
		return syncNode(ctx, conn, wait)
	case at.gtid == "":
		return ErrUnproven
	}
	var result sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, ?)", at.gtid,
		wait.Seconds()).Scan(&result); err != nil {
		return err
	}
	if !result.Valid || result.Int64 != 0 {
		return errBehind
	}
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

// clusterOf returns the cluster of the server of a connection.
func clusterOf(conn *sql.Conn) (cluster string) {
	_ = conn.Raw(func(c any) error { // fails only on a closed connection
		if c, ok := c.(Node); ok {
			cluster = c.Cluster()
		}
		return nil
	})
	return cluster
}
