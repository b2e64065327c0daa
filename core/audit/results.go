package audit

import (
	"errors"
	"fmt"
)

// The results of events. EVENTS.md explains each. They are the same in every version, so that
// programs may rely on them; Detail is for people.
const (
	// OK is the result of what was done.
	OK = "ok"
	// ConnectionEnded is the end of a session whose client did not log out.
	ConnectionEnded = "connection_ended"

	// WrongPassword is a login with a name that does not exist or a wrong password.
	WrongPassword = "wrong_password"
	// Locked is a login after too many wrong passwords.
	Locked = "locked"
	// Elsewhere is a login of a user whose session on another device remains.
	Elsewhere = "elsewhere"
	// UnknownClient is a login of a client of an unknown type.
	UnknownClient = "unknown_client"
	// Refused is a login that db_proxy refused for a reason of its own.
	Refused = "refused"

	// BadRequest, and those below, are calls and registrations that were refused: a parameter
	// is wrong.
	BadRequest = "bad_request"
	// WrongKey: the app_key or the invite code is wrong.
	WrongKey = "wrong_key"
	// Denied: the app, or the user, may not do this.
	Denied = "denied"
	// NotFound: there is no such user or group.
	NotFound = "not_found"
	// Closed: registration is not open to this address.
	Closed = "closed"
	// TooMany: there were too many calls of this app, or from this address.
	TooMany = "too_many"
	// Failed is a call, a registration or a command that failed.
	Failed = "failed"
)

// results are the results above, and those of logins and kicks that carry the name of a value of
// the protocol: a missing server, and the reason of a kick.
var results = []string{OK, ConnectionEnded, WrongPassword, Locked, Elsewhere, UnknownClient,
	Refused, BadRequest, WrongKey, Denied, NotFound, Closed, TooMany, Failed,
	"no_db_server", "no_login_server", "no_route_server",
	"duplicate_user", "mobile_kick", "disabled", "password"}

// Detail returns text, the words of err in the audit log. Errors about the lines of a file, which
// have a method Problems, quote the file: names, addresses and phones of people. Their words are
// left out.
func Detail(err error, text string) string {
	if p, ok := errors.AsType[interface {
		error
		Problems() []string
	}](err); ok {
		return fmt.Sprintf("the file has problems: the answer had %d lines about it, which are "+
			"not recorded", len(p.Problems()))
	}
	return text
}
