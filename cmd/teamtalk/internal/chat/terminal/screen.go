package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/mattn/go-runewidth"
)

// screen is a terminal's lines above the prompt, as far as they can still be changed: the mark of a message sent becomes another one where it stands.
type screen struct {
	out   io.Writer                // redraws the prompt around what is written
	size  func() (width, rows int) // of the terminal now
	color bool

	mu    sync.Mutex // also taken over several calls, by the one who reads the line: see hold
	rows  int        // ever written
	width int        // when the last line was written; marks from before another width are out of reach
	since int        // rows when the width was last another
}

// Colours, for those who have them; nothing is said by colour alone.
const (
	dim    = "\x1b[2m"
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	cyan   = "\x1b[36m"
	yellow = "\x1b[33m"
	reset  = "\x1b[m"
)

// paint colours a text.
func (s *screen) paint(color, text string) string {
	if !s.color || text == "" {
		return text
	}
	return color + text + reset
}

// columns is the usable width.
func (s *screen) columns() int {
	w, _ := s.size()
	if w < 20 {
		return 80
	}
	return w
}

// print writes lines that fit the width, and returns the row of the first; s.mu is held.
func (s *screen) print(lines ...string) int {
	if w := s.columns(); w != s.width {
		s.width, s.since = w, s.rows
	}
	first := s.rows
	s.rows += len(lines)
	fmt.Fprint(s.out, strings.Join(lines, "\n")+"\n")
	return first
}

// mark changes what stands at a column (from 0) of a row; false when the row is not on the screen any more. s.mu is held.
func (s *screen) mark(row, col int, color, text string) bool {
	width, height := s.size()
	up := s.rows - row
	if width != s.width || row < s.since || up >= height-2 {
		return false
	}
	if !s.color {
		color = ""
	}
	// The colour comes first and its reset last because the line editor takes everything from an escape to the next m for a colour, and so for
	// no column: it must not count the mark as one, and so the mark must hold no m.
	fmt.Fprintf(s.out, "%s\x1b[%dA\x1b[%dG%s\x1b[%dB\r%s", color, up, col+1, text, up, reset)
	return true
}

// erase takes away the last rows, which are not among those counted: what somebody typed. s.mu is held.
func (s *screen) erase(rows int) {
	fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J%s", rows, reset)
}

// typedRows is how many rows a prompt and what was typed after it take in the line editor, which goes on to the next row as soon as one is full.
func typedRows(s string, width int) int {
	rows, col := 1, 0
	for _, r := range s {
		w := runewidth.RuneWidth(r)
		if col+w > width {
			rows, col = rows+1, 0
		}
		if col += w; col == width {
			rows, col = rows+1, 0
		}
	}
	return rows
}
