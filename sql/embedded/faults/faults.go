// Package faults says what errors of SQLite mean for the embedded store.
package faults

import (
	"context"
	"errors"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"teamtalk/core/im"
)

// Describe adds to an error of the database its kind, and what an administrator must do
// about it. Errors with a kind, and errors from elsewhere, pass unchanged.
func Describe(err error) error {
	var known *im.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return im.WithKind(im.Unavailable, "given up", err)
	}
	switch code(err) {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return im.WithKind(im.Unavailable, "another process keeps the database busy", err)
	case lib.SQLITE_FULL:
		return im.WithKind(im.Unavailable, "the disk is full", err)
	case lib.SQLITE_READONLY:
		return im.WithKind(im.Unavailable, "the database cannot be written: check the owner "+
			"and mode of the directory and its files, and that the disk is not read-only", err)
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		return im.WithKind(im.Unavailable, "the database cannot be opened: check the owner "+
			"and mode of the directory and its files, and that the disk is not read-only", err)
	case lib.SQLITE_IOERR:
		return im.WithKind(im.Unavailable, "the disk fails", err)
	case lib.SQLITE_CORRUPT:
		return im.WithKind(im.Internal, "the database file is damaged: restore it "+
			"from a backup", err)
	case lib.SQLITE_NOTADB:
		return im.WithKind(im.Internal, "the file is not a database, or is damaged", err)
	}
	return err
}

// code returns SQLite's primary result code, 0 when err is not from SQLite. The message
// of err has the upper bits.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// extendedCode returns SQLite's extended result code, 0 when err is not from SQLite.
func extendedCode(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code()
}

// AboutTheRow reports whether the database rejected a row, so that another row may
// succeed.
func AboutTheRow(err error) bool {
	switch code(err) {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE:
		return true
	}
	return false
}

// ByDisk reports whether the disk refused to write.
func ByDisk(err error) bool {
	switch code(err) {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_READONLY:
		return true
	}
	return false
}

// Busy reports whether another process held the lock that writing needs.
func Busy(err error) bool { return code(err) == lib.SQLITE_BUSY }

// Full reports whether the disk has no room.
func Full(err error) bool { return code(err) == lib.SQLITE_FULL }

// NameTaken reports whether a unique key rejected a row.
func NameTaken(err error) bool { return extendedCode(err) == lib.SQLITE_CONSTRAINT_UNIQUE }
