package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
)

// Form is the way in which the statements of a batch go to the server.
//
// A node of a Galera cluster aborts a transaction when another node has committed a
// conflicting one. In the middle of a packet of several statements the abort is lost: the
// server answers every statement with success, runs the remaining ones in autocommit, and
// a COMMIT after the packet has nothing to commit. Two nodes of MariaDB 10.11 lost 1 of
// 480 conflicting batches that way (TestGaleraConflicts). So a packet must not reach such
// a server without a form in which an abort ends it.
type Form int

const (
	// FormPacket separates the statements by semicolons, for servers that abort no
	// transaction on behalf of another node.
	FormPacket Form = iota
	// FormBlock makes the packet one compound statement of MariaDB. The error of one of
	// its statements ends it, an abort included.
	FormBlock
	// FormSingle sends one statement at a time: for clusters whose servers do not have
	// compound statements outside of routines.
	FormSingle
)

// formOf returns the form for the server of a connection. It asks for abilities instead
// of a version, because proxies make versions up.
func formOf(ctx context.Context, conn driverConn) (Form, error) {
	there, on, err := variable(ctx, conn, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
	if err != nil || !there || on != "ON" {
		return FormPacket, err
	}
	_, err = conn.ExecContext(ctx, "BEGIN NOT ATOMIC DO 1; END", nil)
	if e := ServerError(err); e != nil && e.Number == errSyntax {
		return FormSingle, nil
	}
	return FormBlock, err
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

// Proof is the number of a transaction and its owner, whose outbox row is the first one
// that the transaction writes. While the row is visible and a transaction is open, it is
// the same transaction.
type Proof struct {
	Owner uuid.UUID
	Seq   uint64
}

// open returns the condition of SQL that the transaction is open.
func (p Proof) open() string {
	return fmt.Sprintf("@@in_transaction AND EXISTS(SELECT 1 FROM IMUnreadOutbox "+
		"WHERE owner=x'%x' AND seq=%d)", p.Owner[:], p.Seq)
}

// abort is the statement of a block that reports an abort that was not reported before.
const abort = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO=1213, " +
	"MESSAGE_TEXT='transaction was aborted by another node'"

// Commit commits a transaction if it is still open. Otherwise it fails as the server does
// after an abort.
func (p Proof) Commit(ctx context.Context, conn *sql.Conn) error {
	switch formOn(conn) {
	case FormBlock:
		_, err := conn.ExecContext(ctx, "BEGIN NOT ATOMIC IF "+p.open()+" THEN COMMIT; ELSE "+
			abort+"; END IF; END")
		return err
	case FormSingle:
		var one int
		err := conn.QueryRowContext(ctx, fmt.Sprintf("SELECT 1 FROM IMUnreadOutbox "+
			"WHERE owner=x'%x' AND seq=%d", p.Owner[:], p.Seq)).Scan(&one)
		if err == sql.ErrNoRows {
			return &mysql.MySQLError{Number: errDeadlock,
				SQLState: [5]byte{'4', '0', '0', '0', '1'},
				Message:  "transaction was aborted by another node"}
		}
		if err != nil {
			return err
		}
	}
	return CommitOn(ctx, conn)
}

// Script collects statements whose results are not needed. They go to the server, and are
// answered, in one round trip: each single statement would cost a batch two process
// switches on either side. COMMIT goes with a short script to a server that aborts no
// transaction on behalf of others. There the error of a statement ends the script, so a COMMIT
// behind it commits the transaction with all its statements. The script may arrive after its
// outcome was looked up, so its first statement fails then (package outbox). COMMIT does not go
// with a long script: the connection breaks more often while that is sent, and one that breaks
// before COMMIT was sent has certainly committed nothing.
type Script struct {
	conn  *sql.Conn
	form  Form
	begun bool // the transaction was begun before the script
	proof Proof
	b     []byte
	n     int  // statements in b
	sent  bool // the first packet was sent
}

// NewScript makes a script for a transaction of conn, which proof proves to be open. begun means
// that the transaction is begun. buffer is used for the statements.
func NewScript(conn *sql.Conn, begun bool, p Proof, buffer []byte) *Script {
	return &Script{conn: conn, form: formOn(conn), begun: begun, proof: p, b: buffer[:0]}
}

// Buffer returns the buffer of the script, for the next one.
func (sc *Script) Buffer() []byte { return Emptied(sc.b) }

// Conn returns the connection of the transaction, for statements whose results are
// needed. They follow a flush.
func (sc *Script) Conn() *sql.Conn { return sc.conn }

// keptBytes bounds the buffers that a slot keeps for a statement and for a script.
// Batches of usual texts need less.
const keptBytes = 256 << 10

// Emptied empties a buffer for the next batch. It drops a buffer that a batch of long texts
// has made larger than keptBytes.
func Emptied(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

// Execer runs statements, or collects them to run them later.
type Execer interface {
	Add(ctx context.Context, statement []byte) error
}

// Add adds a statement. It first sends the collected statements when they would exceed
// the size of a packet.
func (sc *Script) Add(ctx context.Context, statement []byte) error {
	if sc.form == FormSingle {
		_, err := sc.conn.ExecContext(ctx, string(statement))
		return err
	}
	if len(sc.b)+len(statement) > StatementBytes {
		if err := sc.Flush(ctx); err != nil {
			return err
		}
	}
	switch {
	case sc.n > 0:
		sc.b = append(sc.b, ';')
	case sc.form == FormBlock:
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

// Flush sends the collected statements. It returns the error of the first statement that
// failed; the statements after it did not run.
func (sc *Script) Flush(ctx context.Context) error {
	if sc.n == 0 {
		return nil
	}
	if sc.form == FormBlock {
		sc.b = append(sc.b, "; END"...)
	}
	_, err := sc.conn.ExecContext(ctx, string(sc.b))
	sc.b, sc.n, sc.sent = sc.b[:0], 0, true
	return err
}

// joinBytes bounds the scripts that end with COMMIT. A batch of some tens of usual texts is
// shorter.
const joinBytes = 16 << 10

// Joins reports whether Commit sends the COMMIT in one packet with the collected statements. The
// outcome of all of them is then as open after a lost answer as that of a COMMIT.
func (sc *Script) Joins() bool {
	return sc.form == FormPacket && sc.n > 0 && len(sc.b) <= joinBytes
}

// Commit sends the collected statements and commits the transaction.
func (sc *Script) Commit(ctx context.Context) error {
	if sc.Joins() {
		sc.b = append(sc.b, ";COMMIT"...)
		return sc.Flush(ctx)
	}
	if err := sc.Flush(ctx); err != nil {
		return err
	}
	return sc.proof.Commit(ctx, sc.conn)
}

// Direct is an Execer that runs each statement when it is added.
type Direct struct{ Querier }

// Add runs a statement.
func (o Direct) Add(ctx context.Context, statement []byte) error {
	_, err := o.ExecContext(ctx, string(statement))
	return err
}

// StatementBytes bounds the content of one INSERT. In digits it stays well below the
// smallest usual max_allowed_packet (4 MiB).
const StatementBytes = 1 << 20
