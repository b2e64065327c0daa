package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/cmd/teamtalk/internal/chat/jsonio"
	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// chatting is a running chat command, with pipes for its input and output.
type chatting struct {
	t    testing.TB
	in   *io.PipeWriter
	out  *lineReader
	errs strings.Builder
	done chan error
	stop context.CancelFunc
}

// lineReader reads lines as they arrive, so that their writer never blocks.
type lineReader struct {
	lines chan string
	line  string
}

// newLineReader returns a reader of the lines of r.
func newLineReader(r io.Reader) *lineReader {
	l := &lineReader{lines: make(chan string, 10000)}
	go func() {
		defer close(l.lines)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			l.lines <- sc.Text()
		}
	}()
	return l
}

// Scan, Text and Bytes behave as those of a bufio.Scanner.
func (l *lineReader) Scan() (ok bool) { l.line, ok = <-l.lines; return ok }
func (l *lineReader) Text() string    { return l.line }
func (l *lineReader) Bytes() []byte   { return []byte(l.line) }

// startChat runs "chat ARGS" against a server.
func startChat(t testing.TB, s *clienttest.Server, args ...string) *chatting {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	c := &chatting{t: t, in: inW, out: newLineReader(outR), done: make(chan error, 1), stop: cancel}
	cmd := newChatCommand()
	cmd.SetIn(inR)
	cmd.SetOut(outW)
	cmd.SetErr(&c.errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--msg-server", s.Addr()))
	go func() {
		err := cmd.ExecuteContext(ctx)
		_ = outW.Close()
		c.done <- err
	}()
	t.Cleanup(func() { cancel(); _ = inW.Close(); _ = outR.Close() })
	return c
}

// say writes a line of input.
func (c *chatting) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// until reads events up to the first of a kind, which it returns. It drops the others.
func (c *chatting) until(event string) jsonio.Event {
	c.t.Helper()
	for c.out.Scan() {
		var e jsonio.Event
		if err := json.Unmarshal(c.out.Bytes(), &e); err != nil {
			c.t.Fatalf("%q: %v", c.out.Text(), err)
		}
		if e.Event == event {
			return e
		}
	}
	c.t.Fatalf("no event %q before the end: %v", event, <-c.done)
	return jsonio.Event{}
}

// expect reads events up to the first of the kind of want, and compares it with want. It ignores
// the time, and the number that the client gives a message.
func (c *chatting) expect(want jsonio.Event) jsonio.Event {
	c.t.Helper()
	got := c.until(want.Event)
	equal(c.t, "event "+want.Event, got, want,
		cmpopts.IgnoreFields(jsonio.Event{}, "Time", "N"))
	return got
}

// end reads the output to its end and returns the exit code.
func (c *chatting) end() int {
	for c.out.Scan() {
	}
	return exitCode(<-c.done)
}

// exitCode returns the exit code of the process for an error.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return 1
}

// chatServer returns a server with the users alice and bob.
func chatServer(t testing.TB) *clienttest.Server {
	s := clienttest.New(t)
	s.AddUser(1, "alice")
	s.AddUser(2, "bob")
	t.Setenv(chat.EnvPassword, "")
	return s
}

// crypt returns a text as clients encrypt it.
func crypt(t testing.TB, text string) []byte {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return c.Encrypt(text)
}

// TestChatJSON lets two users exchange messages, and read history, contacts and unread counts.
func TestChatJSON(t *testing.T) {
	s := chatServer(t)
	s.Store(1, 2, crypt(t, "before"))
	bob := startChat(t, s, "bob", "alice", "--json", "--password", "bob")
	ready := bob.until("ready")
	equal(t, "user", ready.User, "bob")
	equal(t, "unread at login", ready.Unread, []jsonio.Unread{{Peer: "alice", Count: 1, Latest: 1}})
	alice := startChat(t, s, "alice", "--json", "--password", "alice")
	alice.until("ready")
	bob.expect(jsonio.Event{Event: "presence", User: "alice", Status: "online"})

	exchangeJSON(t, alice, bob)
	readJSON(t, s, bob)

	_ = alice.in.Close()
	equal(t, "exit code of alice", alice.end(), 0)
	bob.expect(jsonio.Event{Event: "presence", User: "alice", Status: "offline"})
	bob.say(`{"cmd":"quit"}`)
	bob.expect(jsonio.Event{Event: "end", Unacked: new(int)})
	equal(t, "exit code of bob", bob.end(), 0)
}

