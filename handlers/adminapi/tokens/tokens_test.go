package tokens

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestFile adds tokens to a file, finds them, and finds a removed one no more.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if _, err := Open(path); err == nil {
		t.Error("opened a file that does not exist")
	}
	secrets := map[string]string{}
	add := func(name string, role Role) {
		t.Helper()
		one, secret, err := Make(name, role)
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = secret
		err = Change(path, func(l []Token) ([]Token, error) { return append(l, one), nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	add("ops", Admin)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	add("monitor", ReadOnly)
	for name, role := range map[string]Role{"ops": Admin, "monitor": ReadOnly} {
		if got, ok, err := s.Find(secrets[name]); !ok || err != nil || got.Name != name ||
			got.Role != role {
			t.Errorf("%s: found %v %v %v", name, got, ok, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, []byte(secrets["ops"])) {
		t.Errorf("the file holds a secret, or cannot be read: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, wrong := range []string{"", "ops", secrets["ops"] + "x", secrets["ops"][1:]} {
		if got, ok, err := s.Find(wrong); ok || err != nil {
			t.Errorf("%q: found %v, %v", wrong, got, err)
		}
	}
	if err := Change(path, func(l []Token) ([]Token, error) { return l[1:], nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Find(secrets["ops"]); ok || err != nil {
		t.Errorf("found a removed token, %v", err)
	}
}

// TestFileChangedInPlace: a token whose hash is another one, in a file of the same length, does
// not count, and neither does any in a file that cannot be read.
func TestFileChangedInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	one, secret, err := Make("ops", Admin)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write(Format([]Token{one}), now)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Find(secret); !ok || err != nil {
		t.Fatalf("found %v, %v", ok, err)
	}
	one.Hash[0]++
	write(Format([]Token{one}), now.Add(time.Second))
	if _, ok, err := s.Find(secret); ok || err != nil {
		t.Errorf("found a token whose hash was changed, %v", err)
	}
	write([]byte("ops"), now)
	if _, ok, err := s.Find(secret); ok || err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a broken file: found %v, %v", ok, err)
	}
}

// TestRefused refuses names, roles and lines.
func TestRefused(t *testing.T) {
	for _, name := range []string{"", "a b", "-a", strings.Repeat("a", 33), "a\n"} {
		if _, _, err := Make(name, Admin); err == nil {
			t.Errorf("accepted the name %q", name)
		}
	}
	if _, _, err := Make("a", "root"); err == nil {
		t.Error("accepted the role root")
	}
	one, _, err := Make("a", Admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(Format([]Token{one, one})); err == nil {
		t.Error("accepted a name twice")
	}
}

// FuzzParse parses arbitrary files. An accepted one remains the same when it is written.
func FuzzParse(f *testing.F) {
	one, _, err := Make("a", Admin)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Format([]Token{one}))
	f.Add([]byte("# x\n\na admin sha256:00\n"))
	f.Add([]byte("a read-only"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Format(list))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Errorf("%v, read again %v, %v", list, again, err)
		}
	})
}

// TestChangesAtOnce adds tokens from many processes at the same time: none is lost.
func TestChangesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	const n = 20
	failures := make(chan error, n)
	for i := range n {
		go func() {
			one, _, err := Make(fmt.Sprint("t", i), Admin)
			if err == nil {
				err = Change(path, func(list []Token) ([]Token, error) {
					return append(list, one), nil
				})
			}
			failures <- err
		}()
	}
	for range n {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if list, err := Read(path); err != nil || len(list) != n {
		t.Errorf("%d tokens, %v, want %d", len(list), err, n)
	}
}
