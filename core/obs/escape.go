package obs

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// EscapeJSON returns a line of JSON in which each character that a terminal does not print is an
// escape, such as \u009b. Encoders of JSON escape only the control characters of ASCII below the
// blank. Others begin a sequence that the terminal obeys, or reverse the direction of the line, and
// names come from outside. The line's end stays.
func EscapeJSON(line []byte) []byte {
	if !bytes.ContainsFunc(line, hidden) {
		return line
	}
	out := make([]byte, 0, len(line)+64)
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case !hidden(r):
			out = append(out, line[:n]...)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
		line = line[n:]
	}
	return out
}

// hidden reports whether a terminal prints no character for r.
func hidden(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// appendEscape appends the escape of a unit of UTF-16.
func appendEscape(b []byte, unit rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[unit>>12&0xF], digits[unit>>8&0xF], digits[unit>>4&0xF],
		digits[unit&0xF])
}

// escaped writes lines of JSON through EscapeJSON.
type escaped struct{ w io.Writer }

// Write writes a line.
func (e escaped) Write(line []byte) (int, error) {
	if _, err := e.w.Write(EscapeJSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}