// exchangeJSON sends a message in each direction: by a command, and by a line that is no JSON.
func exchangeJSON(t *testing.T, alice, bob *chatting) {
	alice.say(`{"to":"BOB","text":"hi\u001b[31m\nthere","ref":{"a":1}}`)
	sending := alice.until("sending")
	ack := alice.expect(jsonio.Event{Event: "ack", To: "bob", ID: 2,
		Ref: map[string]any{"a": 1.0}})
	equal(t, "number of the acked message", ack.N, sending.N)
	text := "hi\x1b[31m\nthere"
	bob.expect(jsonio.Event{Event: "message", From: "alice", Peer: "alice", ID: 2, Text: &text})
	bob.say("a plain line")
	text = "a plain line"
	alice.expect(jsonio.Event{Event: "message", From: "bob", Peer: "bob", ID: 3, Text: &text})
}

// readJSON reads the history, the contacts and the unread counts of bob.
func readJSON(t *testing.T, s *clienttest.Server, bob *chatting) {
	bob.say(`{"cmd":"history","peer":"alice","n":2}`)
	if h := bob.until("history"); len(h.Messages) != 2 || h.Messages[0].ID != 2 ||
		h.Messages[1].From != "bob" {
		t.Errorf("history %+v", h)
	}
	bob.say(`{"cmd":"history","before":2}`)
	if h := bob.until("history"); len(h.Messages) != 1 || *h.Messages[0].Text != "before" {
		t.Errorf("older history %+v", h)
	}
	bob.say(`{"cmd":"contacts"}`)
	bob.expect(jsonio.Event{Event: "contacts", Contacts: []jsonio.Contact{
		{Name: "alice", Nick: "alice", ID: 1, Status: "online", Unread: 2},
	}})
	bob.say(`{"cmd":"read","peer":"alice"}`)
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
	bob.say(`{"cmd":"unread"}`)
	bob.expect(jsonio.Event{Event: "unread"})
}

// TestChatJSONErrors checks that a command that fails is reported with its line. The program
// continues, and its exit code tells of the failure.
func TestChatJSONErrors(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--password", "alice")
	for i, line := range []string{
		`{"to":"nobody","text":"x"}`, `{"to":"bob"}`, `{"text":"x"}`, `{"x":1}`,
		`{"to":"bob","text":"x"} {}`, `{`, `no peer`, `{"cmd":"dance"}`,
		`{"to":"alice","text":"x"}`, `{"to":"bob","text":"` + strings.Repeat("x", im.MaxText+1) +
			`"}`,
	} {
		c.say(line)
		if e := c.until("error"); e.Line != i+1 || e.Error == "" {
			t.Errorf("%.60s: %+v", line, e)
		}
	}
	_ = c.in.Close()
	equal(t, "exit code", c.end(), chat.ExitUnsent)
	equal(t, "messages sent", len(s.Frames(pb.CmdMsgData)), 0)
}

// TestChatJSONReconnect checks that the texts of an interruption are stored once after the
// reconnection.
func TestChatJSONReconnect(t *testing.T) {
	s := chatServer(t)
	alice, bob := startChat(t, s, "alice", "bob", "--json", "--password", "alice"),
		startChat(t, s, "bob", "--json", "--password", "bob")
	alice.until("ready")
	bob.until("ready")
	s.Crash()
	alice.until("disconnected")
	alice.say("one")
	alice.say("two")
	_ = alice.in.Close()
	s.Listen()
	alice.until("reconnected")
	for i, want := range []string{"one", "two"} {
		if m := bob.until("message"); *m.Text != want || m.ID != uint32(i+1) {
			t.Errorf("message %+v, want %q", m, want)
		}
	}
	if e := alice.until("end"); *e.Unacked != 0 {
		t.Errorf("end %+v", e)
	}
	equal(t, "exit code", alice.end(), 0)
	equal(t, "stored", len(s.Stored(1, 2)), 2)
}

