// Package terminal is the chat frontend for people: messages scroll above, the line being typed
// stays below.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ergochat/readline"
	"golang.org/x/term"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// Frontend is for people: messages above, the line being typed below.
//
// Two goroutines draw: the Client's, with what comes in, and the one that reads the line. The screen's lock keeps them apart; between Enter and the line
// having been dealt with it is held throughout, so that nothing gets in between what was typed and what becomes of it.
type Frontend struct {
	in, out *os.File
	opts    chat.Options
	ctx     context.Context
	s       *chat.Session
	rl      *readline.Instance
	cancel  context.CancelFunc

	// Of the goroutine that reads the line.
	held  bool      // it holds the screen's lock
	typed int       // characters in the line
	told  time.Time // when the other side was last told that somebody types

	typingTo atomic.Uint32 // user that is told of typing, 0 for none

	// Guarded by the screen's lock.
	screen
	peer    *client.Peer // the open conversation
	loading []client.Received
	opening bool                // the history is on its way: what comes in meanwhile is in loading
	there   bool                // whom it is with was online when last said
	writing bool                // whom it is with is typing
	quiet   *time.Timer         // ends writing when nothing more is said
	shown   uint32              // newest id shown of the open conversation
	oldest  uint32              // oldest id shown of it, for /more
	day     string              // of the last line
	sent    map[uint64]sentLine // not acked yet, by the Client's number
	failed  []failedText        // for /retry
	prompt  string              // as shown, without colours
	offline bool
	over    error

	fileRows map[int]fileRows // of transfers, by number
	listed   int              // waiting files that the server told of
	leaving  bool             // nothing is written any more
}

// sentLine is a message on the screen that waits for its ack.
type sentLine struct {
	row     int
	peer    client.Peer
	text    string
	sound   []byte // of an audio message
	seconds uint32
}

// failedText is a message that was given up.
type failedText struct {
	peer    client.Peer
	text    string
	sound   []byte // of an audio message
	seconds uint32
}

// maxFailed is how many failed messages /retry keeps.
const maxFailed = 100

// Marks, and the column they stand in: behind the time.
const (
	markSending = "…"
	markStored  = "✓"
	markFailed  = "✗"
	markColumn  = 6
	indent      = 8 // of a message's further lines
)

// newlineMark stands for a line break inside the line being typed.
const newlineMark = '⏎'

// New makes a frontend for a terminal.
func New(in, out *os.File, o chat.Options) *Frontend {
	f := &Frontend{in: in, out: out, opts: o, sent: make(map[uint64]sentLine), fileRows: make(map[int]fileRows)}
	_, noColor := os.LookupEnv("NO_COLOR")
	f.color = !o.NoColor && !noColor && os.Getenv("TERM") != "dumb"
	f.size = func() (int, int) {
		w, h, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return 80, 24
		}
		return w, h
	}
	return f
}

// Run reads lines until somebody has enough.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	f.ctx, f.cancel = context.WithCancel(ctx)
	defer f.cancel()
	rl, err := readline.NewFromConfig(&readline.Config{
		Prompt: "> ", HistoryLimit: 200, AutoComplete: completer{f}, Stdin: newPasteReader(f.in), Stdout: f.out,
		FuncFilterInputRune: f.key, Undo: true,
		Listener: func(line []rune, pos int, key rune) ([]rune, int, bool) { f.tellTyping(line); return nil, 0, false },
	})
	if err != nil {
		return fmt.Errorf("set up the terminal: %w", err)
	}
	f.rl = rl
	f.screen.out = rl.Stdout()
	defer rl.Close()
	fmt.Fprint(f.out, pasteOn)
	defer fmt.Fprint(f.out, pasteOff)
	f.mu.Lock()
	f.welcome()
	f.setPrompt()
	f.mu.Unlock()
	s.Start()
	if s.Opts.Peer != "" {
		f.command("to", s.Opts.Peer)
	}
	go func() { // end the reading when the session does
		chat.WaitEnd(f.ctx, s)
		rl.Close()
	}()
	f.loop()
	return f.farewell()
}

