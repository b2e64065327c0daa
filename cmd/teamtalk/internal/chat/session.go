// Package chat is the chat client without a surface: a session with the server, the book
// of users, groups and conversations, transfers of files, login and registration. The
// chat command, a web page or a test can drive a session.
//
// Open logs a user in and returns a Session. Its fields Client, Book and Files do the
// work; an Observer receives what happens. Run does the same for a Frontend, which shows
// a session to a person or to a program. Frontends live below this package: terminal for
// people, jsonio for programs, plain for pipes.
//
//	s, err := chat.Open(ctx, options, observer, nil)
//	if err != nil { … }
//	defer s.Close()
//	s.Start()
//	s.WaitReady(ctx)
//	peer, err := s.FindPeer("bob")
//	s.Client.Send(peer, "hello")
//	s.Flush(ctx, time.Minute)
package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/proto/pb"
)

// Observer receives what happens in a session.
type Observer interface {
	// Registered reports that the server has added the user. It is called before Open
	// returns.
	Registered(name string, id uint32)
	// Event receives the events of the session's client, one at a time, after Start.
	Event(e client.Event)
	// File receives each change of a file. Any goroutine.
	File(e FileEntry)
}

// Frontend shows a session to a person at a terminal, or to a program behind a pipe.
type Frontend interface {
	Observer
	// Run talks until the session is over. It calls Start once it can receive events.
	Run(ctx context.Context, s *Session) error
}

// Session is a user's connection to the server. Any goroutine may use its methods and
// fields. The fields are set by Open and do not change.
type Session struct {
	Client *client.Client
	Book   *Book
	Files  *FileDesk

	opts     Options
	observer Observer

	starting sync.Once
	started  chan struct{} // closed when events may pass
	silent   bool          // events are dropped; set before started is closed
	ready    chan struct{} // closed after the first client.Ready

	loading atomic.Bool  // the book is being loaded
	asked   atomic.Int64 // when FindPeer last loaded the book, by mono.Of
}

// Open logs the user in, registers the user first if the options say so, and loads the
// book. ask puts questions to the user; nil: there is no user to ask. The observer
// receives no events before Start. The caller closes the session.
func Open(ctx context.Context, o Options, observer Observer, ask Prompter) (*Session, error) {
	cipher, err := im.NewTextCipher(o.TextKey)
	if err != nil {
		return nil, fmt.Errorf("text key: %w", err)
	}
	s := &Session{opts: o, observer: observer, started: make(chan struct{}),
		ready: make(chan struct{})}
	opts := client.Options{
		Server: o.Server, MsgServer: o.MsgServer, Cipher: cipher,
		BackoffMax: 5 * time.Second, // a person waits for the reconnection
		OnEvent:    s.event,
		TLS:        o.TLS,
	}
	if o.Mobile {
		// Not Android: for stock Android answers are cut to 400 KiB a frame.
		opts.ClientType = pb.ClientType_CLIENT_TYPE_IOS
	}
	login := login{opts: o, observer: observer, ask: ask}
	login.open = func(user, password string) (err error) {
		opts.Credentials = tcp.Credentials{
			User: user, Password: password, ClientType: opts.ClientType, Version: "teamtalk-chat/1",
		}
		s.Client, err = client.Open(ctx, opts)
		return err
	}
	if err := login.run(ctx); err != nil {
		return nil, err
	}
	s.Book = NewBook(s.Client.User())
	s.Files = newFileDesk(s.Client, o, observer.File)
	if err := s.Book.Load(ctx, s.Client); err != nil && ctx.Err() == nil {
		s.Close()
		return nil, fmt.Errorf("load contacts: %w", err)
	}
	return s, nil
}

// Run opens a session, and hands it to a frontend until it ends.
func Run(ctx context.Context, o Options, front Frontend, ask Prompter) error {
	s, err := Open(ctx, o, front, ask)
	if err != nil {
		return err
	}
	defer s.Close()
	return front.Run(ctx, s)
}

// Start lets events pass to the observer. Those that came before it follow now.
func (s *Session) Start() { s.starting.Do(func() { close(s.started) }) }

// Close logs out and ends the session. When Start was not called, the observer receives
// no event.
func (s *Session) Close() {
	s.starting.Do(func() {
		s.silent = true
		close(s.started)
	})
	_ = s.Client.Close() // a server that does not answer the logout changes nothing
}

// Mobile reports whether the session is that of a mobile client.
func (s *Session) Mobile() bool { return s.opts.Mobile }

// event passes an event of the client to the parts of the session and to the observer.
func (s *Session) event(e client.Event) {
	<-s.started
	if s.silent {
		return
	}
	s.Book.Event(e)
	s.follow(e)
	s.observer.Event(e)
	if e, ok := e.(client.Ready); ok && !e.Again {
		close(s.ready)
	}
	s.Files.event(e)
}

// WaitReady waits until the observer has received the first client.Ready, after which the
// book knows the user's groups. It returns early when ctx or the session ends. Call it
// after Start.
func (s *Session) WaitReady(ctx context.Context) {
	select {
	case <-s.ready:
	case <-ctx.Done():
	case <-s.Client.Done():
	}
}

