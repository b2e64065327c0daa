package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ctrlC is the byte of ctrl-c. In raw mode the terminal sends it instead of a signal.
const ctrlC = 3

// Control sequences of a terminal.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[K" // from the cursor to the end of the line
	clearDown  = "\x1b[J" // from the cursor to the end of the screen
)

// terminalView redraws a screen below the lines of the log. A goroutine paints and another
// reads keys. Any goroutine may call its methods.
type terminalView struct {
	in, out     *os.File
	stop, abort func() // called at the first and at the second ctrl-c
	mode        *term.State
	keys        *keyReader
	wake        chan struct{} // holds a value when the screen has changed
	done        chan struct{} // closed by restore
	goroutines  sync.WaitGroup

	// mu guards screen. It is not held while the terminal is written: a terminal that
	// accepts no output must not delay the run that reports its progress.
	mu     sync.Mutex
	screen *screen

	painting sync.Mutex // guards the fields below and the output; taken before mu
	block    block
	restored bool
}

// openTerminal puts the terminal into raw mode and starts to show s. The error is not nil
// when the terminal does not allow that; its mode is then unchanged.
func openTerminal(in, out *os.File, s *screen, stop, abort func()) (*terminalView, error) {
	keys, err := newKeyReader(in)
	if err != nil {
		return nil, err
	}
	mode, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, errors.Join(err, keys.Close(), keys.wakeup.Close())
	}
	v := &terminalView{
		in: in, out: out, stop: stop, abort: abort, mode: mode, keys: keys, screen: s,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	_, _ = io.WriteString(out, hideCursor) // paint would meet the same error
	v.goroutines.Add(2)
	go v.paintChanges()
	go v.readKeys()
	return v, nil
}

// change changes the screen and has no effect on the terminal before the next painting.
func (v *terminalView) change(f func(*screen)) {
	v.mu.Lock()
	f(v.screen)
	v.mu.Unlock()
	v.repaint()
}

// repaint asks for a painting. Requests that arrive before it starts share it.
func (v *terminalView) repaint() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// paintChanges paints when the screen or the size of the terminal changes, and each second
// for the clock of the screen.
func (v *terminalView) paintChanges() {
	defer v.goroutines.Done()
	defer v.restore() // a panic must not leave the terminal in raw mode
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-v.wake:
		case <-resized:
		case <-tick.C:
		case <-v.done:
			return
		}
		_ = v.paint("") // a terminal that is gone ends the run through its keys
	}
}

// paint writes text, if any, as whole lines and the screen below them. Once the terminal
// is restored it writes only the text.
func (v *terminalView) paint(text string) error {
	v.painting.Lock()
	defer v.painting.Unlock()
	if v.restored {
		if text == "" {
			return nil
		}
		_, err := io.WriteString(v.out, text+"\n")
		return err
	}
	lines, width := v.drawLines()
	if text == "" && width == v.block.width && slices.Equal(lines, v.block.lines) {
		return nil
	}
	_, err := io.WriteString(v.out, v.block.draw(text, lines, width))
	return err
}