// loop reads and does what is typed.
func (f *Frontend) loop() {
	for {
		f.typed = 0
		line, err := f.rl.ReadLine()
		if !f.held {
			f.mu.Lock()
			f.held = true
		}
		if errors.Is(err, readline.ErrInterrupt) && f.typed > 0 {
			f.row()
			f.unhold()
			continue // what was typed is dropped
		}
		if err != nil {
			f.unhold()
			return
		}
		text := strings.TrimRight(strings.ReplaceAll(line, string(newlineMark), "\n"), " \n")
		f.erase(typedRows(f.prompt+line, f.columns()))
		switch {
		case strings.TrimSpace(text) == "":
			f.unhold()
		case strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//"):
			f.unhold()
			name, arg, _ := strings.Cut(strings.TrimPrefix(text, "/"), " ")
			if f.command(strings.ToLower(name), strings.TrimSpace(arg)) {
				return
			}
		default:
			if strings.HasPrefix(text, "//") {
				text = text[1:]
			}
			if f.peer == nil {
				f.say("whom to? /to NAME opens a conversation, /who lists everybody")
			} else {
				f.post(*f.peer, text)
			}
			f.unhold()
		}
	}
}

// key sees every key before the line editor does. Enter takes the screen's lock, see loop.
func (f *Frontend) key(r rune) (rune, bool) {
	if f.held { // Enter chose something from a list, and did not end the line
		f.unhold()
	}
	switch r {
	case readline.CharEnter, readline.CharCtrlJ:
		f.mu.Lock()
		f.held = true
	case readline.CharCtrlL:
		f.mu.Lock()
		f.since = f.rows // marks above are gone
		f.mu.Unlock()
	case 'O' - '@': // Ctrl-O: a line break within the message
		return newlineMark, true
	}
	return r, true
}

// unhold gives the screen's lock back.
func (f *Frontend) unhold() {
	f.held = false
	f.mu.Unlock()
}

// row counts a row that the line editor has written; f.mu is held.
func (f *Frontend) row() { f.rows, f.since = f.rows+1, f.rows+1 }

// welcome says who and where one is; f.mu is held.
func (f *Frontend) welcome() {
	on := 0
	list := f.s.Book.List("")
	for _, c := range list {
		if c.Online {
			on++
		}
	}
	text := fmt.Sprintf("Logged in as %s at %s. %d of %d contacts online. /help for help.",
		chat.CleanLine(f.s.Book.Self.Name), f.s.Client.Server(), on, len(list))
	for _, line := range chat.WrapText(text, f.columns()-1) {
		f.print(f.paint(dim, line))
	}
}

// farewell clears the line and says why it is over, if it was not asked for.
func (f *Frontend) farewell() error {
	f.mu.Lock()
	pending, over := f.s.Client.Pending(), f.over
	f.mu.Unlock()
	if pending > 0 && over == nil && f.ctx.Err() == nil {
		f.mu.Lock()
		f.say(fmt.Sprintf("waiting for %d messages to be stored; Ctrl-C to give up", pending))
		f.mu.Unlock()
		_ = f.rl.Close() // Ctrl-C is a signal again
		ctx, cancel := context.WithTimeout(f.ctx, f.opts.Timeout)
		defer cancel()
		_ = f.s.Client.Flush(ctx)
		pending = f.s.Client.Pending()
	}
	f.mu.Lock()
	if n := f.s.Files.Busy(); n > 0 {
		f.say(fmt.Sprintf("%d files are under way: those that a server keeps go on with your next login", n))
	}
	f.leaving = true
	f.mu.Unlock()
	switch {
	case over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: over}
	case pending > 0:
		return &chat.Error{Code: chat.ExitUnsent, Err: fmt.Errorf("%d messages were not acknowledged", pending)}
	}
	return nil
}

