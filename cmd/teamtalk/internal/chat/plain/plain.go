// Package plain is the chat frontend for pipes of plain text: a line of input is a
// message to send, a line of output is a message that arrived.
package plain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// Options describe what the frontend does with its input.
type Options struct {
	Peer    string        // the user or #GROUP that receives the input; empty: input is an error
	Follow  bool          // continue after the end of the input
	Timeout time.Duration // for unacknowledged messages at the end of the input
}

// Frontend sends each line of its input as a message, and writes each received message as
// a line. Everything else is written to standard error.
type Frontend struct {
	in       io.Reader
	out, err io.Writer
	opts     Options
	s        *chat.Session

	mu     sync.Mutex // guards what follows, and the order of lines
	failed int        // messages that were given up
	over   error      // why the server ended the session
	outErr error
	moved  chan struct{} // receives when a message has left the queue
	// waiting are the conversations with unread messages at the start.
	waiting []chat.UnreadPeer
	// written has the messages that were written until caughtUp, the end of unread.
	written  map[messageKey]bool
	caughtUp bool
}

// messageKey identifies a message.
type messageKey struct {
	peer client.Peer
	id   uint32
}

// New returns a frontend that reads messages from in, and writes messages to out and
// everything else to errOut.
func New(in io.Reader, out, errOut io.Writer, o Options) *Frontend {
	return &Frontend{in: in, out: out, err: errOut, opts: o, moved: make(chan struct{}, 1),
		written: map[messageKey]bool{}}
}

// Run sends the lines of the input.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	s.Start()
	s.WaitReady(ctx) // the peer may be a group
	f.unread(ctx)
	var to client.Peer
	if f.opts.Peer != "" {
		var err error
		if to, err = s.FindPeer(f.opts.Peer); err != nil {
			return err
		}
	}
	var failed error
	interrupted, err := s.ReadLines(ctx, f.in, func(_ int, line string) bool {
		switch {
		case strings.TrimSpace(line) == "":
		case to == (client.Peer{}):
			failed = errors.New("no PEER was given to send the input to")
		default:
			failed = f.send(ctx, to, line)
		}
		return failed == nil
	})
	switch err = errors.Join(err, failed); {
	case err != nil || interrupted:
	case f.opts.Follow:
		s.WaitEnd(ctx)
	default:
		s.Flush(ctx, f.opts.Timeout)
	}
	return errors.Join(err, f.end())
}

// maxUnread is how many unread messages of a conversation are written.
const maxUnread = 200

// unread writes the messages that arrived while the user was away. They stay unread, since a
// program may read them: the user sees them again elsewhere.
func (f *Frontend) unread(ctx context.Context) {
	f.mu.Lock()
	waiting := f.waiting
	f.mu.Unlock()
	for _, u := range waiting {
		list, err := f.s.History(ctx, u.Peer, u.Latest, min(int(u.Count), maxUnread))
		f.mu.Lock()
		f.note("%d unread from %s", u.Count, f.s.Book.PeerName(u.Peer))
		if err != nil {
			f.note("not shown: %v", err)
		}
		for _, m := range list {
			f.message(client.Received{Peer: u.Peer, Message: m})
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caughtUp = true // later messages arrive once
}

// message writes a message, unless it was written already: one that arrives while unread asks for
// the history is in both.
func (f *Frontend) message(e client.Received) {
	key := messageKey{e.Peer, e.Message.ID}
	if f.written[key] {
		return
	}
	if !f.caughtUp {
		f.written[key] = true
	}
	f.write(e)
}

// send sends a line. It waits while the queue is full.
func (f *Frontend) send(ctx context.Context, to client.Peer, line string) error {
	for _, text := range chat.SplitText(line, im.MaxText) {
		for {
			_, err := f.s.Client.Send(to, text)
			if err == nil {
				break
			}
			if im.KindOf(err) != im.Busy {
				return err
			}
			select {
			case <-f.moved:
			case <-f.s.Client.Done():
			case <-ctx.Done():
				return nil // end counts the unsent messages
			}
		}
	}
	return nil
}

// end closes the session and returns its outcome.
func (f *Frontend) end() error {
	unacked := f.s.Client.Pending()
	f.s.Close() // all events are delivered before it returns
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.outErr != nil:
		return f.outErr
	case f.over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: f.over}
	case unacked+f.failed > 0:
		return &chat.Error{Code: chat.ExitUnsent,
			Err: fmt.Errorf("%d messages without acknowledgement", unacked+f.failed)}
	}
	return nil
}

// note writes a line to standard error.
func (f *Frontend) note(format string, args ...any) {
	fmt.Fprintf(f.err, "teamtalk: %s\n", chat.CleanLine(fmt.Sprintf(format, args...)))
}

// Registered reports the new user.
func (f *Frontend) Registered(name string, _ uint32) { f.note("registered %s", name) }

// Event writes messages to standard output, and other important events to standard error.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Ready:
		if !e.Again {
			f.waiting = f.s.Book.AllUnread()
		}
	case client.GroupChanged:
		f.note("%s", chat.GroupNews(f.s.Book, e))
	case client.Received:
		f.message(e)
	case client.Acked:
		f.room()
	case client.SendFailed:
		f.failed++
		f.note("message %d was not sent: %v", e.ID, e.Err)
		f.room()
	case client.Skipped:
		f.note("too many messages with %s were missed; the older ones are in the history",
			f.s.Book.PeerName(e.Peer))
	case client.Connected:
		if e.Again {
			f.note("connected again to %s", e.Addr)
		}
	case client.Disconnected:
		f.note("disconnected: %v; connecting again", e.Err)
	case client.Kicked:
		f.over = errors.New(cmp.Or(chat.CleanLine(e.Text),
			"the same user logged in elsewhere, or ended this session from a phone"))
	case client.Refused:
		f.over = e.Err
	}
}

// room tells send that the queue is shorter.
func (f *Frontend) room() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// write writes a message: its first line with time and name, further lines indented.
func (f *Frontend) write(e client.Received) {
	text, _ := f.s.Text(e.Message)
	who := f.s.Book.Name(e.Message.From)
	switch {
	case e.Peer.Group:
		who = f.s.Book.PeerName(e.Peer) + ", " + who
	case e.Message.From == f.s.Book.SelfID():
		who += " to " + f.s.Book.PeerName(e.Peer)
	}
	text = strings.ReplaceAll(chat.CleanText(text), "\n", "\n    ")
	_, err := fmt.Fprintf(f.out, "%s %s: %s\n",
		chat.LocalTime(e.Message).Format("2006-01-02 15:04:05"), who, text)
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write messages: %w", err)
	}
}

// File reports files that can be fetched, and the end of transfers.
func (f *Frontend) File(e chat.FileEntry) {
	switch e.State {
	case chat.FileOffered, chat.FileWaiting:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("%s sends %s: fetch it in a terminal, or with --json", f.s.Book.PeerName(e.Other()),
			e.Text())
	case chat.FileFailed, chat.FileDone:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("file %s: %s", e.Name, e.State)
	}
}
