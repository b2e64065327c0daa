package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/rediscluster"
)

// Numbers of the MySQL errors that are handled by number.
const (
	errDuplicateKey = 1062
	errSyntax       = 1064
	errSnapshot     = 1020 // MariaDB: a row changed since the snapshot
	errLockWait     = 1205
	errDeadlock     = 1213
)

// errDiscard makes database/sql close a connection instead of keeping it.
var errDiscard = driver.ErrBadConn

// ServerError returns the server's error in the chain of err, nil when it has none.
func ServerError(err error) *mysql.MySQLError {
	var e *mysql.MySQLError
	errors.As(err, &e)
	return e
}

// LostConnection reports whether err means that a connection was lost, or could not be
// opened. The server may or may not have executed the last statement.
func LostConnection(err error) bool {
	if e := ServerError(err); e != nil {
		// Shutdown, killed, closed as idle, too many connections, a Galera node outside
		// its cluster, and one that left it during a commit.
		return slices.Contains([]uint16{1053, 1927, 3169, 4031, 1040, 1203, 1226, 1047, 1180},
			e.Number)
	}
	var netErr net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr)
}

// ErrOutcome is in the chain of the error of a transaction in doubt. Such a transaction
// is not run again: that could store its messages twice.
var ErrOutcome = im.ErrInDoubt

// Transient reports whether the same transaction may succeed when it is run again.
func Transient(err error) bool {
	if errors.Is(err, ErrOutcome) {
		return false
	}
	if e := ServerError(err); e != nil && (e.Number == errDeadlock || e.Number == errLockWait ||
		e.Number == errSnapshot) {
		return true
	}
	// The connection that met a refusal to write has left the pool, and the next one may lead
	// to the server that has taken over.
	return LostConnection(err) || readOnly(err)
}

// Everyone reports whether err would meet any message, so that halving the batch is
// useless.
func Everyone(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrOutcome) || Transient(err) {
		return true
	}
	e := ServerError(err)
	if e == nil {
		return true // the error does not come from a statement
	}
	// Disk or table full, access denied, database or table missing, query killed.
	return slices.Contains([]uint16{1021, 1114, 1044, 1045, 1049, 1142, 1146, 1317, 3024},
		e.Number)
}

// badData reports whether err rejects a value: too long, out of range, or not in the
// character set of the column.
func badData(err error) bool {
	e := ServerError(err)
	return e != nil && slices.Contains([]uint16{1406, 1264, 1366, 1265, 1048, 1292, 1300, 3988,
		3854}, e.Number)
}

// keyName finds the key in the text of a duplicate key error. MySQL 8 writes the table's
// name before it.
var keyName = regexp.MustCompile(`for key '(?:[^'.]*\.)?([^'.]*)'`)

// DuplicateKey returns the name of the unique key that err names, "" for other errors.
func DuplicateKey(err error) string {
	e := ServerError(err)
	if e == nil || e.Number != errDuplicateKey {
		return ""
	}
	if m := keyName.FindStringSubmatch(e.Message); m != nil {
		return m[1]
	}
	return "?"
}

// SQLError wraps an error of a database with its kind and counts it. Errors that have a
// kind pass unchanged.
func (s *DB) SQLError(doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *im.Error
	if errors.As(err, &known) {
		return err
	}
	kind := im.Internal
	switch {
	case badData(err):
		kind = im.Invalid
	case LostConnection(err), readOnly(err), mysqlconn.IsSetting(err), cert.IsHandshake(err),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		kind = im.Unavailable
	}
	s.Metrics.errors.WithLabelValues(kind.String()).Inc()
	return im.WithKind(kind, doing, err)
}

// RedisError wraps an error of Redis with kind Unavailable and counts it. Any such error
// may have lost counters, so a new epoch begins. A node that is known to be down was not
// asked, and began an epoch when it was found to be down.
func (s *DB) RedisError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, rediscluster.ErrDown) {
		s.Epoch.Next()
	}
	s.Metrics.errors.WithLabelValues(im.Unavailable.String()).Inc()
	return im.WithKind(im.Unavailable, doing, err)
}

// Refused reports whether err, of a COMMIT or of a script that ends with one, means that
// nothing is committed. After any other error something may be: a Galera node that lost its
// quorum meanwhile answers 1180, an interrupted statement 1317. The driver returns ErrBadConn
// only when it has sent nothing.
func Refused(err error) bool {
	if errors.Is(err, driver.ErrBadConn) {
		return true
	}
	e := ServerError(err)
	return e != nil && (readOnly(err) || badData(err) || slices.Contains([]uint16{errDeadlock,
		errLockWait, errSnapshot, errDuplicateKey}, e.Number))
}
