package chat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// maxInputLine is the longest line of input, in bytes.
const maxInputLine = 1 << 20

// ReadLines calls do with each line of in and its number, from 1, until in ends or do
// returns false. It returns early, with interrupted true, when ctx or the session ends.
// The error is that of reading; its line has the number after the last one. A read cannot
// be interrupted: a goroutine may remain in it until in has the next line or ends.
func (s *Session) ReadLines(ctx context.Context, in io.Reader, do func(n int, line string) bool) (
	interrupted bool, err error,
) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := scanLines(ctx, in)
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return true, nil
		case <-s.Client.Done():
			return true, nil
		case l, ok := <-lines:
			if !ok || l.err != nil {
				return false, l.err
			}
			if !do(n, l.text) {
				return false, nil
			}
		}
	}
}

// inputLine is a line, or the error of reading it.
type inputLine struct {
	text string
	err  error
}

// scanLines reads lines in a goroutine of its own, until in or ctx ends. It closes the
// channel after the last line.
func scanLines(ctx context.Context, in io.Reader) <-chan inputLine {
	ch := make(chan inputLine)
	put := func(l inputLine) bool {
		select {
		case ch <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(ch)
		sc := bufio.NewScanner(in)
		sc.Buffer(make([]byte, 4096), maxInputLine)
		for sc.Scan() {
			if !put(inputLine{text: strings.TrimSuffix(sc.Text(), "\r")}) {
				return
			}
		}
		if err := sc.Err(); err != nil {
			put(inputLine{err: fmt.Errorf("read input: %w", err)})
		}
	}()
	return ch
}
