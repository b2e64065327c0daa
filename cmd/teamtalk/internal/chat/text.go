package chat

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// CleanText makes a text from elsewhere safe to write to a terminal: what could move the cursor, change settings, or turn the direction of
// writing is taken out; line breaks stay, tabs become spaces.
func CleanText(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			return '\n'
		case r == '\t':
			return ' '
		case unicode.IsControl(r), r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e' || r == '\u200f':
			return -1
		case r >= 0xe0000 && r <= 0xe007f: // tags: invisible text
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// CleanLine is cleanText for names and errors, which have one line.
func CleanLine(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(CleanText(s), "\n", " "))
}

// MessageText is what a message says, unsafe as it came, and false when that is a description.
func MessageText(c *client.Client, m im.Message) (string, bool) {
	if m.Type == pb.MsgType_MSG_TYPE_SINGLE_AUDIO || m.Type == pb.MsgType_MSG_TYPE_GROUP_AUDIO {
		if seconds, sound, ok := client.Sound(m); ok {
			return fmt.Sprintf("[voice message, %d s, %s]", seconds, SizeText(len(sound))), false
		}
		return "[voice message]", false
	}
	text, err := c.Text(m)
	if err != nil {
		return "[unreadable: encrypted with another key?]", false
	}
	return text, true
}

// SizeText is a number of bytes for people.
func SizeText(n int) string {
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f KB", float64(n)/1000)
}

// WrapText breaks a text into lines of at most width columns, between words where it can.
func WrapText(s string, width int) []string {
	var out []string
	for _, line := range strings.Split(s, "\n") {
		out = append(out, wrapLine(line, max(width, 4))...)
	}
	return out
}

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
		if space > len(s[:cut])/3 { // else a word longer than the line begins here: it is broken anyway
			out, s = append(out, strings.TrimRight(s[:space], " ")), s[space+1:]
		} else {
			out, s = append(out, s[:cut]), s[cut:]
		}
	}
}

// SplitText cuts a text that is too long for one message, at line breaks or spaces where it can, else between characters.
func SplitText(s string, limit int) []string {
	var out []string
	for len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		if cut == 0 { // not UTF-8: nothing begins here
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

// LocalTime is a message's time where the reader is.
func LocalTime(m im.Message) time.Time { return time.Unix(int64(m.Created), 0) }
