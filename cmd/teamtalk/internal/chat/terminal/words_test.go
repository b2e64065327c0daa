package terminal

import (
	"slices"
	"testing"
)

// TestSplitWords also splits the names that quoteWord returns.
func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  a  b ": {"a", "b"}, `#"the team" bob`: {"#the team", "bob"},
		`"a b" c`: {"a b", "c"}, `"open end`: {`"open`, "end"}, `"" x`: {"x"}, `#dev`: {"#dev"},
		`#the\ team b\ c\`: {"#the team", `b c\`},
	} {
		if got := splitWords(in); !slices.Equal(got, want) {
			t.Errorf("splitWords(%q) = %q, want %q", in, got, want)
		}
	}
	for _, name := range []string{"bob", "#the team", "a b", "@a b"} {
		for _, marks := range []bool{false, true} {
			if got := splitWords(quoteWord(name, marks) + " x"); !slices.Equal(got,
				[]string{name, "x"}) {
				t.Errorf("%q comes back as %q", name, got)
			}
		}
	}
}

// FuzzSplitWords: no word is empty.
func FuzzSplitWords(f *testing.F) {
	f.Add(`#"the team" bob "x`)
	f.Fuzz(func(t *testing.T, s string) {
		if words := splitWords(s); slices.Contains(words, "") {
			t.Errorf("splitWords(%q) = %q", s, words)
		}
	})
}
