package chat

import (
	"crypto/tls"
	"net/http"
	"time"

	"teamtalk/core/client/loginserver"
)

// Environment variables of the chat command.
const (
	EnvPassword = "TEAMTALK_PASSWORD"
	EnvServer   = "TEAMTALK_SERVER"
	EnvTextKey  = "TEAMTALK_TEXT_KEY"
)

// Exit codes of the chat command, beside 2 for wrong usage.
const (
	exitFailed = 1 // no connection, or the login was refused
	ExitUnsent = 3 // not every message was acknowledged
	ExitEnded  = 4 // the server ended the session
)

// Options describe a session: the user, the servers, and the places of files.
type Options struct {
	User     string
	Password string
	Given    bool // Password is set, even if it is empty; without, the user is asked for it

	// Register registers User before the login. Invite is the invite code, and Nick the
	// name shown to others, if it is not User.
	Register     bool
	Invite, Nick string
	// Unattended asks the user for nothing but the password: a program reads the answers.
	Unattended bool

	Server    string // URL of the login server
	MsgServer string // host:port of a message server, instead of asking Server; or empty
	API       string // URL of the HTTP API to register at; empty: as the login server says
	TextKey   string // key of the texts, 32 bytes; empty: the key of stock clients
	// TLS is the configuration of TLS for all servers; nil: none but for https URLs.
	TLS    *tls.Config
	Mobile bool // log in as a mobile client, not as a pc client

	Progress  time.Duration // between two reports of a transfer's progress
	Downloads string        // folder of fetched files; made when the first file is fetched
	State     string        // folder that remembers interrupted uploads; empty: they are forgotten
}

// http returns the client that asks the login server and the HTTP API.
func (o *Options) http() *http.Client { return loginserver.NewHTTPClient(o.TLS) }

// Error is an error with an exit code of its own.
type Error struct {
	Code int
	Err  error
}

// Error returns the text of the error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the exit code.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code of the process.
func (e *Error) ExitCode() int { return e.Code }
