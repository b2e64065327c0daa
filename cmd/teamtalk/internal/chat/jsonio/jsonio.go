// Package jsonio is the chat frontend for programs: it reads commands and writes events,
// as lines of JSON. Help documents both, and protocol.go has their types.
package jsonio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Options describe the defaults of commands.
type Options struct {
	Peer    string        // the user or #GROUP of commands that name none; empty: they are errors
	Follow  bool          // continue after the end of the input
	History int           // messages of a history command without n
	Timeout time.Duration // of each command, and for unacknowledged messages at the end
}

// Frontend executes the commands of its input, and writes events to its output.
type Frontend struct {
	in   io.Reader
	opts Options
	s    *chat.Session

	mu     sync.Mutex // guards what follows, and the order of lines
	out    *json.Encoder
	refs   map[uint64]any // the commands' refs, by the numbers of unacked messages
	failed bool           // a command or a message failed
	over   error          // why the server ended the session
	moved  chan struct{}  // receives when a message has left the queue
	outErr error
}

// New returns a frontend that reads commands from in and writes events to out.
func New(in io.Reader, out io.Writer, o Options) *Frontend {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &Frontend{
		in: in, out: enc, opts: o, refs: make(map[uint64]any), moved: make(chan struct{}, 1),
	}
}

// put writes a line. f.mu is held.
func (f *Frontend) put(e Event) {
	if err := f.out.Encode(e); err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write events: %w", err)
	}
}

// fail writes the error of a line of input.
func (f *Frontend) fail(line int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = true
	f.put(Event{Event: "error", Line: line, Error: err.Error()})
}

// Registered reports the new user.
func (f *Frontend) Registered(name string, id uint32) {
	f.say(Event{Event: "registered", User: name, ID: id})
}

// Run executes the lines of the input.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	s.Start()
	s.WaitReady(ctx)
	last, quit := 0, false
	interrupted, err := s.ReadLines(ctx, f.in, func(n int, line string) bool {
		var err error
		last = n
		if quit, err = f.line(ctx, line); err != nil {
			f.fail(n, err)
		}
		return !quit
	})
	if interrupted {
		return f.end(true)
	}
	if err != nil {
		f.fail(last+1, err)
	} else if !quit && f.opts.Follow {
		s.WaitEnd(ctx)
	}
	s.Flush(ctx, f.opts.Timeout)
	s.Files.Wait(ctx, f.opts.Timeout)
	return f.end(false)
}

// end closes the session, writes the last event, and returns the outcome. An interrupted
// session is not blamed for commands that failed.
func (f *Frontend) end(interrupted bool) error {
	unacked, unmoved := f.s.Client.Pending(), f.s.Files.Busy()+f.s.Files.Failures()
	f.s.Close() // all events are delivered before it returns
	f.s.Files.WaitStopped()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(Event{Event: "end", Unacked: &unacked})
	switch {
	case f.outErr != nil:
		return f.outErr
	case f.over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: f.over}
	case unacked > 0:
		return &chat.Error{Code: chat.ExitUnsent,
			Err: fmt.Errorf("%d messages without acknowledgement", unacked)}
	case (f.failed || unmoved > 0) && !interrupted:
		return &chat.Error{Code: chat.ExitUnsent,
			Err: errors.New("a command or a transfer failed: see the events")}
	}
	return nil
}

// line executes one line of input, and reports whether it was the command to quit.
func (f *Frontend) line(ctx context.Context, text string) (quit bool, err error) {
	if strings.TrimSpace(text) == "" {
		return false, nil
	}
	cmd, err := f.parse(text)
	if err != nil {
		return false, err
	}
	if cmd.Cmd == "quit" {
		return true, nil
	}
	do, ok := commands()[cmd.Cmd]
	if !ok {
		return false, fmt.Errorf("unknown cmd %q", cmd.Cmd)
	}
	ctx, cancel := context.WithTimeout(ctx, f.opts.Timeout)
	defer cancel()
	return false, do(f, ctx, cmd)
}