// TestChatJSONUnsent checks the exit code after a message that the server did not ack.
func TestChatJSONUnsent(t *testing.T) {
	s := chatServer(t)
	s.MuteAcks(true)
	c := startChat(t, s, "alice", "bob", "--json", "--password", "alice", "--timeout", "50ms")
	c.say("hello?")
	_ = c.in.Close()
	if e := c.until("end"); *e.Unacked != 1 {
		t.Errorf("end %+v", e)
	}
	equal(t, "exit code", c.end(), chat.ExitUnsent)
}

// TestChatJSONKicked checks that a kick ends the command, with an exit code of its own.
func TestChatJSONKicked(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--follow", "--password", "alice")
	_ = c.in.Close()
	c.until("ready")
	s.Kick(1, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	c.until("kicked")
	c.until("end")
	equal(t, "exit code", c.end(), chat.ExitEnded)
}

// TestChatFollow checks that with --follow the command continues after the end of its input, and
// that an interrupt ends it with a logout.
func TestChatFollow(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--follow", "--password", "alice")
	_ = c.in.Close()
	c.until("ready")
	s.Push(1, s.Store(2, 1, crypt(t, "still there?")))
	c.until("message")
	c.stop()
	c.until("end")
	equal(t, "exit code", c.end(), 0)
	equal(t, "logouts", len(s.Frames(pb.CmdLogoutReq)), 1)
}

// TestChatPlain checks that each line of input is a message, and each message a line of output.
func TestChatPlain(t *testing.T) {
	s := chatServer(t)
	bob := startChat(t, s, "bob", "--password", "bob")
	s.WaitFrames(pb.CmdUnreadMsgCntReq, 1)
	alice := startChat(t, s, "alice", "bob", "--password", "alice")
	alice.say("hello")
	alice.say("{not json}")
	_ = alice.in.Close()
	equal(t, "exit code", alice.end(), 0)
	for _, want := range []string{"alice: hello", "alice: {not json}"} {
		if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), " "+want) {
			t.Errorf("line %q, want %q", bob.out.Text(), want)
		}
	}
	s.Push(2, s.Store(1, 2, crypt(t, "two\nlines\x1b]0;title\x07")))
	for _, want := range []string{"alice: two", "    lines]0;title"} {
		if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), want) {
			t.Errorf("line %q, want %q", bob.out.Text(), want)
		}
	}
	_ = bob.in.Close()
	equal(t, "exit code", bob.end(), 0)
	nobody := startChat(t, s, "alice", "nobody", "--password", "alice")
	equal(t, "unknown peer", nobody.end(), 1)
	wrong := startChat(t, s, "alice", "--password", "wrong")
	equal(t, "wrong password", wrong.end(), 1)
}

// TestChatPlainUnread: the messages that arrived while the user was away come first, once, and stay
// unread.
func TestChatPlainUnread(t *testing.T) {
	s := chatServer(t)
	s.Store(1, 2, crypt(t, "first"))
	s.Store(1, 2, crypt(t, "second"))
	for range 2 {
		bob := startChat(t, s, "bob", "--password", "bob")
		for _, want := range []string{"alice: first", "alice: second"} {
			if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), " "+want) {
				t.Errorf("line %q, want %q", bob.out.Text(), want)
			}
		}
		_ = bob.in.Close()
		equal(t, "exit code", bob.end(), 0)
		if bob.out.Scan() {
			t.Errorf("one more line: %q", bob.out.Text())
		}
		if !strings.Contains(bob.errs.String(), "2 unread from alice") {
			t.Errorf("standard error: %q", bob.errs.String())
		}
	}
}

// TestChatPlainMany sends more lines than may be unacked at the same time.
func TestChatPlainMany(t *testing.T) {
	if testing.Short() {
		t.Skip("sends at the pace that servers allow")
	}
	s := chatServer(t)
	c := startChat(t, s, "alice", "bob", "--password", "alice")
	for range 30 {
		c.say("line")
	}
	_ = c.in.Close()
	equal(t, "exit code", c.end(), 0)
	equal(t, "stored", len(s.Stored(1, 2)), 30)
}

// equal compares a value with the one wanted, and prints the difference.
func equal(t testing.TB, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}
