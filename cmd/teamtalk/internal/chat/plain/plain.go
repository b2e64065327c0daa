// Package plain is the chat frontend for pipes of plain text: a line of input is a message to
// send, a line of output is a message that arrived.
package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// Frontend is for pipes of plain text: a line in is a message out, a message in is a line out, everything else goes to standard error.
type Frontend struct {
	in       io.Reader
	out, err io.Writer
	s        *chat.Session

	mu     sync.Mutex // guards what follows, and the order of lines
	failed int
	over   error
	outErr error
	moved  chan struct{}
	ready  chan struct{} // closed with the first Ready
}

// New makes a frontend that reads messages from in, writes messages to out and everything else to
// errOut.
func New(in io.Reader, out, errOut io.Writer) *Frontend {
	return &Frontend{in: in, out: out, err: errOut, moved: make(chan struct{}, 1), ready: make(chan struct{})}
}

// Run sends the lines of the input.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	s.Start()
	select { // until it is known what groups there are
	case <-f.ready:
	case <-ctx.Done():
	case <-s.Client.Done():
	}
	var to client.Peer
	var err error
	if s.Opts.Peer != "" {
		if to, err = s.FindPeer(s.Opts.Peer); err != nil {
			return err
		}
	}
	lines := chat.ReadLines(ctx, f.in)
	for {
		select {
		case <-ctx.Done():
			return f.end()
		case <-s.Client.Done():
			return f.end()
		case l, ok := <-lines:
			switch {
			case !ok && s.Opts.Follow:
				chat.WaitEnd(ctx, s)
				return f.end()
			case !ok:
				chat.WaitAcks(ctx, s)
				return f.end()
			case l.Err != nil:
				return errors.Join(l.Err, f.end())
			case strings.TrimSpace(l.Text) == "":
			case to == (client.Peer{}):
				return errors.New("no PEER was given to send the input to")
			default:
				if err := f.send(ctx, to, l.Text); err != nil {
					return errors.Join(err, f.end())
				}
			}
		}
	}
}

// send queues a line; a full queue is waited for.
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
				return nil // end counts what is left
			}
		}
	}
	return nil
}

// end says how it went.
func (f *Frontend) end() error {
	unacked := f.s.Client.Pending()
	_ = f.s.Client.Close() // all events come before
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.outErr != nil:
		return f.outErr
	case f.over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: f.over}
	case unacked+f.failed > 0:
		return &chat.Error{Code: chat.ExitUnsent, Err: fmt.Errorf("%d messages without acknowledgement", unacked+f.failed)}
	}
	return nil
}

// note writes to standard error.
func (f *Frontend) note(format string, args ...any) {
	fmt.Fprintf(f.err, "teamtalk: %s\n", chat.CleanLine(fmt.Sprintf(format, args...)))
}

// Registered says that there is a new user.
func (f *Frontend) Registered(name string, _ uint32) { f.note("registered %s", name) }

// Event writes messages to standard output and what is worth knowing to standard error.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Ready:
		if !e.Again {
			close(f.ready)
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
		f.note("too many messages with %s were missed; the older ones are in the history", f.s.Book.PeerName(e.Peer))
	case client.Connected:
		if e.Again {
			f.note("connected again to %s", e.Addr)
		}
	case client.Disconnected:
		f.note("disconnected: %v; connecting again", e.Err)
	case client.Kicked:
		f.over = errors.New("the same user logged in elsewhere, or ended this session from a phone")
	case client.Refused:
		f.over = e.Err
	}
}

// room tells a sender that the queue is shorter.
func (f *Frontend) room() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// message writes a message: its first line with time and name, the others indented.
func (f *Frontend) message(e client.Received) {
	text, _ := chat.MessageText(f.s.Client, e.Message)
	who := f.s.Book.Name(e.Message.From)
	switch {
	case e.Peer.Group:
		who = f.s.Book.PeerName(e.Peer) + ", " + who
	case e.Message.From == f.s.Book.Self.ID:
		who += " to " + f.s.Book.PeerName(e.Peer)
	}
	text = strings.ReplaceAll(chat.CleanText(text), "\n", "\n    ")
	_, err := fmt.Fprintf(f.out, "%s %s: %s\n", chat.LocalTime(e.Message).Format("2006-01-02 15:04:05"), who, text)
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write messages: %w", err)
	}
}

// File says that one can be fetched, and how.
func (f *Frontend) File(e chat.FileEntry) {
	switch e.State {
	case chat.FileOffered, chat.FileWaiting:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("%s sends %s: fetch it in a terminal, or with --json", f.s.Book.PeerName(e.Other()), e.Text())
	case chat.FileFailed, chat.FileDone:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.note("file %s: %s", e.Name, e.State)
	}
}
