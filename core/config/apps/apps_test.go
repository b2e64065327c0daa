package apps

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestApps(t *testing.T) {
	a, err := Load(filepath.Join("..", "..", "..", "cmd", "teamtalk", "example", "http",
		"apps.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.App) != 2 || a.App[0].Name != "hr" || len(a.App[1].Nets) != 1 ||
		len(a.Register.Invites) != 1 || a.Register.Open {
		t.Errorf("the example: %+v", a)
	}
	if shown := fmt.Sprintf("%v %+v", a, a); strings.Contains(shown, string(a.App[0].Key)) {
		t.Error("a key shows when it is printed")
	}
	for text, want := range map[string]string{
		"[[app]]\nnmae=\"x\"":                         "apps.toml:2: no such key: app.nmae",
		"[[app]]\nnetworks=[\"10.0\"]":                "no network such as",
		"[[app]]\nas=[-1]":                            "apps.toml:2: ",
		"[register]\ninvites=\"secret\"":              "apps.toml:2: ",
		"[register]\nnetworks=[\"10\"]":               "register: networks: \"10\" is no",
		"[[app]]\nnetworks=[\"::ffff:10.1.0.0/112\"]": "write 10.1.0.0/16",
		"app = 1": "apps.toml:1: ",
	} {
		file := filepath.Join(t.TempDir(), "apps.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
	if _, err := Load("missing"); err == nil {
		t.Error("a missing file was read")
	}
}

// TestFilesOfWindows reads a file as editors on Windows write it.
func TestFilesOfWindows(t *testing.T) {
	if _, err := parse("apps.toml", []byte("\ufeff[[app]]\r\nname = \"x\"\r\n")); err != nil {
		t.Error(err)
	}
}

// FuzzApps parses arbitrary files. The parser must not panic, and networks that it accepts must
// be parsed.
func FuzzApps(f *testing.F) {
	f.Add([]byte("[[app]]\nname=\"x\"\nkey=\"y\"\nnetworks=[\"10.0.0.0/8\"]\n" +
		"[register]\ninvites=[\"a\"]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parse("apps.toml", data)
		if err == nil {
			for _, app := range a.App {
				if len(app.Nets) != len(app.Networks) {
					t.Errorf("%d networks of %d", len(app.Nets), len(app.Networks))
				}
			}
		}
	})
}
