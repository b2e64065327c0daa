package im

import (
	"errors"
	"fmt"
)

// Kind says what went wrong in the terms of whoever has to act on it. Only the router turns kinds into the result codes of the
// protocol.
type Kind uint8

// The kinds of errors.
const (
	Internal    Kind = iota // a fault of ours; the request may be fine
	Invalid                 // the request can never succeed as it is
	Malformed               // the bytes do not decode
	NotFound                // what is asked for does not exist
	Exists                  // what is to be made exists already
	Denied                  // not allowed to this user
	NotLoggedIn             // allowed after login only
	Busy                    // a queue or limit is full; the same request may succeed later
	Unavailable             // a server or database that is needed is not reachable
	Closed                  // shutting down
)

var kindNames = [...]string{"internal", "invalid", "malformed", "not found", "exists", "denied", "not logged in", "busy", "unavailable", "closed"}

// String names the kind as logs and metrics do.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a kind.
type Error struct {
	Kind Kind
	Msg  string // for people; no user content, no secrets
	Err  error  // what caused it, for operators; may be nil
}

// Error returns the message and its cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind. To keep a cause in the chain use WithKind.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// WithKind gives err a kind and a message. It returns nil for a nil err.
func WithKind(k Kind, msg string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Msg: msg, Err: err}
}

// KindOf returns the kind of the outermost Error in err's chain; Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