// setPrompt shows the open conversation and whether there is a connection; f.mu is held.
func (f *Frontend) setPrompt() {
	p := "> "
	if f.peer != nil {
		p = f.s.Book.PeerName(*f.peer) + "> "
		if f.writing {
			p = f.s.Book.PeerName(*f.peer) + " is typing> "
		}
	}
	to := uint32(0)
	if f.peer != nil && !f.peer.Group && f.there {
		to = f.peer.ID
	}
	f.typingTo.Store(to)
	if f.offline {
		p = "(offline) " + p
	}
	if p != f.prompt {
		f.prompt = p
		f.rl.SetPrompt(f.paint(bold, p))
		f.rl.Refresh()
	}
}

// say writes a notice; f.mu is held.
func (f *Frontend) say(text string) {
	for _, line := range chat.WrapText(chat.CleanText("— "+text), f.columns()-1) {
		f.print(f.paint(dim, line))
	}
}

// complain writes that something failed; f.mu is held.
func (f *Frontend) complain(text string) {
	for _, line := range chat.WrapText(chat.CleanText("! "+text), f.columns()-1) {
		f.print(f.paint(red, line))
	}
}

// dayLine writes the date when it is another than the last line's; f.mu is held.
func (f *Frontend) dayLine(t time.Time) {
	day := t.Format("Mon 2 Jan 2006")
	if day == f.day {
		return
	}
	if f.day != "" || day != time.Now().Format("Mon 2 Jan 2006") {
		f.print(f.paint(dim, "── "+day+" ──"))
	}
	f.day = day
}

// line writes a message: time, mark, who, text. It returns the row of the mark. Live messages and history look the same. f.mu is held.
func (f *Frontend) line(t time.Time, mark, who, color, text string) int {
	f.dayLine(t)
	head := t.Format("15:04") + " " + mark + " "
	first := chat.WrapText(who+": "+chat.CleanText(text), f.columns()-1-indent)
	lines := make([]string, 0, len(first))
	for i, l := range first {
		switch {
		case i > 0:
			l = strings.Repeat(" ", indent) + l
		case strings.HasPrefix(l, who+":"):
			l = f.paint(dim, t.Format("15:04")) + " " + mark + " " + f.paint(color, who+":") + strings.TrimPrefix(l, who+":")
		default:
			l = head + l
		}
		lines = append(lines, l)
	}
	return f.print(lines...)
}

// message writes a message of the server; f.mu is held.
func (f *Frontend) message(p client.Peer, m im.Message) {
	text, ok := chat.MessageText(f.s.Client, m)
	who, color, mark := f.s.Book.Name(m.From), cyan, " "
	if m.From == f.s.Book.Self.ID {
		color, mark = green, markStored
	}
	if f.peer == nil || *f.peer != p { // another conversation than the open one: say which
		if m.From == f.s.Book.Self.ID || p.Group {
			who += " → " + f.s.Book.PeerName(p)
		} else {
			who = "[" + who + "]"
		}
		color = yellow
	}
	if !ok {
		text = "(" + strings.Trim(text, "[]") + ")"
	}
	f.line(chat.LocalTime(m), mark, who, color, text)
}

// post sends what somebody typed, in as many messages as it needs; f.mu is held.
func (f *Frontend) post(p client.Peer, text string) {
	for _, part := range chat.SplitText(text, im.MaxText) {
		id, err := f.s.Client.Send(p, part)
		if err != nil {
			f.line(time.Now(), markFailed, f.to(p), green, part)
			f.complain("not sent: " + err.Error() + " (/retry tries again)")
			f.keep(failedText{peer: p, text: part})
			continue
		}
		row := f.line(time.Now(), markSending, f.to(p), green, part)
		f.sent[id] = sentLine{row: row, peer: p, text: part}
	}
}

// to is who an own message is from, and to whom if that is not plain; f.mu is held.
func (f *Frontend) to(p client.Peer) string {
	if f.peer != nil && *f.peer == p {
		return "you"
	}
	return "you → " + f.s.Book.PeerName(p)
}

