package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net"
	"slices"
	"sync"
	"time"

	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/replica"
	"teamtalk/sql/store/use"
)

// connector opens connections and asks what their servers are.
type connector struct {
	driver.Connector
	params map[string]string // session settings of the DSN
	pool   *generation
}

// Connect opens a connection and asks what its server is. The server of a pool may change
// with any connection, behind a balancer or after a failover.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	n := c.pool.now()
	var socket net.Conn
	conn, err := c.Connector.Connect(context.WithValue(ctx, socketKey{}, &socket))
	if err != nil {
		return nil, err
	}
	server := conn.(driverConn)
	f, err := formOf(ctx, server)
	var cluster string
	if err == nil && f != FormPacket {
		cluster, err = c.clusterOf(ctx, server)
	}
	if err != nil {
		_ = conn.Close() // the error of the statement says more
		return nil, err
	}
	return &connection{driverConn: server, socket: socket, form: f, cluster: cluster,
		pool: c.pool, opened: n}, nil
}

// socketKey is the key of the variable in a context that receives the socket of a connection.
type socketKey struct{}

// dial opens the socket of a connection, and stores it in the variable of ctx.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	socket, err := new(net.Dialer).DialContext(ctx, network, addr)
	if to, ok := ctx.Value(socketKey{}).(*net.Conn); ok && err == nil {
		*to = socket
	}
	return socket, err
}

// clusterOf returns the Galera cluster of a node. It refuses a session whose writes the other
// nodes would miss.
func (c connector) clusterOf(ctx context.Context, node driverConn) (string, error) {
	_, on, err := variable(ctx, node, "SHOW SESSION VARIABLES LIKE 'wsrep_on'")
	if err != nil {
		return "", err
	}
	if on != "ON" {
		return "", mysqlconn.Refuse(c.params, "wsrep_on", on, "ON")
	}
	_, cluster, err := variable(ctx, node, "SHOW STATUS LIKE 'wsrep_cluster_state_uuid'")
	return cluster, err
}

// driverConn are the methods of the driver's connections that database/sql calls.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// connection is a connection of the pool. After an error that its server would repeat, it
// leaves the pool: a demoted master, or a node without its cluster, keeps its connections
// open, and new connections lead to the server that has taken over.
type connection struct {
	driverConn
	socket  net.Conn // below TLS
	form    Form
	cluster string // the Galera cluster of the server; "" without one
	pool    *generation
	opened  uint64 // generation at the start of Connect
	left    bool   // must not be used again
}

var _ replica.Node = (*connection)(nil)

// Cluster returns the Galera cluster of the server, "" without one.
func (c *connection) Cluster() string { return c.cluster }

// ExecContext runs a statement. When ctx ends first, it closes the socket. The driver would do
// the same, but it hands each statement to a goroutine and back, which costs a small batch
// eight switches between threads.
func (c *connection) ExecContext(ctx context.Context, q string,
	args []driver.NamedValue) (driver.Result, error) {
	c.pool.uses.Note(ctx)
	if c.socket == nil || ctx.Done() == nil {
		res, err := c.driverConn.ExecContext(ctx, q, args)
		c.note(err)
		return res, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.socket.Close() })
	res, err := c.driverConn.ExecContext(context.WithoutCancel(ctx), q, args)
	if !stop() {
		c.left = true
		if err != nil && ServerError(err) == nil {
			err = ctx.Err()
		}
	}
	c.note(err)
	return res, err
}

// QueryContext runs a query.
func (c *connection) QueryContext(ctx context.Context, q string,
	args []driver.NamedValue) (driver.Rows, error) {
	c.pool.uses.Note(ctx)
	rows, err := c.driverConn.QueryContext(ctx, q, args)
	c.note(err)
	return rows, err
}

// BeginTx begins a transaction.
func (c *connection) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.pool.uses.Note(ctx)
	tx, err := c.driverConn.BeginTx(ctx, o)
	c.note(err)
	if err != nil {
		return nil, err
	}
	return connectionTx{tx, c}, nil
}

// connectionTx is a transaction on a connection.
type connectionTx struct {
	driver.Tx
	on *connection
}

// Commit commits.
func (t connectionTx) Commit() error {
	err := t.Tx.Commit()
	t.on.note(err)
	return err
}

// note decides after an error whether the connection leaves the pool.
func (c *connection) note(err error) {
	switch e := ServerError(err); {
	case e == nil:
	case readOnly(err):
		c.left = true
		c.pool.end(c.opened)
	case LostConnection(err), e.Number == errDeadlock && c.form != FormPacket:
		// A node reports once that it has aborted a transaction, and then accepts
		// statements in autocommit.
		c.left = true
	}
}

// IsValid reports whether the connection may return to the pool.
func (c *connection) IsValid() bool {
	return !c.left && c.opened >= c.pool.now() && c.driverConn.IsValid()
}

// ResetSession runs before a connection of the pool is used again.
func (c *connection) ResetSession(ctx context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return c.driverConn.ResetSession(ctx)
}

// generation tells the connections of a pool that were opened before a failover from
// later ones.
type generation struct {
	uses *use.Uses
	mu   sync.Mutex
	n    uint64
	at   time.Time // the last end, on the monotonic clock
}

// generationTime is the shortest life of a generation. While all servers are read-only,
// each new connection would end the generation of the others.
const generationTime = time.Second

// now returns the number of the generation.
func (g *generation) now() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// end ends a generation: its connections leave the pool.
func (g *generation) end(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n == g.n && (g.at.IsZero() || time.Since(g.at) >= generationTime) {
		g.n++
		g.at = time.Now()
	}
}

// formOn returns the form of transactions for the server of a connection.
func formOn(conn *sql.Conn) (f Form) {
	_ = conn.Raw(func(c any) error { // fails only on a closed connection
		if c, ok := c.(*connection); ok {
			f = c.form
		}
		return nil
	})
	return f
}

// readOnly reports whether a server refused a write because it accepts none at all. The
// statement was not executed.
func readOnly(err error) bool {
	e := ServerError(err)
	return e != nil && slices.Contains([]uint16{1290, 1792, 1836}, e.Number)
}

// RollBack ends the transaction of a connection. If the statement fails, the connection
// is closed, which ends the transaction.
func RollBack(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), LockWait*time.Second)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		Discard(conn)
	}
}

// Discard makes database/sql close a connection instead of keeping it. The server then
// ends its transaction.
func Discard(conn *sql.Conn) { conn.Raw(func(any) error { return errDiscard }) }

// CommitOn commits the transaction of a connection.
func CommitOn(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "COMMIT")
	return err
}

// SetForm makes the transactions of a connection take a form. It is for tests.
func SetForm(conn *sql.Conn, f Form) error {
	return conn.Raw(func(c any) error {
		c.(*connection).form = f
		return nil
	})
}
