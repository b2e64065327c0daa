package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// CleanText makes a text of another user safe for a terminal. It removes the characters
// that move the cursor, change settings, or turn the direction of writing. Line breaks
// stay, tabs become spaces.
func CleanText(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			return '\n'
		case r == '\t':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069',
			r == '\u200e' || r == '\u200f':
			return -1
		case r >= 0xe0000 && r <= 0xe007f: // tags: invisible text
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// CleanLine is CleanText for names and errors, which are one line.
func CleanLine(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(CleanText(s), "\n", " "))
}

// WrapText breaks a text into lines of at most width columns, between words where
// possible.
func WrapText(s string, width int) []string {
	var out []string
	for _, line := range strings.Split(s, "\n") {
		out = append(out, wrapLine(line, max(width, 4))...)
	}
	return out
}

// wrapLine breaks one line.
func wrapLine(s string, width int) []string {
	var out []string
	for {
		cut, space, col := len(s), -1, 0
		for i, r := range s {
			w := runewidth.RuneWidth(r)
			if col+w > width {
				cut = i
				break
			}
			if r == ' ' {
				space = i
			}
			col += w
		}
		if cut == len(s) {
			return append(out, s)
		}
		if s[cut] == ' ' {
			space = cut
		}
		if space > len(s[:cut])/3 { // otherwise the next word is longer than a line, and is broken
			out, s = append(out, strings.TrimRight(s[:space], " ")), s[space+1:]
		} else {
			out, s = append(out, s[:cut]), s[cut:]
		}
	}
}

// SplitText cuts a text into parts of at most limit bytes: at line breaks or spaces where
// possible, else between characters.
func SplitText(s string, limit int) []string {
	var out []string
	for len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		if cut == 0 { // not UTF-8: no character begins in these bytes
			cut = limit
		}
		drop := 0
		if i := strings.LastIndexByte(s[:cut], '\n'); i > limit/2 {
			cut, drop = i, 1
		} else if i := strings.LastIndexByte(s[:cut], ' '); i > limit/2 {
			cut, drop = i, 1
		}
		out, s = append(out, s[:cut]), s[cut+drop:]
	}
	if s != "" {
		out = append(out, s)
	}
	return out
}
