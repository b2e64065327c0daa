package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestMSFSExpire counts the files that would expire, and changes nothing: neither the files, nor
// an upload in progress, nor the note from which on downloads are known.
func TestMSFSExpire(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, age time.Duration) string {
		t.Helper()
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const day = 24 * time.Hour
	upload := write(".tmp/upload", "half", 0)
	write("g0/000/001/unused.jpg", "12345", 40*day)
	write("g0/000/001/old.jpg", "123", 400*day)
	write("g0/000/001/old.jpg!", "", 390*day)
	write("g0/000/001/read.jpg", "1", 400*day)
	write("g0/000/001/read.jpg!", "", 10*day)
	run := func(args ...string) result {
		return command(t, "", append([]string{"msfs", "expire", "--msfs.dir", dir}, args...)...)
	}
	both := []string{"--dry-run", "--msfs.expire-after", "8760h", "--msfs.expire-unused-after",
		"720h"}
	run().want(t, cli.ExitUsage, "", "add --dry-run")
	run("--dry-run").want(t, cli.ExitUsage, "", "set msfs.expire_after")
	run(both...).want(t, cli.ExitOK, "3 files with 9 bytes, 1 of them never downloaded; "+
		"no server has counted downloads yet\nwould expire now: 0 files with 0 bytes", "")
	write(".expiry", `{"since":"2020-01-01T00:00:00Z","seen":"2020-01-01T00:00:00Z"}`, 0)
	run(both...).want(t, cli.ExitOK, "would expire now: 1 files with 5 bytes that were never "+
		"downloaded, 1 with 3 bytes that are old", "")
	run(append(both, "--list")...).want(t, cli.ExitOK, "old    g0/000/001/old.jpg\n"+
		"unused g0/000/001/unused.jpg\n", "")
	run("--dry-run", "--msfs.expire-after", "8760h", "--msfs.dir", filepath.Join(dir, "none")).
		want(t, cli.ExitFailure, "", "none")
	if _, err := os.Stat(upload); err != nil {
		t.Errorf("an upload in progress: %v", err)
	}
}
