package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"teamtalk/core/client"
	"teamtalk/core/im"
)

// plainFrontend is for pipes of plain text: a line in is a message out, a message in is a line out, everything else goes to standard error.
type plainFrontend struct {
	in       io.Reader
	out, err io.Writer
	s        *chatSession

	mu     sync.Mutex // guards what follows, and the order of lines
	failed int
	over   error
	outErr error
	moved  chan struct{}
	ready  chan struct{} // closed with the first Ready
}

func newPlainFrontend(in io.Reader, out, errOut io.Writer) *plainFrontend {
	return &plainFrontend{in: in, out: out, err: errOut, moved: make(chan struct{}, 1), ready: make(chan struct{})}
}

// run sends the lines of the input.
func (f *plainFrontend) run(ctx context.Context, s *chatSession) error {
	f.s = s
	close(s.started)
	select { // until it is known what groups there are
	case <-f.ready:
	case <-ctx.Done():
	case <-s.client.Done():
	}
	var to client.Peer
	var err error
	if s.opts.peer != "" {
		if to, err = s.findPeer(s.opts.peer); err != nil {
			return err
		}
	}
	lines := readLines(ctx, f.in)
	for {
		select {
		case <-ctx.Done():
			return f.end()
		case <-s.client.Done():
			return f.end()
		case l, ok := <-lines:
			switch {
			case !ok && s.opts.follow:
				waitEnd(ctx, s)
				return f.end()
			case !ok:
				waitAcks(ctx, s)
				return f.end()
			case l.err != nil:
				return errors.Join(l.err, f.end())
			case strings.TrimSpace(l.text) == "":
			case to == (client.Peer{}):
				return errors.New("no PEER was given to send the input to")
			default:
				if err := f.send(ctx, to, l.text); err != nil {
					return errors.Join(err, f.end())
				}
			}
		}
	}
}

// send queues a line; a full queue is waited for.
func (f *plainFrontend) send(ctx context.Context, to client.Peer, line string) error {
	for _, text := range splitText(line, im.MaxText) {
		for {
			_, err := f.s.client.Send(to, text)
			if err == nil {
				break
			}
			if im.KindOf(err) != im.Busy {
				return err
			}
			select {
			case <-f.moved:
			case <-f.s.client.Done():
			case <-ctx.Done():
				return nil // end counts what is left
			}
		}
	}
	return nil
}

// end says how it went.
func (f *plainFrontend) end() error {
	unacked := f.s.client.Pending()
	_ = f.s.client.Close() // all events come before
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.outErr != nil:
		return f.outErr
	case f.over != nil:
		return &chatError{code: exitEnded, err: f.over}
	case unacked+f.failed > 0:
		return &chatError{code: exitUnsent, err: fmt.Errorf("%d messages without acknowledgement", unacked+f.failed)}
	}
	return nil
}

// note writes to standard error.
func (f *plainFrontend) note(format string, args ...any) {
	fmt.Fprintf(f.err, "teamtalk: %s\n", cleanLine(fmt.Sprintf(format, args...)))
}

// registered says that there is a new user.
func (f *plainFrontend) registered(name string, _ uint32) { f.note("registered %s", name) }

// event writes messages to standard output and what is worth knowing to standard error.
func (f *plainFrontend) event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Ready:
		if !e.Again {
			close(f.ready)
		}
	case client.GroupChanged:
		f.note("%s", groupNews(f.s.book, e))
	case client.Received:
		f.message(e)
	case client.Acked:
		f.room()
	case client.SendFailed:
		f.failed++
		f.note("message %d was not sent: %v", e.ID, e.Err)
		f.room()
	case client.Skipped:
		f.note("too many messages with %s were missed; the older ones are in the history", f.s.book.peerName(e.Peer))
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
func (f *plainFrontend) room() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// message writes a message: its first line with time and name, the others indented.
func (f *plainFrontend) message(e client.Received) {
	text, _ := messageText(f.s.client, e.Message)
	who := f.s.book.name(e.Message.From)
	switch {
	case e.Peer.Group:
		who = f.s.book.peerName(e.Peer) + ", " + who
	case e.Message.From == f.s.book.self.ID:
		who += " to " + f.s.book.peerName(e.Peer)
	}
	text = strings.ReplaceAll(cleanText(text), "\n", "\n    ")
	_, err := fmt.Fprintf(f.out, "%s %s: %s\n", localTime(e.Message).Format("2006-01-02 15:04:05"), who, text)
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write messages: %w", err)
	}
}
