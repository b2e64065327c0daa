package transfer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanFileNameIsSafe(t *testing.T) {
	for name, want := range map[string]string{
		"report.pdf": "report.pdf", "with blanks (2).txt": "with blanks (2).txt",
		"报告.docx": "报告.docx", "a.tar.gz": "a.tar.gz",
		"../../etc/passwd": "passwd", `..\..\boot.ini`: "boot.ini", "/abs": "abs",
		"a/": "file", "": "file", ".": "file", "..": "file", "...": "file",
		".bashrc": "bashrc", ". .x": "x", "x.": "x", "x. .": "x", "a\x00b\nc\x1b[31m": "abc[31m",
		"photo\u202egpj.exe": "photogpj.exe", "-rf": "_rf",
		"CON": "_CON", "nul.txt": "_nul.txt", "com1 .x": "_com1 .x", "com10": "com10",
		"c:d?e*": "c_d_e_", "\xff\xfe": "_", "tab\there": "tabhere",
		strings.Repeat("ä", 150) + ".pdf": strings.Repeat("ä", 98) + ".pdf",
	} {
		if got := CleanName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

// FuzzCleanFileName checks that the result names one file in the folder, and that
// cleaning it again changes nothing.
func FuzzCleanFileName(f *testing.F) {
	for _, s := range []string{"a.pdf", "../x", ". . .", "nul", "\u202e",
		strings.Repeat("x", 300) + ".gz", "a/.b", "-", "._", "CON.", "  "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := CleanName(name)
		safe := got != "" && len(got) <= maxCleanName && utf8.ValidString(got) &&
			got == filepath.Base(got) && filepath.IsLocal(got) && !strings.ContainsAny(got, `/\:`)
		edges := strings.HasPrefix(got, ".") || strings.HasSuffix(got, ".") ||
			strings.TrimSpace(got) != got
		if !safe || edges {
			t.Errorf("%q becomes %q", name, got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Errorf("%q becomes %q, with %U", name, got, r)
			}
		}
		if again := CleanName(got); again != got {
			t.Errorf("%q becomes %q, and that %q", name, got, again)
		}
	})
}

// TestSettleNeverOverwrites gives three files the same name.
func TestSettleNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{"a.txt", "a (1).txt", "a (2).txt"} {
		part := filepath.Join(dir, "x.part")
		if err := os.WriteFile(part, []byte{byte(i)}, 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := settle(part, "a.txt")
		if err != nil || path != filepath.Join(dir, want) {
			t.Fatalf("settled as %q, %v, want %s", path, err, want)
		}
		if b, err := os.ReadFile(path); err != nil || len(b) != 1 || b[0] != byte(i) {
			t.Errorf("%s has %v, %v", path, b, err)
		}
		if _, err := os.Stat(part); !os.IsNotExist(err) {
			t.Errorf("the part still exists: %v", err)
		}
	}
}
