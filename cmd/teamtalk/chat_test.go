package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"teamtalk/core/client/clienttest"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// chatting is a chat command that runs, with pipes for its input and output.
type chatting struct {
	t    testing.TB
	in   *io.PipeWriter
	out  *lineReader
	errs strings.Builder
	done chan error
	stop context.CancelFunc
}

// lineReader reads lines as they come, so that who writes them is never held up.
type lineReader struct {
	lines chan string
	line  string
}

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

// Scan, Text and Bytes are as those of a bufio.Scanner.
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

// until reads events up to one of a kind, which it returns; the rest is dropped.
func (c *chatting) until(event string) jsonEvent {
	c.t.Helper()
	for c.out.Scan() {
		var e jsonEvent
		if err := json.Unmarshal(c.out.Bytes(), &e); err != nil {
			c.t.Fatalf("%q: %v", c.out.Text(), err)
		}
		if e.Event == event {
			return e
		}
	}
	c.t.Fatalf("no event %q before the end: %v", event, <-c.done)
	return jsonEvent{}
}

// end reads the output to its end and returns the exit code.
func (c *chatting) end() int {
	for c.out.Scan() {
	}
	return exitCode(<-c.done)
}

// exitCode is what the process would end with.
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

func chatServer(t testing.TB) *clienttest.Server {
	s := clienttest.New(t)
	s.AddUser(1, "alice")
	s.AddUser(2, "bob")
	t.Setenv(envPassword, "")
	return s
}

func crypt(t testing.TB, text string) []byte {
	t.Helper()
	c, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	return c.Encrypt(text)
}

