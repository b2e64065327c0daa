package obs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// hostile are names that a terminal would obey: ASCII and other control characters, marks of
// direction, and a tag, which is above 0xFFFF.
const hostile = "a\x1b[2J\x7f\u009b31m\u202e\u2066\u200b\u2028\U000E0041界é😀"

// TestNoLineOfTheLogMovesTheTerminal logs a hostile name in both formats.
func TestNoLineOfTheLogMovesTheTerminal(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		log, err := NewLogger(&b, LogOptions{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("refused", "name", hostile)
		line := strings.TrimSuffix(b.String(), "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: %q has a character that is not printed, at %d", format, line, i)
		}
		if !strings.Contains(line, "界é😀") {
			t.Errorf("%s: %q has lost the letters", format, line)
		}
		var got struct{ Name string }
		if err := json.Unmarshal(b.Bytes(), &got); format == "json" &&
			(err != nil || got.Name != hostile) {
			t.Errorf("read back %q (%v), want %q", got.Name, err, hostile)
		}
	}
}
