package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Environment of the chat command.
const (
	envPassword = "TEAMTALK_PASSWORD"
	envServer   = "TEAMTALK_SERVER"
	envTextKey  = "TEAMTALK_TEXT_KEY"
)

// Exit codes of the chat command, beside 1 (could not connect or log in) and 2 (usage).
const (
	exitUnsent = 3 // not every message was acknowledged
	exitEnded  = 4 // the server ended the session
)

// chatOptions are the flags and arguments of the chat command.
type chatOptions struct {
	user, peer        string
	server, msgServer string
	register          bool
	invite, nick, api string // of who registers, and where
	password          string
	textKey           string
	mobile            bool
	json, follow      bool
	noColor           bool
	history           int
	timeout           time.Duration
	downloads, state  string // folders
}

// chatError is an error with an exit code of its own.
type chatError struct {
	code int
	err  error
}

// Error is the error's text.
func (e *chatError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *chatError) Unwrap() error { return e.err }

// ExitCode is what the process ends with.
func (e *chatError) ExitCode() int { return e.code }

// newChatCommand makes the command "chat".
func newChatCommand() *cobra.Command {
	var o chatOptions
	cmd := &cobra.Command{
		Use:   "chat USER [PEER]",
		Short: "Chat in this terminal, or from a script",
		Long: `Chat as USER, with PEER (a user, or #GROUP) or with whom you choose (/list, /who and /groups say who
there is, /help says the rest).

The message server is found through the login server (--server); after a lost connection the client
connects again by itself, sends what was not acknowledged, and shows what was missed.
The password is taken from --password, from ` + envPassword + `, or asked for.

Somebody new registers with --register, where the server lets people do so, and is then logged in. A server
may want an invite code (--invite). With nobody to ask, the password must be given as above.

Marks: … sending   ✓ stored by the server   ✗ failed    Presence: ● online   ○ offline

Files: /send FILE sends one, /get fetches one. What the server keeps goes on where it stood after a broken
connection, or with the next login.

Without a terminal each line of standard input is a message to PEER, each line of standard output one
that came in. The command ends when its input has, once everything is acknowledged, unless --follow.
` + jsonHelp,
		Example: `  teamtalk chat alice
  teamtalk chat alice bob --server http://chat.example.com:8080
  teamtalk chat carol --register --invite CODE
  echo "backup is done" | teamtalk chat robot bob
  teamtalk chat robot --json --follow < commands > events`,
		Args: checkArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.user = args[0]
			if len(args) > 1 {
				o.peer = args[1]
			}
			return runChat(cmd, o)
		},
	}
	server := os.Getenv(envServer)
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", server, "URL of the login server (environment: "+envServer+")")
	f.StringVar(&o.msgServer, "msg-server", "", "HOST:PORT of a message server; no login server is asked then")
	f.StringVar(&o.password, "password", "", "password; other users of this machine can see it (environment: "+envPassword+")")
	f.BoolVar(&o.register, "register", false, "USER is new: register first, where the server lets people do so")
	f.StringVar(&o.invite, "invite", "", "with --register: the invite code, where one is needed")
	f.StringVar(&o.nick, "nick", "", "with --register: the name shown to others, if not USER")
	f.StringVar(&o.api, "api", "", "URL of the HTTP API to register at, if the login server does not say")
	f.StringVar(&o.textKey, "text-key", "", "32-byte key of the texts, if not the usual one (environment: "+envTextKey+")")
	f.BoolVar(&o.mobile, "mobile", false, "log in as a mobile client: one pc and one mobile client may be online together")
	f.BoolVar(&o.json, "json", false, "commands and events as JSON lines")
	f.BoolVar(&o.follow, "follow", false, "go on after the end of the input")
	f.BoolVar(&o.noColor, "no-color", false, "no colours (environment: NO_COLOR)")
	f.IntVar(&o.history, "history", 15, "messages shown when a conversation is opened")
	f.StringVar(&o.downloads, "downloads", downloadFolder(), "folder for files that are fetched; made if it is not there")
	f.StringVar(&o.state, "state", stateFolder(), "folder where uploads that broke off are remembered; empty: they are not")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "for what is unacknowledged at the end of the input")
	return cmd
}

// frontend shows a Client to somebody: a person at a terminal, or a program behind a pipe.
type frontend interface {
	// event takes an event of the Client; it is called by one goroutine at a time, once run has been entered.
	event(e client.Event)
	// file takes what becomes of a file, from any goroutine.
	file(e fileEntry)
	// run talks until the end; s is complete.
	run(ctx context.Context, s *chatSession) error
}

// chatSession is what the frontends share.
type chatSession struct {
	opts    chatOptions
	client  *client.Client
	book    *book
	files   *fileDesk
	started chan struct{} // closed when the frontend wants events
	loading atomic.Bool   // the book is
	asked   atomic.Int64  // when findPeer last loaded it, unix nanoseconds
}