func TestChatJSON(t *testing.T) {
	s := chatServer(t)
	s.Store(1, 2, crypt(t, "before"))
	bob := startChat(t, s, "bob", "alice", "--json", "--password", "bob")
	ready := bob.until("ready")
	if ready.User != "bob" || len(ready.Unread) != 1 || ready.Unread[0] != (jsonUnread{Peer: "alice", Count: 1, Latest: 1}) {
		t.Errorf("ready %+v", ready)
	}
	alice := startChat(t, s, "alice", "--json", "--password", "alice")
	alice.until("ready")
	if e := bob.until("presence"); e.User != "alice" || e.Status != "online" {
		t.Errorf("presence %+v", e)
	}
	alice.say(`{"to":"BOB","text":"hi\u001b[31m\nthere","ref":{"a":1}}`)
	sending := alice.until("sending")
	if ack := alice.until("ack"); ack.N != sending.N || ack.ID != 2 || ack.To != "bob" || ack.Ref == nil {
		t.Errorf("ack %+v of %+v", ack, sending)
	}
	if m := bob.until("message"); m.From != "alice" || m.Peer != "alice" || m.ID != 2 || *m.Text != "hi\x1b[31m\nthere" || m.Missed {
		t.Errorf("message %+v", m)
	}
	bob.say("a plain line")
	if m := alice.until("message"); *m.Text != "a plain line" {
		t.Errorf("message %+v", m)
	}
	bob.say(`{"cmd":"history","peer":"alice","n":2}`)
	if h := bob.until("history"); len(h.Messages) != 2 || h.Messages[0].ID != 2 || h.Messages[1].From != "bob" {
		t.Errorf("history %+v", h)
	}
	bob.say(`{"cmd":"history","before":2}`)
	if h := bob.until("history"); len(h.Messages) != 1 || *h.Messages[0].Text != "before" {
		t.Errorf("older history %+v", h)
	}
	bob.say(`{"cmd":"contacts"}`)
	if e := bob.until("contacts"); len(e.Contacts) != 1 || e.Contacts[0] != (jsonContact{Name: "alice", Nick: "alice", ID: 1, Status: "online", Unread: 2}) {
		t.Errorf("contacts %+v", e)
	}
	bob.say(`{"cmd":"read","peer":"alice"}`)
	s.WaitFrames(pb.CmdMsgDataReadAck, 1)
	bob.say(`{"cmd":"unread"}`)
	if e := bob.until("unread"); len(e.Unread) != 0 {
		t.Errorf("unread %+v", e)
	}
	_ = alice.in.Close()
	if code := alice.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if e := bob.until("presence"); e.Status != "offline" {
		t.Errorf("presence %+v", e)
	}
	bob.say(`{"cmd":"quit"}`)
	if e := bob.until("end"); *e.Unacked != 0 {
		t.Errorf("end %+v", e)
	}
	if code := bob.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Commands that cannot be done are told with their line, do not end the program, and show in the exit code.
func TestChatJSONErrors(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--password", "alice")
	for i, line := range []string{
		`{"to":"nobody","text":"x"}`, `{"to":"bob"}`, `{"text":"x"}`, `{"x":1}`, `{"to":"bob","text":"x"} {}`, `{`, `no peer`, `{"cmd":"dance"}`,
		`{"to":"alice","text":"x"}`, `{"to":"bob","text":"` + strings.Repeat("x", im.MaxText+1) + `"}`,
	} {
		c.say(line)
		if e := c.until("error"); e.Line != i+1 || e.Error == "" {
			t.Errorf("%.60s: %+v", line, e)
		}
	}
	_ = c.in.Close()
	if code := c.end(); code != exitUnsent {
		t.Errorf("exit code %d", code)
	}
	equalInt(t, "messages sent", len(s.Frames(pb.CmdMsgData)), 0)
}

// The server goes away in the middle: what was said stays said, and said once.
func TestChatJSONReconnect(t *testing.T) {
	s := chatServer(t)
	alice, bob := startChat(t, s, "alice", "bob", "--json", "--password", "alice"), startChat(t, s, "bob", "--json", "--password", "bob")
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
	equalInt(t, "exit code", alice.end(), 0)
	equalInt(t, "stored", len(s.Stored(1, 2)), 2)
}

func TestChatJSONUnsent(t *testing.T) {
	s := chatServer(t)
	s.MuteAcks(true)
	c := startChat(t, s, "alice", "bob", "--json", "--password", "alice", "--timeout", "50ms")
	c.say("hello?")
	_ = c.in.Close()
	if e := c.until("end"); *e.Unacked != 1 {
		t.Errorf("end %+v", e)
	}
	equalInt(t, "exit code", c.end(), exitUnsent)
}

func TestChatJSONKicked(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--follow", "--password", "alice")
	_ = c.in.Close()
	c.until("ready")
	s.Kick(1, pb.KickReasonType_KICK_REASON_DUPLICATE_USER)
	c.until("kicked")
	c.until("end")
	equalInt(t, "exit code", c.end(), exitEnded)
}

// --follow outlives the input; an interrupt is a clean end.
func TestChatFollow(t *testing.T) {
	s := chatServer(t)
	c := startChat(t, s, "alice", "--json", "--follow", "--password", "alice")
	_ = c.in.Close()
	c.until("ready")
	s.Push(1, s.Store(2, 1, crypt(t, "still there?")))
	c.until("message")
	c.stop()
	c.until("end")
	equalInt(t, "exit code", c.end(), 0)
	equalInt(t, "logouts", len(s.Frames(pb.CmdLogoutReq)), 1)
}

func TestChatPlain(t *testing.T) {
	s := chatServer(t)
	bob := startChat(t, s, "bob", "--password", "bob")
	s.WaitFrames(pb.CmdUnreadMsgCntReq, 1)
	alice := startChat(t, s, "alice", "bob", "--password", "alice")
	alice.say("hello")
	alice.say("{not json}")
	_ = alice.in.Close()
	equalInt(t, "exit code", alice.end(), 0)
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
	equalInt(t, "exit code", bob.end(), 0)
	nobody := startChat(t, s, "alice", "nobody", "--password", "alice")
	equalInt(t, "unknown peer", nobody.end(), 1)
	wrong := startChat(t, s, "alice", "--password", "wrong")
	equalInt(t, "wrong password", wrong.end(), 1)
}

// More lines than may wait for their acks at once.
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
	equalInt(t, "exit code", c.end(), 0)
	equalInt(t, "stored", len(s.Stored(1, 2)), 30)
}

