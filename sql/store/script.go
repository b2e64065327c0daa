package store

import (
	"context"
	"database/sql"
)

// script collects statements whose results nobody needs, so that they go to the server, and are answered, in one round trip: each of them would cost a
// batch two changes between processes, twice. The COMMIT is none of them: a connection that breaks before it was sent has committed nothing for sure.
type script struct {
	conn *sql.Conn
	b    []byte
}

// keptBytes is how much memory a slot keeps for a statement, and for a script: more than batches of usual texts need.
const keptBytes = 256 << 10

// kept empties a buffer for the next batch, unless one batch of long texts has made it larger than is to be kept all day.
func kept(b []byte) []byte {
	if cap(b) > keptBytes {
		return nil
	}
	return b[:0]
}

// execer runs statements, or takes them to run them later.
type execer interface {
	add(ctx context.Context, statement []byte) error
}

// add adds a statement, and sends what is there when that is enough for one packet.
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

// flush sends what is there. The error is that of the first statement that failed; those behind it were not run.
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

// statementBytes is how much content one INSERT carries at most: with escapes well below the smallest usual max_allowed_packet (4 MiB).
const statementBytes = 1 << 20
