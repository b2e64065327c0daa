package im

import (
	"errors"
	"fmt"
)

// ErrInDoubt is in the chain of the error of a write that may have been carried out.
var ErrInDoubt = errors.New("outcome unknown")

// Kind classifies an error by the reaction that it calls for. Only the router translates
// kinds into the result codes of the protocol.
type Kind uint8

// The kinds of errors.
const (
	Internal    Kind = iota // a fault of this server; the request may be valid
	Invalid                 // the request can never succeed as it is
	Malformed               // the bytes do not decode
	NotFound                // the object of the request does not exist
	Exists                  // the object to be created exists already
	Denied                  // this user may not do it
	NotLoggedIn             // it is allowed after login only
	Busy                    // a queue or limit is full; the same request may succeed later
	Unavailable             // a server or database that is needed is not reachable
	Closed                  // this server or client is shutting down
)

var kindNames = [...]string{"internal", "invalid", "malformed", "not found", "exists", "denied",
	"not logged in", "busy", "unavailable", "closed"}

// String returns the kind's name in logs and metrics.
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
	Err  error  // the cause, for operators; may be nil
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

// Errorf returns an error of kind k. WithKind keeps a cause in the chain, Errorf does
// not.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// WithKind returns an error with kind k, a message and the cause err. It returns nil for
// a nil err.
func WithKind(k Kind, msg string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: k, Msg: msg, Err: err}
}

// KindOf returns the kind of the outermost Error in err's chain; Internal when there is
// none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
