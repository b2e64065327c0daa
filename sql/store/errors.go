package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// Numbers of MySQL errors that something is decided by.
const (
	errDuplicateKey = 1062
	errLockWait     = 1205
	errDeadlock     = 1213
)

// errDiscard makes database/sql close a connection instead of keeping it.
var errDiscard = driver.ErrBadConn

// mysqlError returns the server's error in err's chain, nil when there is none.
func mysqlError(err error) *mysql.MySQLError {
	var e *mysql.MySQLError
	errors.As(err, &e)
	return e
}

// lostConnection reports whether err means that the connection is gone, or was not to be had: what was sent may have been done or not.
func lostConnection(err error) bool {
	if e := mysqlError(err); e != nil {
		// Shutting down; killed; closed as idle; too many connections; a Galera node that has left its cluster, or joins it.
		return slices.Contains([]uint16{1053, 1927, 3169, 4031, 1040, 1203, 1226, 1047}, e.Number)
	}
	var netErr net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr)
}

// errOutcome is in the chain of errors of transactions that may be committed or not: to run one again could store its messages twice.
var errOutcome = errors.New("outcome unknown")

// transient reports whether the same transaction may succeed when it is run again.
func transient(err error) bool {
	if errors.Is(err, errOutcome) {
		return false
	}
	if e := mysqlError(err); e != nil && (e.Number == errDeadlock || e.Number == errLockWait || e.Number == 1020) {
		return true
	}
	return lostConnection(err)
}

// everyone reports whether err would meet any message: there is no point in looking for the one at fault.
func everyone(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errOutcome) || transient(err) {
		return true
	}
	e := mysqlError(err)
	if e == nil {
		return true // not the server's word on a statement
	}
	// Disk or table full, access denied, no such database or table, read-only, killed query.
	return slices.Contains([]uint16{1021, 1114, 1044, 1045, 1049, 1142, 1146, 1290, 1317, 1836, 1792, 3024}, e.Number)
}

// badData reports whether err says that a value cannot be stored: too long, out of range, not of the column's character set.
func badData(err error) bool {
	e := mysqlError(err)
	return e != nil && slices.Contains([]uint16{1406, 1264, 1366, 1265, 1048, 1292, 1300, 3988, 3854}, e.Number)
}

// keyName finds the key in a duplicate key error's text; MySQL 8 puts the table's name before it.
var keyName = regexp.MustCompile(`for key '(?:[^'.]*\.)?([^'.]*)'`)

// duplicateKey returns the name of the unique key that err is about, "" when it is not about one.
func duplicateKey(err error) string {
	e := mysqlError(err)
	if e == nil || e.Number != errDuplicateKey {
		return ""
	}
	if m := keyName.FindStringSubmatch(e.Message); m != nil {
		return m[1]
	}
	return "?"
}

// dbError gives a database's error its kind.
func (s *databases) dbError(doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *im.Error
	if errors.As(err, &known) {
		return err
	}
	kind := im.Internal
	switch e := mysqlError(err); {
	case badData(err):
		kind = im.Invalid
	case lostConnection(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), e != nil && (e.Number == 1290 || e.Number == 1836):
		kind = im.Unavailable
	}
	s.m.errors.WithLabelValues(kind.String()).Inc()
	return im.WithKind(kind, doing, err)
}

// redisError is the same for Redis. Whatever went wrong may have cost counters, so a new epoch begins.
func (s *databases) redisError(doing string, err error) error {
	if err == nil {
		return nil
	}
	s.epoch.next()
	s.m.errors.WithLabelValues(im.Unavailable.String()).Inc()
	return im.WithKind(im.Unavailable, doing, err)
}
