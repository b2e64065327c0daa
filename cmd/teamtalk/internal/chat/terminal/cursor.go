package terminal

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// The line editor asks the terminal for the position of the cursor before each line, and reads no
// key before the answer. Some terminals never answer. Then cursor answers for them: the line begins
// at the left edge, as it does unless the user has typed ahead.
const (
	askCursor  = "\x1b[6n"
	leftEdge   = "\x1b[1;1R"
	cursorWait = 2 * time.Second // longer than an answer takes over a slow connection
)

// cursor passes on what the line editor reads and writes. It waits for one answer. A terminal that
// gave none in time is not asked again, unless its answer comes later.
type cursor struct {
	in   io.Reader
	out  io.Writer
	wait func() <-chan time.Time // begins to wait for an answer

	asked  chan struct{} // the line editor has asked
	silent atomic.Bool   // the terminal did not answer

	// Used by the reader's goroutine only.
	input chan chunk       // the result of a read of in
	busy  bool             // a read of in has not ended
	ready []byte           // to be passed on
	err   error            // of in, after ready
	at    place            // of what was passed on
	late  <-chan time.Time // the end of the wait; nil: no answer is due
}

// chunk is the result of a read.
type chunk struct {
	b   []byte
	err error
}

// newCursor returns a cursor for a terminal. Its answer is late when the channel of wait delivers.
func newCursor(in io.Reader, out io.Writer, wait func() <-chan time.Time) *cursor {
	return &cursor{in: in, out: out, wait: wait, asked: make(chan struct{}, 1),
		input: make(chan chunk, 1)}
}

// Write implements io.Writer.
func (c *cursor) Write(b []byte) (int, error) {
	if !bytes.Equal(b, []byte(askCursor)) { // the line editor writes a question by itself
		return c.out.Write(b)
	}
	select {
	case c.asked <- struct{}{}:
	default:
	}
	if c.silent.Load() {
		return len(b), nil
	}
	return c.out.Write(b)
}

// Read implements io.Reader. It reads in only when it is called, so that keys for the program
// that follows this one stay in the terminal.
func (c *cursor) Read(b []byte) (int, error) {
	for len(c.ready) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if !c.busy {
			c.busy = true
			go c.fetch()
		}
		select {
		case got := <-c.input:
			c.busy, c.ready, c.err = false, got.b, got.err
			c.look(got.b)
		case <-c.asked:
			if c.silent.Load() {
				c.giveUp()
			} else {
				c.late = c.wait()
			}
		case <-c.late:
			c.giveUp()
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// fetch reads in once.
func (c *cursor) fetch() {
	buf := make([]byte, 1024)
	n, err := c.in.Read(buf)
	c.input <- chunk{buf[:n], err}
}

// giveUp answers for the terminal. In the middle of a sequence of bytes it waits for the rest.
func (c *cursor) giveUp() {
	if c.at != outside {
		c.late = c.wait()
		return
	}
	c.late = nil
	c.silent.Store(true)
	c.ready = []byte(leftEdge)
}

// place is where the input is in an escape sequence.
type place int

const (
	outside place = iota
	escaped       // after an escape
	inside        // after an escape and a bracket
)

// look finds the terminal's answer in its input.
func (c *cursor) look(b []byte) {
	for _, k := range b {
		switch {
		case k == '\x1b':
			c.at = escaped
		case c.at == escaped && k == '[':
			c.at = inside
		case c.at == inside && (k >= '0' && k <= '9' || k == ';'):
		case c.at == inside && k == 'R':
			c.at, c.late = outside, nil
			c.silent.Store(false)
			select { // the question that this answers
			case <-c.asked:
			default:
			}
		default:
			c.at = outside
		}
	}
}
