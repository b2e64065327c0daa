package main

import (
	"os"
	"path/filepath"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// TestBackupCommands copies a store beside its server, verifies and restores the copy, and shows
// the errors of each.
func TestBackupCommands(t *testing.T) {
	parent := t.TempDir()
	dir, made := filepath.Join(parent, "data"), filepath.Join(parent, "monday")
	run := func(args ...string) result { return command(t, "", args...) }
	run("backup", made, "--data-dir", dir).want(t, cli.ExitFailure, "", "no store to copy")
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ann := im.Account{User: im.User{Name: "ann"}}
	if _, err := s.CreateUsers(t.Context(), []im.Account{ann}); err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(parent, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(small, "a"), []byte("picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("backup", filepath.Join(parent, "no", "monday"), "--data-dir", dir).want(t, cli.ExitFailure,
		"", "the folder "+filepath.Join(parent, "no")+" does not exist")
	run("backup").want(t, cli.ExitUsage, "", "want the DIR to make, got 0 arguments")
	run("backup", made, "--store", "mysql", "--mysql.master", "a:b@tcp(127.0.0.1:1)/c",
		"--redis.addrs", "127.0.0.1:1").want(t, cli.ExitFailure, "", "BACKUP.md")
	run("backup", made, "--data-dir", dir, "--msfs.dir", small).want(t, cli.ExitOK,
		"monday: 2 files with ", "")
	run("backup", made, "--data-dir", dir).want(t, cli.ExitFailure, "", "monday exists")
	run("backup", "verify", made).want(t, cli.ExitOK, "monday is whole: 2 files with ", "")
	run("backup", "verify", parent).want(t, cli.ExitFailure, "", "is not a backup")
	run("backup", "verify", made, "--data-dir", dir).want(t, cli.ExitUsage, "", "--data-dir")
	again := filepath.Join(parent, "again")
	run("restore", made, "--data-dir", dir).want(t, cli.ExitFailure, "", "in use by another server")
	run("restore", made, "--data-dir", again, "--id-gap", "7", "--same-ids").
		want(t, cli.ExitUsage, "", "same-ids")
	run("restore", made, "--data-dir", filepath.Join(parent, "no", "data")).want(t,
		cli.ExitFailure, "", "the folder "+filepath.Join(parent, "no")+" does not exist")
	run("restore", made, "--data-dir", again, "--msfs.dir", small).want(t, cli.ExitOK,
		"next: move "+filepath.Join(again, "msfs")+" to "+small, "")
	run("restore", made, "--data-dir", again).want(t, cli.ExitFailure, "", "is not empty")
	run("restore", made, "--data-dir", again, "--force").want(t, cli.ExitOK,
		"is now "+again+".before-", "")
	run("user", "list", "--data-dir", again).want(t, cli.ExitOK, "ann", "")
	if err := os.WriteFile(filepath.Join(made, "msfs", "a"), []byte("Picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("backup", "verify", made).want(t, cli.ExitFailure, "", "msfs/a has other bytes")
}
