package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/mattn/go-runewidth"
)

// screen writes the lines above the prompt. It can change the marks of lines that are
// still visible.
type screen struct {
	out   io.Writer                // redraws the prompt around each write
	size  func() (width, rows int) // the present size of the terminal
	color bool

	mu    sync.Mutex // the reader holds it over several calls: see Frontend.key
	rows  int        // rows written so far
	width int        // when the last line was written
	since int        // rows when the width last changed; marks above cannot be changed
}

// Colours. No meaning depends on a colour alone.
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

// columns returns the usable width.
func (s *screen) columns() int {
	w, _ := s.size()
	if w < 20 {
		return 80
	}
	return w
}

// print writes lines that fit the width, and returns the row of the first. s.mu is held.
func (s *screen) print(lines ...string) int {
	if w := s.columns(); w != s.width {
		s.width, s.since = w, s.rows
	}
	first := s.rows
	s.rows += len(lines)
	fmt.Fprint(s.out, strings.Join(lines, "\n")+"\n")
	return first
}

// mark overwrites the text at a column, from 0, of a row. It returns false when the row
// is not on the screen any more. s.mu is held.
func (s *screen) mark(row, col int, color, text string) bool {
	width, height := s.size()
	up := s.rows - row
	if width != s.width || row < s.since || up >= height-2 {
		return false
	}
	if !s.color {
		color = ""
	}
	// The line editor takes all characters from an escape to the next m for a colour,
	// which has no columns. So the colour is first and the reset last, and the text must
	// not hold an m: the line editor does not count the columns of the text.
	fmt.Fprintf(s.out, "%s\x1b[%dA\x1b[%dG%s\x1b[%dB\r%s", color, up, col+1, text, up, reset)
	return true
}

// erase erases the last rows, which hold the typed line and are not counted in rows. s.mu
// is held.
func (s *screen) erase(rows int) {
	fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J%s", rows, reset)
}

// typedRows returns the number of rows of a prompt and a typed line in the line editor,
// which begins the next row as soon as one is full.
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