// findAgain is how long somebody who was not found is not looked for again.
const findAgain = time.Second

// findPeer returns the conversation that somebody means, see book.findPeer; who is not in the book may be new, and is looked for at the server. It waits.
func (s *chatSession) findPeer(name string) (client.Peer, error) {
	p, err := s.book.findPeer(name)
	now, last := time.Now().UnixNano(), s.asked.Load()
	if err == nil || now-last < int64(findAgain) || !s.asked.CompareAndSwap(last, now) || !s.client.Online() {
		return p, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.book.load(ctx, s.client) != nil {
		return p, err
	}
	return s.book.findPeer(name)
}

// refreshGroups asks what groups there are, and puts them into the book.
func (s *chatSession) refreshGroups(ctx context.Context) error {
	if err := s.client.RefreshGroups(ctx); err != nil {
		return err
	}
	for _, g := range s.client.Groups() {
		s.book.event(client.GroupChanged{Group: g}) // the Client's events may come a little later
	}
	return nil
}

// follow loads the book again when it may be out of date: after a reconnect, and when somebody shows that it does not have.
func (s *chatSession) follow(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		if !e.Again {
			return
		}
	case client.Received:
		if s.book.knows(e.Message.From) {
			return
		}
	case client.Presence:
		if s.book.knows(e.User) {
			return
		}
	case client.GroupChanged:
		if !slices.ContainsFunc(e.Added, func(id uint32) bool { return !s.book.knows(id) }) {
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
		_ = s.book.load(ctx, s.client) // what is known stays good enough
	}()
}

// runChat logs in and hands over to a frontend.
func runChat(cmd *cobra.Command, o chatOptions) error {
	ctx := cmd.Context()
	if o.textKey == "" {
		o.textKey = os.Getenv(envTextKey)
	}
	cipher, err := im.NewTextCipher(o.textKey)
	if err != nil {
		return usagef(cmd, "--text-key: %v", err)
	}
	s := &chatSession{opts: o, book: newBook(), started: make(chan struct{})}
	front := newFrontend(cmd, o)
	every := 250 * time.Millisecond // between two words on a file's progress
	if o.json {
		every = time.Second
	}
	s.files = newFileDesk(s, every, front.file)
	opts := client.Options{
		Server: o.server, MsgServer: o.msgServer, Cipher: cipher,
		BackoffMax: 5 * time.Second, // somebody sits in front of it
		OnEvent: func(e client.Event) {
			<-s.started
			s.book.event(e)
			s.follow(e)
			front.event(e)
			s.files.event(e)
		},
	}
	if o.mobile {
		opts.ClientType = pb.ClientType_CLIENT_TYPE_ANDROID
	}
	err = logIn(cmd, o, front, func(user, password string) (err error) {
		opts.Credentials = client.Credentials{User: user, Password: password, ClientType: opts.ClientType, Version: "teamtalk-chat/1"}
		s.client, err = client.Open(ctx, opts)
		return err
	})
	if err != nil {
		return err
	}
	s.book.self = s.client.User()
	if err := s.book.load(ctx, s.client); err != nil && ctx.Err() == nil {
		_ = closeChat(s)
		return fmt.Errorf("load contacts: %w", err)
	}
	err = front.run(ctx, s)
	return errors.Join(err, closeChat(s))
}

// closeChat logs out. A server that is not there to answer is no failure any more.
func closeChat(s *chatSession) error {
	select {
	case <-s.started:
	default:
		close(s.started)
	}
	_ = s.client.Close()
	return nil
}

// newFrontend chooses by what standard input and output are.
func newFrontend(cmd *cobra.Command, o chatOptions) frontend {
	in, out := cmd.InOrStdin(), cmd.OutOrStdout()
	switch {
	case o.json:
		return newJSONFrontend(in, out)
	case isTerminal(in) && isTerminal(out):
		return newTerminalFrontend(in.(*os.File), out.(*os.File), o)
	default:
		return newPlainFrontend(in, out, cmd.ErrOrStderr())
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// chatOpenError says what a person can do about a login that failed.
func chatOpenError(o chatOptions, err error) error {
	var refused *client.LoginError
	where := "login server " + o.server
	if o.msgServer != "" {
		where = "message server " + o.msgServer
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &chatError{code: exitFailure, err: errors.New("interrupted")}
	case errors.As(err, &refused) && im.KindOf(err) == im.Denied:
		return fmt.Errorf("log in as %s: name or password is wrong, or the account is locked: %s", cleanLine(o.user), cleanLine(refused.Text))
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no connection through %s: %s; is it running? (teamtalk serve)", where, cleanLine(err.Error()))
	case im.KindOf(err) == im.Unavailable && refused == nil:
		return fmt.Errorf("no connection through %s: %s", where, cleanLine(err.Error()))
	}
	return fmt.Errorf("log in as %s: %s", cleanLine(o.user), cleanLine(err.Error()))
}
