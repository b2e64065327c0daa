package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// generated lists the folders of generated Go, and how each is generated.
var generated = []struct{ in, out, api string }{
	{"..", "../pb", "API_OPAQUE"},
	{"../pb/internal/openpb", "../pb/internal/openpb", "API_OPEN"},
}

func TestGeneratedFilesAreFresh(t *testing.T) {
	for _, g := range generated {
		if err := run(g.in, g.out, g.api, true); err != nil {
			t.Errorf("%s: %v", g.out, err)
		}
	}
}

func TestCheckReportsStaleFiles(t *testing.T) {
	g := generated[1]
	files, err := generate(g.in, g.api)
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(files)); !slices.Equal(names, []string{"open.pb.go"}) {
		t.Fatalf("generated %q", names)
	}
	check := func(change func(dir string)) error {
		dir := t.TempDir()
		if err := run(g.in, dir, g.api, false); err != nil {
			t.Fatal(err)
		}
		change(dir)
		return run(g.in, dir, g.api, true)
	}
	if err := check(func(string) {}); err != nil {
		t.Errorf("freshly generated files: %v", err)
	}
	for name, change := range map[string]func(dir string) error{
		"open.pb.go": func(dir string) error { return os.Remove(filepath.Join(dir, "open.pb.go")) },
		"old.pb.go": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "old.pb.go"), nil, 0o600)
		},
		"old.gen.go": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "old.gen.go"), nil, 0o600)
		},
	} {
		err := check(func(dir string) {
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s changed: got error %v", name, err)
		}
	}
	edited := check(func(dir string) {
		path := filepath.Join(dir, "open.pb.go")
		if err := os.WriteFile(path, append(files["open.pb.go"], '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if edited == nil {
		t.Error("an edited file passes the check")
	}
}

func TestBadCommandCommentsAreErrors(t *testing.T) {
	for name, c := range map[string]struct{ proto, want string }{
		"two with one id": {"// cmd: 0x0101\nmessage A {}\n// cmd: 0x0101\nmessage B {}\n",
			"command 0x0101: both A and B"},
		"not a number": {"// cmd: login\nmessage A {}\n", "invalid syntax"},
		"too big":      {"// cmd: 0x10000\nmessage A {}\n", "out of range"},
		"not proto":    {"message {}\n", "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := "syntax = \"proto2\";\npackage x;\noption go_package = \"teamtalk/x\";\n" +
				c.proto
			if err := os.WriteFile(filepath.Join(dir, "x.proto"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := generate(dir, "API_OPAQUE"); err == nil ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := generate(t.TempDir(), "API_OPAQUE"); err == nil {
		t.Error("a folder without .proto files passes")
	}
}
