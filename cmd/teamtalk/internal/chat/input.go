package chat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"teamtalk/core/client"
	"teamtalk/core/im"
)

// maxInputLine is the longest line taken from a pipe, in bytes.
const maxInputLine = 1 << 20

// inputLine is a line, or why there is none.
type inputLine struct {
	Text string
	Err  error
}

// ReadLines reads lines in a goroutine of its own, because a read cannot be interrupted. The channel is closed at the end.
func ReadLines(ctx context.Context, r io.Reader) <-chan inputLine {
	ch := make(chan inputLine)
	go func() {
		defer close(ch)
		sc := bufio.NewScanner(r)
		sc.Buffer(make([]byte, 4096), maxInputLine)
		put := func(l inputLine) bool {
			select {
			case ch <- l:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for sc.Scan() {
			if !put(inputLine{Text: strings.TrimSuffix(sc.Text(), "\r")}) {
				return
			}
		}
		if err := sc.Err(); err != nil {
			put(inputLine{Err: fmt.Errorf("read input: %w", err)})
		}
	}()
	return ch
}

// WaitEnd waits until somebody ends it.
func WaitEnd(ctx context.Context, s *Session) {
	select {
	case <-ctx.Done():
	case <-s.Client.Done():
	}
}

// WaitAcks waits until everything is acked, as long as --timeout allows.
func WaitAcks(ctx context.Context, s *Session) {
	ctx, cancel := context.WithTimeout(ctx, s.Opts.Timeout)
	defer cancel()
	_ = s.Client.Flush(ctx) // what is left is counted by Pending
}

// History returns the newest n messages with ids at most begin (0: all), oldest first.
func History(ctx context.Context, c client.Caller, p client.Peer, begin uint32, n int) ([]im.Message, error) {
	var all []im.Message
	for len(all) < n {
		page, err := client.History(ctx, c, p, begin, min(100, n-len(all)))
		if err != nil {
			return nil, fmt.Errorf("ask for history: %w", err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		lowest := page[len(page)-1].ID
		if lowest <= 1 || begin != 0 && lowest > begin {
			break
		}
		begin = lowest - 1
	}
	slices.SortFunc(all, func(a, b im.Message) int { return int(int64(a.ID) - int64(b.ID)) })
	return all, nil
}