// drawLines returns the lines of the screen for the present size of the terminal.
func (v *terminalView) drawLines() (lines []string, width int) {
	width, height, err := term.GetSize(int(v.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.screen.width, v.screen.height = width, height
	return v.screen.draw(), width
}

// Write writes whole lines above the screen.
func (v *terminalView) Write(text []byte) (int, error) {
	if err := v.paint(strings.TrimRight(string(text), "\n")); err != nil {
		return 0, err
	}
	return len(text), nil
}

// restore clears the screen, restores the terminal and asks the goroutines of the view to
// end. Only the first call has an effect.
func (v *terminalView) restore() {
	v.painting.Lock()
	defer v.painting.Unlock()
	if v.restored {
		return
	}
	v.restored = true
	_, width := v.drawLines()
	_, _ = io.WriteString(v.out, v.block.draw("", nil, width)+showCursor)
	_ = term.Restore(int(v.in.Fd()), v.mode)
	_ = v.keys.Close()
	close(v.done)
}

// Close restores the terminal and waits for the goroutines of the view.
func (v *terminalView) Close() {
	v.restore()
	v.goroutines.Wait()
}

// readKeys handles keys until the terminal is restored.
func (v *terminalView) readKeys() {
	aborted := v.handleKeys()
	v.goroutines.Done() // before abort, so that abort may call Close
	if aborted {
		v.abort()
	}
}

// handleKeys reports whether ctrl-c was pressed twice. Other keys have no effect.
func (v *terminalView) handleKeys() (aborted bool) {
	defer v.keys.wakeup.Close()
	keys := make([]byte, 64)
	for {
		n, err := v.keys.Read(keys)
		for _, key := range keys[:max(0, n)] {
			if key == ctrlC && v.interrupt() {
				return true
			}
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrClosed) {
			v.inputFailed()
		}
		return false
	}
}

// interrupt handles ctrl-c and reports whether it was the second.
func (v *terminalView) interrupt() (again bool) {
	v.mu.Lock()
	again = v.screen.interrupt()
	v.mu.Unlock()
	if again {
		v.restore()
		return true
	}
	v.repaint()
	v.stop()
	return false
}

// inputFailed asks the run to end, because no user can do so any more, unless one did
// before.
func (v *terminalView) inputFailed() {
	v.mu.Lock()
	again := v.screen.interrupt()
	v.mu.Unlock()
	if !again {
		v.stop()
	}
}

// block is the part of a terminal that is redrawn: the lines directly above the cursor,
// which is in the first column.
type block struct {
	lines []string
	width int // width of the terminal when the lines were drawn
}

// draw returns the output that replaces the block with text, if any, and a block of lines
// below it. The output clears each line before it writes it, because a terminal keeps the
// cursor on the last column of a full line and would clear that column afterwards.
func (b *block) draw(text string, lines []string, width int) string {
	var out strings.Builder
	out.WriteByte('\r')
	if n := b.rows(width); n > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", n)
	}
	if text != "" {
		out.WriteString(clearDown + strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")
	}
	for _, l := range lines {
		out.WriteString(clearLine + l + "\r\n")
	}
	out.WriteString(clearDown)
	b.lines, b.width = lines, width
	return out.String()
}

// colors matches the sequences of colours in a line.
var colors = regexp.MustCompile("\x1b\\[[0-9;]*m")

// rows returns how many rows the block occupies. A terminal that has become narrower wraps
// its lines.
func (b *block) rows(width int) int {
	rows := len(b.lines)
	if width >= b.width || width <= 0 {
		return rows
	}
	for _, l := range b.lines {
		rows += max(0, runewidth.StringWidth(colors.ReplaceAllString(l, ""))-1) / width
	}
	return rows
}

// keyReader reads a terminal until it is closed. A plain read could not be ended, and would
// take the next key of the user from the shell.
type keyReader struct {
	in     *os.File
	wakeup *os.File // readable once ender is closed; the reading goroutine closes it
	ender  *os.File
}

func newKeyReader(in *os.File) (*keyReader, error) {
	wakeup, ender, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if in.Fd() >= unix.FD_SETSIZE || wakeup.Fd() >= unix.FD_SETSIZE {
		return nil, errors.Join(unix.EMFILE, wakeup.Close(), ender.Close())
	}
	return &keyReader{in: in, wakeup: wakeup, ender: ender}, nil
}

// Read waits for keys. The error is os.ErrClosed after Close.
//
// It uses select, because poll does not support terminals on every Unix system.
func (k *keyReader) Read(keys []byte) (int, error) {
	in, wakeup := int(k.in.Fd()), int(k.wakeup.Fd())
	for {
		var ready unix.FdSet
		ready.Set(in)
		ready.Set(wakeup)
		_, err := unix.Select(max(in, wakeup)+1, &ready, nil, nil, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case ready.IsSet(wakeup):
			return 0, os.ErrClosed
		}
		return k.in.Read(keys)
	}
}

// Close ends Read.
func (k *keyReader) Close() error { return k.ender.Close() }