// keep remembers a failed message; f.mu is held.
func (f *Frontend) keep(t failedText) {
	f.failed = append(f.failed, t)
	if len(f.failed) > maxFailed {
		f.failed = f.failed[1:]
	}
}

// Event shows an event of the Client.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		if e.Again {
			f.offline = false
			f.say("connected again")
			f.setPrompt()
			go f.reload()
		}
	case client.Ready:
		if !e.Again {
			f.sayUnread()
		}
	case client.Disconnected:
		f.offline = true
		f.say("connection lost; connecting again …")
		f.setPrompt()
	case client.Received:
		f.received(e)
	case client.Skipped:
		f.say("more was missed with " + f.s.Book.PeerName(e.Peer) + ": /history shows the rest")
	case client.Acked:
		f.acked(e)
	case client.Resent:
		if l, ok := f.sent[e.ID]; ok && e.Attempt == 2 {
			f.say("no answer yet to " + snippet(l.text) + "; trying again")
		}
	case client.SendFailed:
		f.sendFailed(e)
	case client.Presence:
		f.presence()
	case client.Kicked:
		f.over = errors.New("logged out: " + kickReason(e))
	case client.Refused:
		f.over = fmt.Errorf("logged out: %s", chat.CleanLine(e.Err.Error()))
	default:
		f.happened(e)
	}
}

// presence says that whom one talks with came or went; f.mu is held.
func (f *Frontend) presence() {
	if f.peer == nil || f.peer.Group || f.there == f.s.Book.IsOnline(f.peer.ID) {
		return
	}
	f.there = !f.there
	f.writing = f.writing && f.there
	f.setPrompt()
	f.say(f.s.Book.Name(f.peer.ID) + " is " + chat.OnlineWord(f.there))
}

// kickReason explains it. The protocol has no word for sessions that administrators end: they have the reason of those that another login ended.
func kickReason(e client.Kicked) string {
	if e.Reason == 2 {
		return "your phone ended this session"
	}
	return "you logged in on another device, or an administrator ended this session"
}

// snippet is the beginning of a text, quoted.
func snippet(s string) string {
	s = chat.CleanLine(s)
	if r := []rune(s); len(r) > 30 {
		s = string(r[:29]) + "…"
	}
	return "“" + s + "”"
}

// received shows a message, or keeps it until the history it belongs behind is there; f.mu is held.
func (f *Frontend) received(e client.Received) {
	if !e.Peer.Group && !f.s.Book.Knows(e.Peer.ID) {
		go f.reload() // somebody new
	}
	open := f.peer != nil && *f.peer == e.Peer
	if open && f.opening {
		f.loading = append(f.loading, e)
		return
	}
	if open && e.Message.ID <= f.shown && e.Message.ID >= f.oldest && f.oldest > 0 {
		return // the history brought it
	}
	if open && f.writing {
		f.writing = false
		f.setPrompt()
	}
	f.message(e.Peer, e.Message)
	if open {
		f.shown = max(f.shown, e.Message.ID)
		f.read(e.Peer, e.Message.ID)
	}
}

// read tells the server what has been seen.
func (f *Frontend) read(p client.Peer, id uint32) {
	f.s.Client.MarkRead(p, id)
	f.s.Book.ClearUnread(p)
}

// acked changes a message's mark where it stands, or says so when it has scrolled away; f.mu is held.
func (f *Frontend) acked(e client.Acked) {
	l, ok := f.sent[e.ID]
	if !ok {
		return
	}
	delete(f.sent, e.ID)
	if f.peer != nil && *f.peer == e.Peer {
		f.shown = max(f.shown, e.MsgID)
	}
	if !f.mark(l.row, markColumn, green, markStored) {
		f.say(markStored + " " + snippet(l.text))
	}
}

