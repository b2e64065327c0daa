package terminal

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// asking is a cursor whose terminal and clock are the test.
type asking struct {
	*cursor
	t     *testing.T
	keys  *io.PipeWriter
	shown bytes.Buffer
	began chan chan time.Time // a wait began
}

func newAsking(t *testing.T) *asking {
	in, keys := io.Pipe()
	a := &asking{t: t, keys: keys, began: make(chan chan time.Time, 10)}
	a.cursor = newCursor(in, &a.shown, func() <-chan time.Time {
		c := make(chan time.Time, 1)
		a.began <- c
		return c
	})
	t.Cleanup(func() { keys.Close() })
	return a
}

// ask asks as the line editor does, and requires that the terminal is asked, or not.
func (a *asking) ask(terminal bool) {
	a.t.Helper()
	a.shown.Reset()
	if n, err := a.Write([]byte(askCursor)); n != len(askCursor) || err != nil {
		a.t.Fatalf("%d, %v", n, err)
	}
	if got := a.shown.String() == askCursor; got != terminal {
		a.t.Errorf("the terminal is asked: %v, want %v", got, terminal)
	}
}

// types types keys, which the line editor has not read yet when it returns.
func (a *asking) types(keys string) {
	go a.keys.Write([]byte(keys))
}

// reads requires what the line editor reads.
func (a *asking) reads(want string) {
	a.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(a.cursor, got); err != nil || string(got) != want {
		a.t.Fatalf("the line editor reads %q, %v; want %q", got, err, want)
	}
}

// TestCursorAnswered passes on the answer of a terminal, also when it comes in parts.
func TestCursorAnswered(t *testing.T) {
	a := newAsking(t)
	a.ask(true)
	a.types("x\x1b[12;34Ry")
	a.reads("x\x1b[12;34Ry")
	a.ask(true)
	a.types("\x1b[1")
	a.reads("\x1b[1")
	a.types(";1R")
	a.reads(";1R")
	if a.late != nil || a.silent.Load() {
		t.Error("an answer is still due")
	}
}

// TestCursorSilent answers for a terminal that does not, and does not ask it again.
func TestCursorSilent(t *testing.T) {
	a := newAsking(t)
	a.ask(true)
	a.types("typed")
	a.reads("typed")
	go func() { (<-a.began) <- time.Time{} }() // the time is over
	a.reads(leftEdge)
	a.ask(false)
	a.reads(leftEdge)
	a.types("more")
	a.reads("more")
	a.types("\x1b[1;7R") // late
	a.reads("\x1b[1;7R")
	a.ask(true)
	a.types("\x1b[2;2R")
	a.reads("\x1b[2;2R")
}

// TestCursorWithinKey: the answer for the terminal does not divide the bytes of a key.
func TestCursorWithinKey(t *testing.T) {
	a := newAsking(t)
	a.ask(true)
	a.types("\x1b[")
	a.reads("\x1b[")
	go func() {
		(<-a.began) <- time.Time{}
		end := <-a.began // a new wait, because a key is not complete
		a.keys.Write([]byte("A"))
		end <- time.Time{}
	}()
	a.reads("A" + leftEdge)
}

// TestCursorEnd passes on the last keys and the end of the input.
func TestCursorEnd(t *testing.T) {
	a := newAsking(t)
	a.types("last")
	a.reads("last")
	a.keys.Close()
	for range 2 {
		if n, err := a.cursor.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d, %v; want the end", n, err)
		}
	}
}
