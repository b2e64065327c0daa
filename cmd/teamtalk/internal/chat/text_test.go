package chat

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// TestCleanText removes what could steer a terminal.
func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain 世界 😀": "plain 世界 😀", "a\x1b[31mb": "a[31mb", "a\rb\r\nc": "a\nb\nc",
		"\x07\x00\x7f\u009b1m": "1m", "a\tb": "a b",
		"\u202eevil\u202c \u2066x\u2069": "evil x", "\xff\xfe": "�", "a\u2028b": "a\nb",
		"👩\u200d🚀": "👩\u200d🚀",
	} {
		if got := CleanText(in); got != want {
			t.Errorf("CleanText(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzCleanText: the result is clean, lines fit their width, and a split text loses only
// blanks.
func FuzzCleanText(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\x9b31m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := CleanText(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got,
			func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("CleanText(%q) = %q", s, got)
		}
		if CleanText(got) != got {
			t.Errorf("%q is not clean yet: %q", got, CleanText(got))
		}
		if line := CleanLine(s); strings.Contains(line, "\n") {
			t.Errorf("CleanLine(%q) = %q", s, line)
		}
		for _, width := range []int{4, 17} {
			for _, l := range WrapText(got, width) {
				if runewidth.StringWidth(l) > width {
					t.Errorf("%q is wider than %d", l, width)
				}
			}
		}
		if joined := strings.Join(SplitText(s, 50),
			""); len(joined) > len(s) || len(joined) < len(s)-len(s)/25 {
			t.Errorf("%q was split into %q", s, SplitText(s, 50))
		}
	})
}

// TestWrapText breaks between words where possible.
func TestWrapText(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  []string
	}{
		{"one two three", 8, []string{"one two", "three"}},
		{"one two", 7, []string{"one two"}},
		{"a\n\nb", 8, []string{"a", "", "b"}},
		{"abcdefghij", 4, []string{"abcd", "efgh", "ij"}},
		{"世界世界", 5, []string{"世界", "世界"}},
		{"bob: https://example.com/x", 12, []string{"bob: https:/", "/example.com", "/x"}},
	} {
		if got := WrapText(c.in, c.width); !slices.Equal(got, c.want) {
			t.Errorf("WrapText(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

// TestSplitText cuts between characters.
func TestSplitText(t *testing.T) {
	long := strings.Repeat("世", 40) // 3 bytes each
	for _, part := range SplitText(long, 50) {
		if len(part) > 50 || !utf8.ValidString(part) {
			t.Errorf("part %q", part)
		}
	}
	if got := SplitText("first half\nsecond half", 15); !slices.Equal(got,
		[]string{"first half", "second half"}) {
		t.Errorf("split %q", got)
	}
}
