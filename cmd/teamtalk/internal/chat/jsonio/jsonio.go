// Package jsonio is the chat frontend for programs: commands come in and events go out as JSON
// lines. Help documents both.
package jsonio

import (
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

// Help documents the commands and the events, for the help text of the chat command.
const Help = `
With --json, standard input takes one command a line:
  {"to":"bob","text":"hi","ref":"any"}        send; ref is optional and comes back
  a line that does not start with {           a text to PEER
  {"cmd":"history","peer":"bob","n":20}       older ones: "before":ID
  {"cmd":"read","peer":"bob"}                 mark as read; nothing else does
  {"cmd":"contacts"}  {"cmd":"unread"}  {"cmd":"quit"}
  {"cmd":"list"}  {"cmd":"departs"}           conversations; departments with who is in them
  {"cmd":"status","users":["bob"]}            ask the server who is online; without users: everybody
  {"cmd":"voice","to":"bob","file":"a.amr","seconds":3}
  {"cmd":"typing","peer":"bob"}               "off":true when it stops
  {"cmd":"sign","text":"at lunch"}  {"cmd":"avatar","text":"http://…"}
  {"cmd":"remove_session","peer":"bob"}       out of the list, until the next message
  {"cmd":"push_shield","on":true}             no pushes at night; without on: ask
  {"cmd":"kick_pc"}                           with --mobile: end the session of one's pc client
  {"cmd":"send_file","to":"bob","file":"a.pdf"}   now if bob is there, else, or with "offline":true, by way
                                              of the server
  {"cmd":"files"}                             those that wait, and those under way
  {"cmd":"get_file","n":1}                    into the folder of --downloads; also refuse_file, cancel_file
  {"cmd":"groups"}                            those one is in
  {"cmd":"create_group","name":"dev","users":["bob"]}
  {"cmd":"add_members","peer":"#dev","users":["carol"]}      also remove_members
  {"cmd":"leave_group","peer":"#dev"}  {"cmd":"mute","peer":"#dev"}  {"cmd":"unmute","peer":"#dev"}
Wherever a peer or to stands it may be "#dev", or instead of it "group":7, the group's number.
and standard output has one event a line, told apart by "event":
  registered {user,id}                        with --register: there is such a user now
  ready {user,server,unread}                  logged in; commands before it are not lost
  message {peer,from,id,time,text,missed}     received, each once; from USER: another device; of a group with
                                              group; kind audio: with seconds, bytes; kind other: no text
  sending ack failed {n,to,ref,id,error}      n counts the messages sent, from 1
  history {peer,messages}  contacts {contacts}  unread {unread}
  list {list}  departs {departs}  groups {groups}  status {contacts}
  done {cmd,ref,peer,group,on}                any other command was done; create_group: the new group
  presence {user,status}   read {peer,id}     read: on another device
  group {peer,group,by,added,removed,members,left}   changed by somebody, or new; left: one is not in it
  session_removed {peer}                      on another device
  sign {user,text}  avatar {user,text}  typing {user,status}  pc {status}  command {from,to,text}
  disconnected {error}  retrying {attempt,error,seconds}  reconnected {server}
  file {file}  files {files}                  a file {n,name,size,from,to,online,state,moved,path,task,error}
                                              with a state: coming, offered (its sender waits), waiting (at
                                              the server), sending, fetching, done, cancelled, refused,
                                              failed, paused (until the next login)
  skipped {peer,below}                        too many were missed: see history
  kicked {reason}  refused {error}            the session is over
  error {error,line}                          a command that could not be done
  end {unacked}                               the last line
Exit codes: 0 done; 1 no connection, or login or registration refused; 2 usage; 3 not everything was
acknowledged, or a command failed; 4 kicked or refused later.
`

// Event is a line of output.
type Event struct {
	Event    string    `json:"event"`
	User     string    `json:"user,omitempty"`
	Server   string    `json:"server,omitempty"`
	Peer     string    `json:"peer,omitempty"`
	Group    uint32    `json:"group,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
	N        uint64    `json:"n,omitempty"`
	Ref      any       `json:"ref,omitempty"`
	ID       uint32    `json:"id,omitempty"`
	Time     string    `json:"time,omitempty"`
	Text     *string   `json:"text,omitempty"`
	Kind     string    `json:"kind,omitempty"` // of a message that is no text
	Missed   bool      `json:"missed,omitempty"`
	Status   string    `json:"status,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	Seconds  float64   `json:"seconds,omitempty"`
	Below    uint32    `json:"below,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Error    string    `json:"error,omitempty"`
	Line     int       `json:"line,omitempty"`
	Unacked  *int      `json:"unacked,omitempty"`
	Unread   []Unread  `json:"unread,omitempty"`
	Messages []Event   `json:"messages,omitempty"`
	Contacts []Contact `json:"contacts,omitempty"`
	Bytes    int       `json:"bytes,omitempty"` // of a sound
	Cmd      string    `json:"cmd,omitempty"`
	On       *bool     `json:"on,omitempty"`
	By       string    `json:"by,omitempty"`
	Added    []string  `json:"added,omitempty"`
	Removed  []string  `json:"removed,omitempty"`
	Members  []string  `json:"members,omitempty"`
	Left     bool      `json:"left,omitempty"`
	Groups   *[]Group  `json:"groups,omitempty"`
	List     *[]Talk   `json:"list,omitempty"`
	Departs  *[]Depart `json:"departs,omitempty"`
	File     *File     `json:"file,omitempty"`
	Files    *[]*File  `json:"files,omitempty"`
}

// Unread is a conversation with unread messages.
type Unread struct {
	Peer   string `json:"peer"`
	Group  uint32 `json:"group,omitempty"`
	Count  uint32 `json:"count"`
	Latest uint32 `json:"latest_id"`
}

// Contact is a user.
type Contact struct {
	Name   string `json:"name"`
	Nick   string `json:"nick"`
	ID     uint32 `json:"id"`
	Status string `json:"status"`
	Unread uint32 `json:"unread"`
	Sign   string `json:"sign,omitempty"`
}

// Command is a line of input.
type Command struct {
	To     string `json:"to"`
	Text   string `json:"text"`
	Ref    any    `json:"ref"`
	Cmd    string `json:"cmd"`
	Peer   string `json:"peer"`
	N      int    `json:"n"`
	Before uint32 `json:"before"`
	ID     uint32 `json:"id"`

	Group   uint32   `json:"group"`
	Name    string   `json:"name"`
	Users   []string `json:"users"`
	File    string   `json:"file"`
	Seconds uint32   `json:"seconds"`
	On      *bool    `json:"on"`
	Off     bool     `json:"off"`
	Offline bool     `json:"offline"`
}

// Frontend is for programs.
type Frontend struct {
	in    io.Reader
	s     *chat.Session
	ready chan struct{} // closed with the first Ready

	mu     sync.Mutex // guards what follows, and the order of lines
	out    *json.Encoder
	refs   map[uint64]any
	failed bool
	over   error         // the session's end, as the server wished it
	moved  chan struct{} // a message left the queue
	outErr error
}

// New makes a frontend that reads commands from in and writes events to out.
func New(in io.Reader, out io.Writer) *Frontend {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return &Frontend{in: in, out: enc, refs: make(map[uint64]any), moved: make(chan struct{}, 1), ready: make(chan struct{})}
}

// put writes a line; f.mu is held.
func (f *Frontend) put(e Event) {
	if err := f.out.Encode(e); err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write events: %w", err)
	}
}

func (f *Frontend) fail(line int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = true
	f.put(Event{Event: "error", Line: line, Error: err.Error()})
}

// Registered says that there is a new user.
func (f *Frontend) Registered(name string, id uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(Event{Event: "registered", User: name, ID: id})
}

// Run executes the lines of the input.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	s.Start()
	select {
	case <-f.ready:
	case <-ctx.Done():
	case <-s.Client.Done():
	}
	lines := chat.ReadLines(ctx, f.in)
	for n, done := 1, false; !done; n++ {
		select {
		case <-ctx.Done():
			return f.end(true)
		case <-s.Client.Done():
			return f.end(true)
		case l, ok := <-lines:
			switch {
			case !ok:
				done = true
			case l.Err != nil:
				f.fail(n, l.Err)
				done = true
			default:
				quit, err := f.line(ctx, n, l.Text)
				if err != nil {
					f.fail(n, err)
				}
				done = quit
			}
			if done && s.Opts.Follow && !ok {
				chat.WaitEnd(ctx, s)
			}
		}
	}
	chat.WaitAcks(ctx, s)
	s.Files.Wait(ctx, s.Opts.Timeout)
	return f.end(false)
}

// end writes the last line and says how it went.
func (f *Frontend) end(interrupted bool) error {
	unacked, unmoved := f.s.Client.Pending(), f.s.Files.Busy()+f.s.Files.Failures()
	_ = f.s.Client.Close() // all events come before the last line
	f.s.Files.Running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(Event{Event: "end", Unacked: &unacked})
	switch {
	case f.outErr != nil:
		return f.outErr
	case f.over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: f.over}
	case unacked > 0:
		return &chat.Error{Code: chat.ExitUnsent, Err: fmt.Errorf("%d messages without acknowledgement", unacked)}
	case (f.failed || unmoved > 0) && !interrupted:
		return &chat.Error{Code: chat.ExitUnsent, Err: errors.New("not everything could be done: see the events")}
	}
	return nil
}

// line executes one line of input; true means quit.
func (f *Frontend) line(ctx context.Context, n int, text string) (bool, error) {
	if strings.TrimSpace(text) == "" {
		return false, nil
	}
	cmd := Command{To: f.s.Opts.Peer, Text: text}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		cmd = Command{}
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&cmd); err != nil {
			return false, fmt.Errorf("not a command: %w", err)
		}
		if dec.More() {
			return false, errors.New("more than one command on a line")
		}
	} else if cmd.To == "" {
		return false, errors.New("a plain line, but no PEER was given to send it to")
	}
	ctx, cancel := context.WithTimeout(ctx, f.s.Opts.Timeout)
	defer cancel()
	switch cmd.Cmd {
	case "":
		return false, f.send(ctx, cmd)
	case "quit":
		return true, nil
	case "contacts":
		f.contacts()
		return false, nil
	case "unread":
		f.mu.Lock()
		defer f.mu.Unlock()
		f.put(Event{Event: "unread", Unread: f.unread()})
		return false, nil
	case "history", "read":
		return false, f.conversation(ctx, cmd)
	}
	if do, ok := jsonCommands()[cmd.Cmd]; ok {
		return false, do(f, ctx, cmd)
	}
	return false, fmt.Errorf("unknown cmd %q", cmd.Cmd)
}

// send queues a text.
func (f *Frontend) send(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.To)
	if err != nil {
		return err
	}
	return f.queue(ctx, p, cmd, func() (uint64, error) { return f.s.Client.Send(p, cmd.Text) })
}

// peer is whom a command is about: a group's number, else a name, else PEER.
func (f *Frontend) peer(group uint32, name string) (client.Peer, error) {
	if group != 0 {
		return client.Peer{ID: group, Group: true}, nil
	}
	if name == "" {
		if name = f.s.Opts.Peer; name == "" {
			return client.Peer{}, errors.New("neither name nor group, and no PEER was given")
		}
	}
	return f.s.FindPeer(name)
}

// queue sends a message; a full queue is waited for.
func (f *Frontend) queue(ctx context.Context, p client.Peer, cmd Command, send func() (uint64, error)) error {
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

func (f *Frontend) contacts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := Event{Event: "contacts", Contacts: []Contact{}}
	for _, c := range f.s.Book.List("") {
		e.Contacts = append(e.Contacts, Contact{Name: c.Name, Nick: c.Nick, ID: c.ID, Status: statusWord(c), Unread: c.Unread, Sign: c.SignInfo})
	}
	f.put(e)
}

// statWord is a presence.
func statWord(s pb.UserStatType) string {
	switch s {
	case pb.UserStatType_USER_STATUS_ONLINE:
		return "online"
	case pb.UserStatType_USER_STATUS_LEAVE:
		return "away"
	}
	return "offline"
}

// statusWord is a contact's presence.
func statusWord(c chat.Contact) string {
	switch {
	case c.Away:
		return "away"
	case c.Online:
		return "online"
	}
	return "offline"
}

// conversation does what is asked of one.
func (f *Frontend) conversation(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err != nil {
		return err
	}
	if cmd.Cmd == "read" {
		id := cmd.ID
		if id == 0 {
			id = f.s.Book.UnreadOf(p).Latest
		}
		f.s.Client.MarkRead(p, id)
		f.s.Book.ClearUnread(p)
		return nil
	}
	if cmd.N <= 0 {
		cmd.N = f.s.Opts.History
	}
	begin := uint32(0)
	if cmd.Before == 1 {
		cmd.N = 0
	} else if cmd.Before > 1 {
		begin = cmd.Before - 1
	}
	list, err := chat.History(ctx, f.s.Client, p, begin, cmd.N)
	if err != nil {
		return err
	}
	e := Event{Event: "history", Peer: f.s.Book.PeerName(p), Messages: []Event{}}
	for _, m := range list {
		line := f.message(p, m)
		line.Event = "message"
		e.Messages = append(e.Messages, line)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(e)
	return nil
}

// message is a message in JSON.
func (f *Frontend) message(p client.Peer, m im.Message) Event {
	text, ok := chat.MessageText(f.s.Client, m)
	e := Event{
		Event: "message", Peer: f.s.Book.PeerName(p), From: f.s.Book.PlainName(m.From), ID: m.ID, Time: chat.LocalTime(m).Format(time.RFC3339), Text: &text,
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

// Event writes an event of the Client.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		if e.Again {
			f.put(Event{Event: "reconnected", Server: e.Addr})
		}
	case client.Ready:
		if !e.Again {
			f.put(Event{Event: "ready", User: f.s.Book.Self.Name, Server: f.s.Client.Server(), Unread: f.unread()})
			close(f.ready)
		}
	case client.Disconnected:
		f.put(Event{Event: "disconnected", Error: e.Err.Error()})
	case client.Retrying:
		f.put(Event{Event: "retrying", Attempt: e.Attempt, Error: e.Err.Error(), Seconds: e.Delay.Seconds()})
	case client.Received:
		line := f.message(e.Peer, e.Message)
		line.Missed = e.Missed
		f.put(line)
	case client.Skipped:
		f.put(Event{Event: "skipped", Peer: f.s.Book.PeerName(e.Peer), Below: e.Below})
	case client.Acked:
		f.put(Event{Event: "ack", N: e.ID, To: f.s.Book.PeerName(e.Peer), ID: e.MsgID, Ref: f.settled(e.ID)})
	case client.SendFailed:
		f.failed = true
		f.put(Event{Event: "failed", N: e.ID, To: f.s.Book.PeerName(e.Peer), Error: e.Err.Error(), Ref: f.settled(e.ID)})
	case client.Presence:
		if e.User != f.s.Book.Self.ID {
			f.put(Event{Event: "presence", User: f.s.Book.PlainName(e.User), Status: statWord(e.Status)})
		}
	case client.ReadElsewhere:
		f.put(Event{Event: "read", Peer: f.s.Book.PeerName(e.Peer), ID: e.MsgID})
	case client.Kicked:
		f.over = errors.New("kicked: the same user logged in elsewhere, or ended this session from a phone")
		f.put(Event{Event: "kicked", Reason: e.Reason.String()})
	case client.Refused:
		f.over = e.Err
		f.put(Event{Event: "refused", Error: e.Err.Error()})
	default:
		f.happened(e)
	}
}

// settled takes a message's ref, and tells who waits for room in the queue; f.mu is held.
func (f *Frontend) settled(id uint64) any {
	ref := f.refs[id]
	delete(f.refs, id)
	select {
	case f.moved <- struct{}{}:
	default:
	}
	return ref
}
