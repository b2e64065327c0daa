package terminal

import (
	"io"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
)

// TestTypedRows counts rows of ten columns.
func TestTypedRows(t *testing.T) {
	for _, c := range []struct {
		text string
		rows int
	}{{"", 1}, {"123456789", 1}, {"1234567890", 2}, {"12345678901", 2}, {"123456789世", 2},
		{"12345678世", 2}, {strings.Repeat("x", 20), 3}} {
		if got := typedRows(c.text, 10); got != c.rows {
			t.Errorf("typedRows(%q) = %d, want %d", c.text, got, c.rows)
		}
	}
}

// TestPasteReader: a paste becomes one line, whatever the sizes of the reads are. Keys
// pass unchanged.
func TestPasteReader(t *testing.T) {
	const in = "ab\x1b[A\x1b" + "x" + pasteStart + "one\r\ntwo\rthree\n\tfour\x03\x1b[31m" +
		pasteEnd + "\r"
	const want = "ab\x1b[A\x1bx" + "one⏎two⏎three⏎ four[31m" + "\r"
	for _, n := range []int{1, 2, 3, 7, 1000} {
		got, err := io.ReadAll(newPasteReader(&slowReader{in, n}))
		if err != nil || string(got) != want {
			t.Errorf("in pieces of %d: %q, %v; want %q", n, got, err, want)
		}
	}
}

// slowReader returns at most n bytes a read.
type slowReader struct {
	s string
	n int
}

func (r *slowReader) Read(b []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(b, r.s[:min(r.n, len(r.s))])
	r.s = r.s[n:]
	return n, nil
}

// TestCompleteGroups: Tab completes names with spaces, in quotation marks and with
// backslashes.
func TestCompleteGroups(t *testing.T) {
	b := chat.NewBook(im.User{ID: 9, Name: "me"})
	b.SetUsers([]im.User{{ID: 1, Name: "bob"}, {ID: 2, Name: "dev"}, {ID: 3, Name: "carol"}})
	var groups []client.Group
	for i, name := range []string{"Dev", "The team", "theatre"} {
		g := im.Group{ID: uint32(10 + i), Name: name, Members: []uint32{1, 9}}
		groups = append(groups, client.Group{Group: g})
	}
	b.Event(client.Ready{Groups: groups})
	cm := &commands{&view{s: &chat.Session{Book: b}}}
	for line, want := range map[string]string{
		"/to bo": "/to bob ", "/to #the\\": "/to #the\\ team ",
		`/msg #"the t`: `/msg #"the team" `, "/group ad": "/group add ",
		"/group add #de":            "/group add #Dev ",
		"/group add #The\\ team bo": "/group add #The\\ team bob ", "/mute bo": "",
	} {
		choices, n := completer{cm}.Do([]rune(line), len([]rune(line)))
		got := ""
		if len(choices) == 1 {
			got = line + string(choices[0])
		}
		if !strings.EqualFold(got, want) {
			t.Errorf("%q becomes %q (%d, %q), want %q", line, got, n, choices, want)
		}
	}
}

// TestLastWord cuts the word at the cursor.
func TestLastWord(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a b": "b", `a #"the te`: `#"the te`, `a #the\ te`: `#the\ te`,
		`#"the team" b`: "b",
	} {
		if got := lastWord(in); got != want {
			t.Errorf("lastWord(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestBar: a bar shows the command that stops a running transfer, and has the same width
// in every state, so that a later bar overwrites the whole of an earlier one.
func TestBar(t *testing.T) {
	e := chat.FileEntry{N: 12, Mine: true, State: chat.FileSending,
		File: transfer.File{Size: 1000, Online: true}}
	for _, c := range []struct {
		state string
		moved int64
		rate  float64
		want  string
	}{
		{chat.FileSending, 0, 0, "[....................]   0%  not taken yet  /cancel 12 stops it"},
		{chat.FileSending, 500, 999_900_000_000,
			"[##########..........]  50%  999.9 GB/s  /cancel 12 stops it"},
		{chat.FileFetching, 500, 100,
			"[##########..........]  50%  100 bytes/s  /cancel 12 stops it"},
		{chat.FileDone, 1000, 1e6, "[####################] 100%  1.0 MB/s"},
		{chat.FileCancelled, 0, 0, "[....................]   0%"},
	} {
		e.State, e.Moved, e.Rate = c.state, c.moved, c.rate
		got := bar(e)
		if strings.TrimRight(got, " ") != c.want || len(got) != barWidth || strings.Contains(got,
			"m") {
			t.Errorf("%s: %q, want %q in %d columns", c.state, got, c.want, barWidth)
		}
	}
}
