// Package terminal is the chat frontend for people: messages scroll in the upper part of
// the terminal, and the line that the user types stays at the bottom.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ergochat/readline"
	"golang.org/x/term"

	"teamtalk/cmd/teamtalk/internal/chat"
)

// Options describe the frontend.
type Options struct {
	Peer    string        // the conversation to open first; empty: none
	NoColor bool          // write no colours
	History int           // messages shown when a conversation is opened
	Timeout time.Duration // for unacknowledged messages at the end
}

// Frontend is a session at a terminal: it reads the lines that the user types.
//
// Two goroutines draw: the client's writes events, and the reader's handles the line that
// the user types. The screen's lock separates them. The reader holds it from Enter until
// the line is handled, so that no event is written between a line and its effect.
type Frontend struct {
	*view
	commands *commands

	in     *os.File
	out    *os.File
	cancel context.CancelFunc

	// Used by the reader's goroutine only.
	held  bool      // the reader holds the screen's lock
	typed int       // characters in the line
	told  time.Time // when the other user was last told that this one types
}

// newlineMark represents a line break in the line that the user types.
const newlineMark = '⏎'

// New returns a frontend for a terminal.
func New(in, out *os.File, o Options) *Frontend {
	v := &view{opts: o, sent: make(map[uint64]sentLine), fileRows: make(map[int]fileRows)}
	f := &Frontend{view: v, commands: &commands{v}, in: in, out: out}
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

// Registered reports the new user.
func (f *Frontend) Registered(name string, _ uint32) {
	fmt.Fprintf(f.out, "Registered %s.\n", chat.CleanLine(name))
}

// Run reads and executes lines until the user leaves or the session ends.
func (f *Frontend) Run(ctx context.Context, s *chat.Session) error {
	f.s = s
	f.ctx, f.cancel = context.WithCancel(ctx)
	defer f.cancel()
	terminal := newCursor(newPasteReader(f.in), f.out, func() <-chan time.Time {
		return time.After(cursorWait)
	})
	rl, err := readline.NewFromConfig(&readline.Config{
		Prompt: "> ", HistoryLimit: 200, AutoComplete: completer{f.commands},
		Stdin: terminal, Stdout: terminal, FuncFilterInputRune: f.key, Undo: true,
		Listener: func(line []rune, pos int, key rune) ([]rune, int, bool) {
			f.tellTyping(line)
			return nil, 0, false
		},
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
	if f.opts.Peer != "" {
		f.commands.run("to", f.opts.Peer)
	}
	go func() { // the end of the session ends the reading
		s.WaitEnd(f.ctx)
		rl.Close()
	}()
	f.loop()
	return f.farewell()
}

// loop reads lines and executes them.
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
			continue // drops the line
		}
		if err != nil {
			f.unhold()
			return
		}
		text := strings.TrimRight(strings.ReplaceAll(line, string(newlineMark), "\n"), " \n")
		f.erase(typedRows(f.prompt+line, f.columns()))
		if f.typedLine(text) {
			return
		}
	}
}

// typedLine executes a line that the user typed, and reports whether the user leaves. It
// gives the screen's lock back.
func (f *Frontend) typedLine(text string) (leave bool) {
	switch {
	case strings.TrimSpace(text) == "":
		f.unhold()
	case strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//"):
		f.unhold()
		name, arg, _ := strings.Cut(strings.TrimPrefix(text, "/"), " ")
		return f.commands.run(strings.ToLower(name), strings.TrimSpace(arg))
	default:
		if strings.HasPrefix(text, "//") {
			text = text[1:]
		}
		if f.peer == nil {
			f.say("no conversation is open: /to NAME opens one, /contacts lists all users")
		} else {
			f.post(*f.peer, text)
		}
		f.unhold()
	}
	return false
}

// key receives every key before the line editor. Enter takes the screen's lock, see loop.
func (f *Frontend) key(r rune) (rune, bool) {
	if f.held { // the last Enter chose from a list of completions, and did not end the line
		f.unhold()
	}
	switch r {
	case readline.CharEnter, readline.CharCtrlJ:
		f.mu.Lock()
		f.held = true
	case readline.CharCtrlL:
		f.mu.Lock()
		f.since = f.rows // the line editor clears the screen, and the marks with it
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

// farewell waits for unacked messages, and returns the outcome of the session.
func (f *Frontend) farewell() error {
	f.mu.Lock()
	pending, over := f.s.Client.Pending(), f.over
	f.mu.Unlock()
	if pending > 0 && over == nil && f.ctx.Err() == nil {
		f.mu.Lock()
		f.say(fmt.Sprintf("waiting for %d messages to be stored; Ctrl-C gives up", pending))
		f.mu.Unlock()
		_ = f.rl.Close() // from now on Ctrl-C is a signal
		f.s.Flush(f.ctx, f.opts.Timeout)
		pending = f.s.Client.Pending()
	}
	f.mu.Lock()
	if n := f.s.Files.Busy(); n > 0 {
		f.say(fmt.Sprintf("%d files are being transferred: "+
			"those that a server keeps continue after your next login", n))
	}
	f.leaving = true
	f.mu.Unlock()
	switch {
	case over != nil:
		return &chat.Error{Code: chat.ExitEnded, Err: over}
	case pending > 0:
		return &chat.Error{Code: chat.ExitUnsent,
			Err: fmt.Errorf("%d messages were not acknowledged", pending)}
	}
	return nil
}