// sendFailed shows that a message was given up; f.mu is held.
func (f *Frontend) sendFailed(e client.SendFailed) {
	l, ok := f.sent[e.ID]
	if !ok {
		return
	}
	delete(f.sent, e.ID)
	f.keep(failedText{peer: l.peer, text: l.text, sound: l.sound, seconds: l.seconds})
	f.mark(l.row, markColumn, red, markFailed)
	f.complain(fmt.Sprintf("not sent to %s: %s: %v (/retry tries again)", f.s.Book.PeerName(e.Peer), snippet(l.text), e.Err))
}

// reload asks again who there is.
func (f *Frontend) reload() {
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	defer cancel()
	_ = f.s.Book.Load(ctx, f.s.Client) // what is known stays good enough
	f.mu.Lock()
	defer f.mu.Unlock()
	f.presence()
}

// completer completes commands and names.
type completer struct{ f *Frontend }

// Do implements readline.AutoCompleter.
func (c completer) Do(line []rune, pos int) ([][]rune, int) {
	typed := string(line[:pos])
	var choices []string
	word := typed
	if name, arg, ok := strings.Cut(typed, " "); ok && strings.HasPrefix(typed, "/") {
		if !takesName(strings.TrimPrefix(name, "/")) {
			return nil, 0
		}
		word, choices = lastWord(arg), c.f.nameChoices(name, arg)
	} else if strings.HasPrefix(typed, "/") {
		choices = commandNames()
	}
	var out [][]rune
	n := len([]rune(word))
	for _, choice := range choices {
		if r := []rune(choice); len(r) >= n && strings.EqualFold(string(r[:n]), word) {
			out = append(out, append(r[n:len(r):len(r)], ' '))
		}
	}
	return out, n
}

// Bracketed paste: the terminal says where a paste begins and ends, so that its line breaks do not send what is half of it.
const (
	pasteOn    = "\x1b[?2004h"
	pasteOff   = "\x1b[?2004l"
	pasteStart = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
)

// pasteReader turns the line breaks of a paste into newlineMark.
type pasteReader struct {
	r       io.Reader
	inside  bool
	pending []byte // read, not passed on: may be the beginning of a bracket
	ready   []byte // to be passed on
	buf     []byte
	cr      bool // the last byte of the paste was a carriage return
}

func newPasteReader(r io.Reader) *pasteReader { return &pasteReader{r: r, buf: make([]byte, 1024)} }

// Read implements io.Reader.
func (p *pasteReader) Read(b []byte) (int, error) {
	for len(p.ready) == 0 {
		n, err := p.r.Read(p.buf)
		p.feed(p.buf[:n])
		if n == 0 && err != nil {
			if len(p.pending) == 0 {
				return 0, err
			}
			p.ready, p.pending = p.pending, nil
		}
	}
	n := copy(b, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

// feed sorts bytes.
func (p *pasteReader) feed(b []byte) {
	p.pending = append(p.pending, b...)
	for len(p.pending) > 0 {
		bracket := pasteStart
		if p.inside {
			bracket = pasteEnd
		}
		s := string(p.pending)
		if strings.HasPrefix(s, bracket) {
			p.inside, p.cr = !p.inside, false
			p.pending = p.pending[len(bracket):]
			continue
		}
		if strings.HasPrefix(bracket, s) {
			return // wait for the rest: to the line editor an escape alone means nothing either
		}
		p.pass(p.pending[0])
		p.pending = p.pending[1:]
	}
}

// pass passes a byte on.
func (p *pasteReader) pass(c byte) {
	switch {
	case !p.inside:
		p.ready = append(p.ready, c)
	case c == '\n' && p.cr:
	case c == '\n' || c == '\r':
		p.ready = append(p.ready, string(newlineMark)...)
	case c == '\t':
		p.ready = append(p.ready, ' ')
	case c < ' ' || c == 0x7f: // no commands to the line editor from a clipboard
	default:
		p.ready = append(p.ready, c)
	}
	p.cr = c == '\r'
}