// parse returns the command of a line: a JSON object, or a plain text to Options.Peer.
func (f *Frontend) parse(text string) (cmd Command, err error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if f.opts.Peer == "" {
			return cmd, errors.New("a plain line, but no PEER was given to send it to")
		}
		return Command{To: f.opts.Peer, Text: text}, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&cmd); err != nil {
		return cmd, fmt.Errorf("not a command: %w", err)
	}
	if dec.More() {
		return cmd, errors.New("more than one command on a line")
	}
	return cmd, nil
}

// send sends a text.
func (f *Frontend) send(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.To)
	if err != nil {
		return err
	}
	return f.queue(ctx, p, cmd, func() (uint64, error) { return f.s.Client.Send(p, cmd.Text) })
}

// peer returns the conversation of a command: by the number of a group, else by a name,
// else Options.Peer.
func (f *Frontend) peer(group uint32, name string) (client.Peer, error) {
	if group != 0 {
		return client.Peer{ID: group, Group: true}, nil
	}
	if name == "" {
		if name = f.opts.Peer; name == "" {
			return client.Peer{}, errors.New("neither name nor group, and no PEER was given")
		}
	}
	return f.s.FindPeer(name)
}

// queue sends a message. It waits while the queue is full.
func (f *Frontend) queue(ctx context.Context, p client.Peer, cmd Command,
	send func() (uint64, error)) error {
	for {
		f.mu.Lock()
		id, err := send()
		if err == nil {
			if cmd.Ref != nil {
				f.refs[id] = cmd.Ref
			}
			f.put(Event{Event: "sending", N: id, To: f.s.Book.PeerName(p), Ref: cmd.Ref})
		}
		f.mu.Unlock()
		if im.KindOf(err) != im.Busy || err == nil {
			return err
		}
		select {
		case <-f.moved:
		case <-f.s.Client.Done():
		case <-ctx.Done():
			return err
		}
	}
}

// contacts writes the users of the book.
func (f *Frontend) contacts(context.Context, Command) error {
	e := Event{Event: "contacts", Contacts: []Contact{}}
	for _, c := range f.s.Book.List("") {
		e.Contacts = append(e.Contacts, Contact{
			Name: c.Name, Nick: c.Nick, ID: c.ID, Status: statusWord(c), Unread: c.Unread,
			Sign: c.SignInfo,
		})
	}
	f.say(e)
	return nil
}

// statWord returns the word for a presence.
func statWord(s pb.UserStatType) string {
	switch s {
	case pb.UserStatType_USER_STATUS_ONLINE:
		return "online"
	case pb.UserStatType_USER_STATUS_LEAVE:
		return "away"
	}
	return "offline"
}

// statusWord returns the word for the presence of a contact.
func statusWord(c chat.Contact) string {
	switch {
	case c.Away:
		return "away"
	case c.Online:
		return "online"
	}
	return "offline"
}

// read marks a conversation as read up to a message, by default the newest unread one.
func (f *Frontend) read(_ context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err != nil {
		return err
	}
	id := cmd.ID
	if id == 0 {
		id = f.s.Book.UnreadOf(p).Latest
	}
	f.s.MarkRead(p, id)
	return nil
}

// history writes messages of a conversation.
func (f *Frontend) history(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err != nil {
		return err
	}
	if cmd.N <= 0 {
		cmd.N = f.opts.History
	}
	begin := uint32(0)
	if cmd.Before == 1 {
		cmd.N = 0
	} else if cmd.Before > 1 {
		begin = cmd.Before - 1
	}
	list, err := f.s.History(ctx, p, begin, cmd.N)
	if err != nil {
		return err
	}
	e := Event{Event: "history", Peer: f.s.Book.PeerName(p), Messages: []Event{}}
	for _, m := range list {
		line := f.message(p, m)
		line.Event = "message"
		e.Messages = append(e.Messages, line)
	}
	f.say(e)
	return nil
}

