package kdf

import (
	"strings"
	"testing"
)

// small are costs that a test can afford.
var small = Params{Memory: 64, Passes: 1, Lanes: 1}

// TestForm derives, parses and compares.
func TestForm(t *testing.T) {
	stored := New(small, "secret")
	if again := New(small, "secret"); again == stored {
		t.Error("two forms of a password have the same salt")
	}
	f, err := Parse(stored)
	if err != nil || f.Params != small || f.String() != stored || len(stored) > MaxForm {
		t.Fatalf("%q: %+v, %v", stored, f, err)
	}
	if !f.Matches("secret") || f.Matches("secret ") || f.Matches("") || (Form{}).Matches("") {
		t.Error("the form does not match its password alone")
	}
	costly := Params{Memory: 128, Passes: 2}
	if raised, err := Parse(With(costly, "secret", f.Salt)); err != nil ||
		string(raised.Salt) != string(f.Salt) || !raised.Matches("secret") ||
		!f.Below(raised.Params) || raised.Below(f.Params) {
		t.Errorf("with higher costs: %+v, %v", raised, err)
	}
}

// TestKnownForm compares with a form that the reference implementation printed for
// "password" and "somesalt".
func TestKnownForm(t *testing.T) {
	const known = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$" +
		"nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	f, err := Parse(known)
	if err != nil || !Is(known) || !f.Matches("password") || f.Matches("Password") {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestLongestForm requires that the highest costs fit MaxForm.
func TestLongestForm(t *testing.T) {
	f := Form{Params: Params{MaxMemory, MaxPasses, maxLanes}, Salt: make([]byte, saltLen),
		sum: make([]byte, sumLen)}
	if n := len(f.String()); n > MaxForm {
		t.Errorf("%d bytes, %d fit", n, MaxForm)
	}
}

// bad returns forms that Parse rejects.
func bad() []string {
	good := New(small, "secret")
	list := []string{"", "$argon2id$", "d41d8cd98f00b204e9800998ecf8427e",
		strings.Repeat("$", 60), good + "$", good[:len(good)-40], " " + good, good + " "}
	for _, change := range [][2]string{{"v=19", "v=18"}, {"m=64", "m=4194304"}, {"m=64", "m=7"},
		{"m=64", "m=-1"}, {"t=1", "t=0"}, {"t=1", "t=65"}, {"p=1", "p=0"}, {"p=1", "p=17"},
		{"m=64,t=1", "t=1,m=64"}, {"argon2id", "argon2i"}, {"m=64", "m=064"}} {
		list = append(list, strings.Replace(good, change[0], change[1], 1))
	}
	return list
}

// TestParseRejects tries texts that are no form, and costs that no server may pay.
func TestParseRejects(t *testing.T) {
	for _, text := range bad() {
		if f, err := Parse(text); err == nil {
			t.Errorf("%q is accepted: %+v", text, f)
		}
	}
}

// TestNewPanics requires that costs out of range do not become a row.
func TestNewPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	New(Params{}, "secret")
}

// FuzzParse requires that a form is accepted only in the spelling that String prints.
func FuzzParse(f *testing.F) {
	f.Add(New(small, "secret"))
	for _, text := range bad() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if form, err := Parse(text); err == nil && (form.String() != text || form.Check() != nil) {
			t.Errorf("%q became %q", text, form.String())
		}
	})
}
