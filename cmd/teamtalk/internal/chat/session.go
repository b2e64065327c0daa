// Package chat is the chat client of the command line without its surface: a session with the
// server, the book of users, groups and conversations, the transfers of files, login and
// registration. A Frontend shows the session to a person or to a program.
//
// Frontends live below this package: terminal for people, jsonio for programs, plain for pipes.
package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Environment of the chat command.
const (
	EnvPassword = "TEAMTALK_PASSWORD"
	EnvServer   = "TEAMTALK_SERVER"
	EnvTextKey  = "TEAMTALK_TEXT_KEY"
)

// Exit codes of the chat command, beside 2 for wrong usage.
const (
	exitFailed = 1 // could not connect or log in
	ExitUnsent = 3 // not every message was acknowledged
	ExitEnded  = 4 // the server ended the session
)

// Options are the flags and arguments of the chat command.
type Options struct {
	User, Peer        string
	Server, MsgServer string
	Register          bool
	Invite, Nick, Api string // of who registers, and where
	Password          string
	Given             bool // password is set, even if it is empty
	TextKey           string
	Mobile            bool
	Json, Follow      bool
	NoColor           bool
	History           int
	Timeout           time.Duration
	Progress          time.Duration // between two reports of a transfer's progress
	Downloads, State  string        // folders
}

// Error is an error with an exit code of its own.
type Error struct {
	Code int
	Err  error
}

// Error is the error's text.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is what the process ends with.
func (e *Error) ExitCode() int { return e.Code }

// Frontend shows a Client to somebody: a person at a terminal, or a program behind a pipe.
type Frontend interface {
	// event takes an event of the Client; it is called by one goroutine at a time, once run has been entered.
	Event(e client.Event)
	// file takes what becomes of a file, from any goroutine.
	File(e FileEntry)
	// run talks until the end; s is complete.
	Run(ctx context.Context, s *Session) error
}

// Session is what the frontends share.
type Session struct {
	Opts    Options
	Client  *client.Client
	Book    *Book
	Files   *FileDesk
	started chan struct{} // closed when the frontend wants events
	loading atomic.Bool   // the book is
	asked   atomic.Int64  // when findPeer last loaded it, unix nanoseconds
}

// Start lets events reach the frontend. Frontends call it once, from Run.
func (s *Session) Start() { close(s.started) }

// findAgain is how long somebody who was not found is not looked for again.
const findAgain = time.Second

// FindPeer returns the conversation that somebody means, see book.findPeer; who is not in the book may be new, and is looked for at the server. It waits.
func (s *Session) FindPeer(name string) (client.Peer, error) {
	p, err := s.Book.findPeer(name)
	now, last := time.Now().UnixNano(), s.asked.Load()
	if err == nil || now-last < int64(findAgain) || !s.asked.CompareAndSwap(last, now) || !s.Client.Online() {
		return p, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.Book.Load(ctx, s.Client) != nil {
		return p, err
	}
	return s.Book.findPeer(name)
}

// RefreshGroups asks what groups there are, and puts them into the book.
func (s *Session) RefreshGroups(ctx context.Context) error {
	if err := s.Client.RefreshGroups(ctx); err != nil {
		return err
	}
	for _, g := range s.Client.Groups() {
		s.Book.Event(client.GroupChanged{Group: g}) // the Client's events may come a little later
	}
	return nil
}

// follow loads the book again when it may be out of date: after a reconnect, and when somebody shows that it does not have.
func (s *Session) follow(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		if !e.Again {
			return
		}
	case client.Received:
		if s.Book.Knows(e.Message.From) {
			return
		}
	case client.Presence:
		if s.Book.Knows(e.User) {
			return
		}
	case client.GroupChanged:
		if !slices.ContainsFunc(e.Added, func(id uint32) bool { return !s.Book.Knows(id) }) {
			return
		}
	default:
		return
	}
	if !s.loading.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.loading.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Book.Load(ctx, s.Client) // what is known stays good enough
	}()
}

// Run logs the user in and hands the session to a frontend until it ends.
func Run(ctx context.Context, o Options, front Frontend, ask *Asker) error {
	cipher, err := im.NewTextCipher(o.TextKey)
	if err != nil {
		return fmt.Errorf("text key: %w", err)
	}
	s := &Session{Opts: o, Book: NewBook(im.User{}), started: make(chan struct{})}
	s.Files = newFileDesk(s, o.Progress, front.File)
	opts := client.Options{
		Server: o.Server, MsgServer: o.MsgServer, Cipher: cipher,
		BackoffMax: 5 * time.Second, // a person waits for it
		OnEvent: func(e client.Event) {
			<-s.started
			s.Book.Event(e)
			s.follow(e)
			front.Event(e)
			s.Files.event(e)
		},
	}
	if o.Mobile {
		// Not Android: for stock Android answers are cut to 400 KiB a frame.
		opts.ClientType = pb.ClientType_CLIENT_TYPE_IOS
	}
	err = logIn(ctx, o, front, ask, func(user, password string) (err error) {
		opts.Credentials = client.Credentials{
			User: user, Password: password, ClientType: opts.ClientType, Version: "teamtalk-chat/1",
		}
		s.Client, err = client.Open(ctx, opts)
		return err
	})
	if err != nil {
		return err
	}
	s.Book.Self = s.Client.User()
	if err := s.Book.Load(ctx, s.Client); err != nil && ctx.Err() == nil {
		_ = closeSession(s)
		return fmt.Errorf("load contacts: %w", err)
	}
	err = front.Run(ctx, s)
	return errors.Join(err, closeSession(s))
}

// closeSession logs out. A server that is not there to answer is no failure any more.
func closeSession(s *Session) error {
	select {
	case <-s.started:
	default:
		close(s.started)
	}
	_ = s.Client.Close()
	return nil
}

// refusedError says why a message server did not let a user in.
func refusedError(o Options, e *client.LoginError, kind im.Kind) error {
	text := CleanLine(e.Text)
	if text == "" {
		text = e.Code.String()
	}
	switch kind {
	case im.Denied:
		return fmt.Errorf("log in as %s: name or password is wrong, or the login is not allowed now: %s",
			CleanLine(o.User), text)
	case im.Unavailable:
		return fmt.Errorf("log in as %s: the server cannot be reached: the message server answers that a server "+
			"behind it is down or busy (%s); try again in a moment", CleanLine(o.User), text)
	}
	return fmt.Errorf("log in as %s: %s", CleanLine(o.User), text)
}

// openError says what a person can do about a login that failed.
func openError(o Options, err error) error {
	var refused *client.LoginError
	where := "login server " + o.Server
	if o.MsgServer != "" {
		where = "message server " + o.MsgServer
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Code: exitFailed, Err: errors.New("interrupted")}
	case errors.As(err, &refused):
		return refusedError(o, refused, im.KindOf(err))
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the server cannot be reached: no connection through %s: %s; is it running? (teamtalk serve)",
			where, CleanLine(err.Error()))
	case im.KindOf(err) == im.Unavailable:
		return fmt.Errorf("the server cannot be reached: no connection through %s: %s", where, CleanLine(err.Error()))
	}
	return fmt.Errorf("log in as %s: %s", CleanLine(o.User), CleanLine(err.Error()))
}
