package im

import (
	"strings"
	"testing"
)

func TestCheckFileNameLimits(t *testing.T) {
	for name, ok := range map[string]bool{
		"": false, "a": true, strings.Repeat("漢", MaxFileName): true,
		strings.Repeat("x", MaxFileName+1): false, "\xff": false, "a/../b\x00": true,
	} {
		if err := CheckFileName(name); (err == nil) != ok || err != nil && KindOf(err) != Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzTaskID(f *testing.F) {
	const uuid = "6bd466b8-85bd-4ec3-94a6-01886865f3e0"
	for _, s := range []string{"", uuid, uuid[:35], uuid + "0", "../../../../../../etc/passwd",
		strings.Repeat("-", 36), strings.Repeat("9", MaxTaskID+1),
		"6bd466b8-85bd-4ec3-94a6-٠188686f3e0"} {
		f.Add(s)
	}
	mark := ServerMark("10.0.0.1", 8600)
	f.Fuzz(func(t *testing.T, s string) {
		bad := s == "" || len(s) > MaxTaskID || strings.ContainsAny(s, "./\\\x00 ") ||
			strings.ToValidUTF8(s, "?") != s
		if ValidTaskID(s) && bad {
			t.Errorf("%q is valid", s)
		}
		marked := MarkTask(s, mark)
		if TaskMark(s) == "" {
			if marked != s || SealTask(s, "10.0.0.1", 8600) != s ||
				SealedTask(s, "10.0.0.1", 8600) {
				t.Errorf("%q, which is no UUID, became %q", s, marked)
			}
			return
		}
		if !ValidTaskID(marked) || TaskMark(marked) != mark ||
			marked[:markBegin] != s[:markBegin] || marked[markEnd:] != s[markEnd:] {
			t.Errorf("%q became %q", s, marked)
		}
	})
}

// TestServerMarkIsStable fixes the marks: message servers of another version must
// understand them.
func TestServerMarkIsStable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []struct {
		ip   string
		port uint32
		mark string
	}{
		{"127.0.0.1", 15739, "1764"}, {"10.0.0.1", 8600, "d6ff"},
		{"10.0.0.1", 8601, "da60"}, {"", 0, "3898"},
	} {
		mark := ServerMark(s.ip, s.port)
		if mark != s.mark || seen[mark] {
			t.Errorf("%s %d: %s, want %s", s.ip, s.port, mark, s.mark)
		}
		seen[mark] = true
	}
	const uuid = "6bd466b8-85bd-4ec3-94a6-01886865f3e0"
	if id := MarkTask(uuid, "abcd"); id != "6bd466b8-85bd-4ec3-94a6-abcd6865f3e0" {
		t.Errorf("marked: %s", id)
	}
	if id := MarkTask(uuid, "abc"); id != uuid {
		t.Errorf("a mark of three digits changed the id to %s", id)
	}
}

// TestSealedTaskIsOwn checks that a server recognizes its own ids, and rejects ids that
// share only its mark or carry a seal copied from another id.
func TestSealedTaskIsOwn(t *testing.T) {
	const uuid = "6bd466b8-85bd-4ec3-94a6-01886865f3e0"
	id := SealTask(uuid, "10.0.0.1", 8600)
	if id != "6bd466b8-85bd-4ec3-94a6-d6ff2230d96d" {
		t.Errorf("sealed: %s; servers of another version would not recognize their ids", id)
	}
	if !SealedTask(id, "10.0.0.1", 8600) || TaskMark(id) != ServerMark("10.0.0.1", 8600) {
		t.Errorf("%s is not its server's", id)
	}
	for _, other := range []string{uuid, MarkTask(uuid, ServerMark("10.0.0.1", 8600)),
		SealTask(uuid, "10.0.0.1", 8601), SealTask(uuid, "10.0.0.2", 8600),
		"7" + id[1:], id[:35] + "0", id[:35], strings.ToUpper(id), ""} {
		if SealedTask(other, "10.0.0.1", 8600) {
			t.Errorf("%q counts as the server's", other)
		}
	}
}

// unsafeNames are names of files, and what receivers are told.
var unsafeNames = map[string]string{
	"report.pdf": "report.pdf", "报告 (2).docx": "报告 (2).docx", ".gitignore": ".gitignore",
	"../../.ssh/authorized_keys": "authorized_keys", `C:\Users\me\a.doc`: "a.doc",
	"/etc/passwd": "passwd", "a/": "file", "": "file", ".": "file", "..": "file",
	".. .": "file", "C:evil.exe": "C_evil.exe", "a.txt:s": "a.txt_s", "x. .": "x", "  x": "x",
	"a\x00b\r\nc\x1b[31m": "abc[31m", "photo\u202egpj.exe": "photogpj.exe",
	"\u2066a\u2069\u200f.txt": "a.txt", "a\u2028b": "ab", "\xff": "_", "\ufeff": "file",
	strings.Repeat("漢", 300) + ".pdf":  strings.Repeat("漢", MaxFileName-4) + ".pdf",
	strings.Repeat("漢", 300):           strings.Repeat("漢", MaxFileName),
	strings.Repeat("a.", 200) + "b":    strings.Repeat("a.", 126) + "a.b",
	"x." + strings.Repeat("long", 100): ("x." + strings.Repeat("long", 100))[:MaxFileName],
}

func TestCleanFileName(t *testing.T) {
	for name, want := range unsafeNames {
		if got := CleanFileName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

// FuzzFileName checks that the result is the name of one file, and that cleaning it again
// changes nothing.
func FuzzFileName(f *testing.F) {
	for name := range unsafeNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := CleanFileName(name)
		if CheckFileName(got) != nil || strings.ContainsAny(got, "/\\:\x00\u202e") ||
			strings.Trim(got, ". ") == "" || CleanFileName(got) != got {
			t.Errorf("%q becomes %q, and that %q", name, got, CleanFileName(got))
		}
	})
}
