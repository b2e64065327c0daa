package store

import (
	"context"
	"database/sql"
)

// script collects statements whose results are not needed. They go to the server, and are
// answered, in one round trip: each single statement would cost a batch two process
// switches on either side. COMMIT is not part of the script: a connection that breaks
// before COMMIT was sent has certainly committed nothing.
type script struct {
	conn *sql.Conn
	b    []byte
}

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
	if len(sc.b)+len(statement) > statementBytes {
		if err := sc.flush(ctx); err != nil {
			return err
		}
	}
	if len(sc.b) > 0 {
		sc.b = append(sc.b, ';')
	}
	sc.b = append(sc.b, statement...)
	return nil
}

// flush sends the collected statements. It returns the error of the first statement that
// failed; the statements after it did not run.
func (sc *script) flush(ctx context.Context) error {
	if len(sc.b) == 0 {
		return nil
	}
	_, err := sc.conn.ExecContext(ctx, string(sc.b))
	sc.b = sc.b[:0]
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