func equalInt(t testing.TB, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain 世界 😀": "plain 世界 😀", "a\x1b[31mb": "a[31mb", "a\rb\r\nc": "a\nb\nc", "\x07\x00\x7f\u009b1m": "1m", "a\tb": "a b",
		"\u202eevil\u202c \u2066x\u2069": "evil x", "\xff\xfe": "�", "a\u2028b": "a\nb", "👩\u200d🚀": "👩\u200d🚀",
	} {
		if got := cleanText(in); got != want {
			t.Errorf("cleanText(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzCleanText(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\x9b31m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanText(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("cleanText(%q) = %q", s, got)
		}
		if cleanText(got) != got {
			t.Errorf("%q is not clean yet: %q", got, cleanText(got))
		}
		if line := cleanLine(s); strings.Contains(line, "\n") {
			t.Errorf("cleanLine(%q) = %q", s, line)
		}
		for _, width := range []int{4, 17} {
			for _, l := range wrapText(got, width) {
				if typedRows(l, width+1) != 1 {
					t.Errorf("%q is wider than %d", l, width)
				}
			}
		}
		if joined := strings.Join(splitText(s, 50), ""); len(joined) > len(s) || len(joined) < len(s)-len(s)/25 {
			t.Errorf("%q was split into %q", s, splitText(s, 50))
		}
	})
}

func TestWrapText(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  []string
	}{
		{"one two three", 8, []string{"one two", "three"}},
		{"one two", 7, []string{"one two"}},
		{"a\n\nb", 8, []string{"a", "", "b"}},
		{"abcdefghij", 4, []string{"abcd", "efgh", "ij"}},
		{"世界世界", 5, []string{"世界", "世界"}},
		{"bob: https://example.com/x", 12, []string{"bob: https:/", "/example.com", "/x"}},
	} {
		if got := wrapText(c.in, c.width); !slices.Equal(got, c.want) {
			t.Errorf("wrapText(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestSplitText(t *testing.T) {
	long := strings.Repeat("世", 40) // 3 bytes each
	for _, part := range splitText(long, 50) {
		if len(part) > 50 || !utf8.ValidString(part) {
			t.Errorf("part %q", part)
		}
	}
	if got := splitText("first half\nsecond half", 15); !slices.Equal(got, []string{"first half", "second half"}) {
		t.Errorf("split %q", got)
	}
}

func TestTypedRows(t *testing.T) {
	for _, c := range []struct {
		text string
		rows int
	}{{"", 1}, {"123456789", 1}, {"1234567890", 2}, {"12345678901", 2}, {"123456789世", 2}, {"12345678世", 2}, {strings.Repeat("x", 20), 3}} {
		if got := typedRows(c.text, 10); got != c.rows {
			t.Errorf("typedRows(%q) = %d, want %d", c.text, got, c.rows)
		}
	}
}

// A paste arrives as one line however it is cut; keys pass untouched.
func TestPasteReader(t *testing.T) {
	const in = "ab\x1b[A\x1b" + "x" + pasteStart + "one\r\ntwo\rthree\n\tfour\x03\x1b[31m" + pasteEnd + "\r"
	const want = "ab\x1b[A\x1bx" + "one⏎two⏎three⏎ four[31m" + "\r"
	for _, n := range []int{1, 2, 3, 7, 1000} {
		got, err := io.ReadAll(newPasteReader(&slowReader{in, n}))
		if err != nil || string(got) != want {
			t.Errorf("in pieces of %d: %q, %v; want %q", n, got, err, want)
		}
	}
}

// slowReader gives at most n bytes at once.
type slowReader struct {
	s string
	n int
}

func (r *slowReader) Read(b []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(b, r.s[:min(r.n, len(r.s))])
	r.s = r.s[n:]
	return n, nil
}

func TestBookFind(t *testing.T) {
	b := newBook()
	b.self = im.User{ID: 9, Name: "me"}
	for id, name := range map[uint32]string{1: "bob", 2: "bobby", 3: "carol", 4: "carla"} {
		b.users[id] = im.User{ID: id, Name: name, Nick: strings.ToUpper(name[:1]) + name[1:] + " Smith"}
	}
	for in, want := range map[string]uint32{"bob": 1, "BOB": 1, "@bobb": 2, "caro": 3, "Carla Smith": 4, "ca": 0, "x": 0, "": 0, "me": 0} {
		u, err := b.find(in)
		if u.ID != want || (err == nil) != (want != 0) {
			t.Errorf("find(%q) = %d, %v; want %d", in, u.ID, err, want)
		}
	}
	if _, err := b.find("ca"); err == nil || !strings.Contains(err.Error(), "carla, carol") {
		t.Errorf("find(ca): %v", err)
	}
}