// WaitEnd waits until ctx or the session ends.
func (s *Session) WaitEnd(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.Client.Done():
	}
}

// Flush waits until every message is acked, for timeout at most. Client.Pending counts
// the messages that are not.
func (s *Session) Flush(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_ = s.Client.Flush(ctx)
}

// findAgain is how long FindPeer and FindUsers do not look again for names that were not found.
const findAgain = time.Second

// loadTimeout bounds a load of the book in the background.
const loadTimeout = 10 * time.Second

// FindPeer returns the conversation with the user or group of a name, see Book.FindPeer.
// A name that is not in the book may be a new user's: FindPeer asks the server for the
// users again, and waits for the answer.
func (s *Session) FindPeer(name string) (client.Peer, error) {
	p, err := s.Book.FindPeer(name)
	if err == nil || !s.loadAgain() {
		return p, err
	}
	return s.Book.FindPeer(name)
}

// FindUsers returns the users with these names, see Book.FindUsers. It asks the server again for
// names that are not known, as FindPeer does.
func (s *Session) FindUsers(names []string) ([]uint32, error) {
	users, err := s.Book.FindUsers(names)
	if err == nil || !s.loadAgain() {
		return users, err
	}
	return s.Book.FindUsers(names)
}

// loadAgain loads the book again for a name that is not in it. It reports whether it has, which it
// does at most once in findAgain.
func (s *Session) loadAgain() bool {
	now, last := mono.Of(time.Now()), s.asked.Load()
	if now-last < int64(findAgain) || !s.asked.CompareAndSwap(last, now) || !s.Client.Online() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	return s.Book.Load(ctx, s.Client) == nil
}

// RefreshGroups asks the server for the user's groups, and puts them into the book.
func (s *Session) RefreshGroups(ctx context.Context) error {
	if err := s.Client.Groups.Refresh(ctx); err != nil {
		return err
	}
	for _, g := range s.Client.Groups.All() {
		s.noteGroup(g)
	}
	return nil
}

// CreateGroup makes a group of the user and others, and puts it into the book.
func (s *Session) CreateGroup(ctx context.Context, name string, users []uint32) (
	client.Group, error,
) {
	g, err := s.Client.Groups.Create(ctx, name, "", users)
	if err == nil {
		s.Book.Event(client.GroupChanged{Group: g, By: g.Creator, Added: g.Members})
	}
	return g, err
}

// noteGroup puts a group into the book at once: the client's event may follow a little
// later.
func (s *Session) noteGroup(g client.Group) { s.Book.Event(client.GroupChanged{Group: g}) }

// MarkRead tells the server that the user has read a conversation up to a message, and
// clears its unread count.
func (s *Session) MarkRead(p client.Peer, id uint32) {
	s.Client.MarkRead(p, id)
	s.Book.ClearUnread(p)
}

// follow loads the book again when an event shows that it may be out of date: after a
// reconnection, and when an event names a user that the book does not know.
func (s *Session) follow(e client.Event) {
	if !s.outdates(e) || !s.loading.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.loading.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
		defer cancel()
		_ = s.Book.Load(ctx, s.Client) // after an error the old entries are good enough
	}()
}

// outdates reports whether an event shows that the book may be out of date.
func (s *Session) outdates(e client.Event) bool {
	switch e := e.(type) {
	case client.Connected:
		return e.Again
	case client.Received:
		return !s.Book.Knows(e.Message.From)
	case client.Presence:
		return !s.Book.Knows(e.User)
	case client.GroupChanged:
		return slices.ContainsFunc(e.Added, func(id uint32) bool { return !s.Book.Knows(id) })
	}
	return false
}

// refusedError explains why a message server refused a login.
func refusedError(o Options, e *tcp.LoginError, kind im.Kind) error {
	text := CleanLine(e.Text)
	if text == "" {
		text = e.Code.String()
	}
	switch kind {
	case im.Denied:
		return fmt.Errorf("log in as %s: name or password is wrong, "+
			"or the login is not allowed now: %s",
			CleanLine(o.User), text)
	case im.Unavailable:
		return fmt.Errorf("log in as %s: the server cannot be reached: the message server answers "+
			"that a server behind it is down or busy (%s); try again in a moment",
			CleanLine(o.User), text)
	}
	return fmt.Errorf("log in as %s: %s", CleanLine(o.User), text)
}

// openError explains a login that failed, and says what the user can do about it.
func openError(o Options, err error) error {
	var refused *tcp.LoginError
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
		return fmt.Errorf("the server cannot be reached: no connection through %s: %s; "+
			"is it running? (teamtalk serve)",
			where, CleanLine(err.Error()))
	case im.KindOf(err) == im.Unavailable:
		return fmt.Errorf("the server cannot be reached: no connection through %s: %s", where,
			CleanLine(err.Error()))
	}
	return fmt.Errorf("log in as %s: %s", CleanLine(o.User), CleanLine(err.Error()))
}
