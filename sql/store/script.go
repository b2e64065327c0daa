package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
)

// form is the way in which the statements of a batch go to the server.
//
// A node of a Galera cluster aborts a transaction when another node has committed a
// conflicting one. In the middle of a packet of several statements the abort is lost: the
// server answers every statement with success, runs the remaining ones in autocommit, and
// a COMMIT after the packet has nothing to commit. Two nodes of MariaDB 10.11 lost 1 of
// 480 conflicting batches that way (TestGaleraConflicts). So a packet must not reach such
// a server without a form in which an abort ends it.
type form int

const (
	// formPacket separates the statements by semicolons, for servers that abort no
	// transaction on behalf of another node.
	formPacket form = iota
	// formBlock makes the packet one compound statement of MariaDB. The error of one of
	// its statements ends it, an abort included.
	formBlock
	// formSingle sends one statement at a time: for clusters whose servers do not have
	// compound statements outside of routines.
	formSingle
)

// formOf returns the form for the server of a connection. It asks for abilities instead
// of a version, because proxies make versions up.
func formOf(ctx context.Context, conn driverConn) (form, error) {
	there, on, err := variable(ctx, conn, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
	if err != nil || !there || on != "ON" {
		return formPacket, err
	}
	_, err = conn.ExecContext(ctx, "BEGIN NOT ATOMIC DO 1; END", nil)
	if e := mysqlError(err); e != nil && e.Number == errSyntax {
		return formSingle, nil
	}
	return formBlock, err
}

// variable returns the value of a variable of the server, and whether the server has it.
func variable(ctx context.Context, conn driverConn, show string) (bool, string, error) {
	rows, err := conn.QueryContext(ctx, show, nil)
	if err != nil {
		return false, "", err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err == io.EOF {
		return false, "", nil
	} else if err != nil {
		return false, "", err
	}
	return true, fmt.Sprintf("%s", row[len(row)-1]), nil
}

// proof is the number of a transaction and its owner, whose outbox row is the first one
// that the transaction writes. While the row is visible and a transaction is open, it is
// the same transaction.
type proof struct {
	owner uuid.UUID
	seq   uint64
}

// open returns the condition of SQL that the transaction is open.
func (p proof) open() string {
	return fmt.Sprintf("@@in_transaction AND EXISTS(SELECT 1 FROM IMUnreadOutbox "+
		"WHERE owner=x'%x' AND seq=%d)", p.owner[:], p.seq)
}

// abort is the statement of a block that reports an abort that was not reported before.
const abort = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO=1213, " +
	"MESSAGE_TEXT='transaction was aborted by another node'"

// commit commits a transaction if it is still open. Otherwise it fails as the server does
// after an abort.
func (p proof) commit(ctx context.Context, conn *sql.Conn) error {
	switch formOn(conn) {
	case formBlock:
		_, err := conn.ExecContext(ctx, "BEGIN NOT ATOMIC IF "+p.open()+" THEN COMMIT; ELSE "+
			abort+"; END IF; END")
		return err
	case formSingle:
		var one int
		err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT 1 FROM IMUnreadOutbox "+
			"WHERE owner=x'%x' AND seq=%d", p.owner[:], p.seq)).Scan(&one)
		if err == sql.ErrNoRows {
			return &mysql.MySQLError{Number: errDeadlock,
				SQLState: [5]byte{'4', '0', '0', '0', '1'},
				Message:  "transaction was aborted by another node"}
		}
		if err != nil {
			return err
		}
	}
	return commitOn(ctx, conn)
}

// script collects statements whose results are not needed. They go to the server, and are
// answered, in one round trip: each single statement would cost a batch two process
// switches on either side. COMMIT is not part of the script: a connection that breaks
// before COMMIT was sent has certainly committed nothing.
type script struct {
	conn  *sql.Conn
	form  form
	begun bool // the transaction was begun before the script
	proof proof
	b     []byte
	n     int  // statements in b
	sent  bool // the first packet was sent
}

// newScript makes a script for a transaction of conn, which proof proves to be open. begun means
// that the transaction is begun. buffer is used for the statements.
func newScript(conn *sql.Conn, begun bool, p proof, buffer []byte) *script {
	return &script{conn: conn, form: formOn(conn), begun: begun, proof: p, b: buffer[:0]}
}

// buffer returns the buffer of the script, for the next one.
func (sc *script) buffer() []byte { return kept(sc.b) }

// connection returns the connection of the transaction, for statements whose results are
// needed. They follow a flush.
func (sc *script) connection() *sql.Conn { return sc.conn }

// keptBytes bounds the buffers that a slot keeps for a statement and for a script.
// Batches of usual texts need less.
const keptBytes = 256 << 10

// kept empties a buffer for the next batch. It drops a buffer that a batch of long texts
// has made larger than keptBytes.
func kept(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

// execer runs statements, or collects them to run them later.
type execer interface {
	add(ctx context.Context, statement []byte) error
}

// add adds a statement. It first sends the collected statements when they would exceed
// the size of a packet.
func (sc *script) add(ctx context.Context, statement []byte) error {
	if sc.form == formSingle {
		_, err := sc.conn.ExecContext(ctx, string(statement))
		return err
	}
	if len(sc.b)+len(statement) > statementBytes {
		if err := sc.flush(ctx); err != nil {
			return err
		}
	}
	switch {
	case sc.n > 0:
		sc.b = append(sc.b, ';')
	case sc.form == formBlock:
		sc.b = append(sc.b, "BEGIN NOT ATOMIC "...)
		// The transaction may have been aborted since the last packet.
		if sc.sent {
			sc.b = append(sc.b, "IF NOT ("+sc.proof.open()+") THEN "+abort+"; END IF;"...)
		} else if sc.begun {
			sc.b = append(sc.b, "IF NOT @@in_transaction THEN "+abort+"; END IF;"...)
		}
	}
	sc.b = append(sc.b, statement...)
	sc.n++
	return nil
}

// flush sends the collected statements. It returns the error of the first statement that
// failed; the statements after it did not run.
func (sc *script) flush(ctx context.Context) error {
	if sc.n == 0 {
		return nil
	}
	if sc.form == formBlock {
		sc.b = append(sc.b, "; END"...)
	}
	_, err := sc.conn.ExecContext(ctx, string(sc.b))
	sc.b, sc.n, sc.sent = sc.b[:0], 0, true
	return err
}

// atOnce is an execer that runs each statement when it is added.
type atOnce struct{ querier }

func (o atOnce) add(ctx context.Context, statement []byte) error {
	_, err := o.ExecContext(ctx, string(statement))
	return err
}

// statementBytes bounds the content of one INSERT. With escapes it stays well below the
// smallest usual max_allowed_packet (4 MiB).
const statementBytes = 1 << 20