// message returns a message as an event.
func (f *Frontend) message(p client.Peer, m im.Message) Event {
	text, ok := f.s.Text(m)
	e := Event{
		Event: "message", Peer: f.s.Book.PeerName(p), From: f.s.Book.PlainName(m.From), ID: m.ID,
		Time: chat.LocalTime(m).Format(time.RFC3339), Text: &text,
	}
	if p.Group {
		e.Group = p.ID
	}
	if seconds, sound, audio := client.Sound(m); audio {
		e.Kind, e.Seconds, e.Bytes = "audio", float64(seconds), len(sound)
	} else if !ok {
		e.Kind = "other"
	}
	return e
}

// unread returns the conversations with unread messages.
func (f *Frontend) unread() []Unread {
	list := []Unread{}
	for _, u := range f.s.Book.AllUnread() {
		j := Unread{Peer: f.s.Book.PeerName(u.Peer), Count: u.Count, Latest: u.Latest}
		if u.Peer.Group {
			j.Group = u.Peer.ID
		}
		list = append(list, j)
	}
	return list
}

// Event writes an event of the client.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Received:
		line := f.message(e.Peer, e.Message)
		line.Missed = e.Missed
		f.put(line)
	case client.Skipped:
		f.put(Event{Event: "skipped", Peer: f.s.Book.PeerName(e.Peer), Below: e.Below})
	case client.Acked:
		f.put(Event{
			Event: "ack", N: e.ID, To: f.s.Book.PeerName(e.Peer), ID: e.MsgID, Ref: f.settled(e.ID),
		})
	case client.SendFailed:
		f.failed = true
		f.put(Event{
			Event: "failed", N: e.ID, To: f.s.Book.PeerName(e.Peer), Error: e.Err.Error(),
			Ref: f.settled(e.ID),
		})
	case client.Presence:
		if e.User != f.s.Book.SelfID() {
			f.put(Event{Event: "presence", User: f.s.Book.PlainName(e.User),
				Status: statWord(e.Status)})
		}
	case client.ReadElsewhere:
		f.put(Event{Event: "read", Peer: f.s.Book.PeerName(e.Peer), ID: e.MsgID})
	default:
		if !f.connection(e) {
			f.happened(e)
		}
	}
}

// connection writes an event about the connection, and reports whether e is one. f.mu is
// held.
func (f *Frontend) connection(e client.Event) bool {
	switch e := e.(type) {
	case client.Connected:
		if e.Again {
			f.put(Event{Event: "reconnected", Server: e.Addr})
		}
	case client.Ready:
		if !e.Again {
			f.put(Event{
				Event: "ready", User: f.s.Book.Self().Name, Server: f.s.Client.Server(),
				Unread: f.unread(),
			})
		}
	case client.Disconnected:
		f.put(Event{Event: "disconnected", Error: e.Err.Error()})
	case client.Retrying:
		f.put(Event{
			Event: "retrying", Attempt: e.Attempt, Error: e.Err.Error(), Seconds: e.Delay.Seconds(),
		})
	case client.Kicked:
		f.over = errors.New("kicked: " + cmp.Or(chat.CleanLine(e.Text),
			"the same user logged in elsewhere, or ended this session from a phone"))
		event := Event{Event: "kicked", Reason: e.Reason.String()}
		if e.Text != "" {
			event.Text = &e.Text
		}
		f.put(event)
	case client.Refused:
		f.over = e.Err
		f.put(Event{Event: "refused", Error: e.Err.Error()})
	default:
		return false
	}
	return true
}

// settled removes and returns the ref of a message, and tells queue that the queue is
// shorter. f.mu is held.
func (f *Frontend) settled(id uint64) any {
	ref := f.refs[id]
	delete(f.refs, id)
	select {
	case f.moved <- struct{}{}:
	default:
	}
	return ref
}
