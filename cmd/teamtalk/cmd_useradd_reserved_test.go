package main

import (
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestUserAddReserved adds users whose names others take for official.
func TestUserAddReserved(t *testing.T) {
	dir := t.TempDir()
	add := func(stdin string, args ...string) result {
		t.Helper()
		return command(t, stdin, append(append([]string{"user", "add"}, args...), "--data-dir",
			dir)...)
	}
	add("", "admin").want(t, cli.ExitUsage, "", "use --reserved")
	add("", "carol", "--nick", "R00T").want(t, cli.ExitUsage, "", `the nick "R00T"`)
	add("", "admin", "--reserved").want(t, cli.ExitOK, "added admin (id 1)", "")
	csv := "name,password\ndora,pw\nroot,pw\n"
	add(csv, "--csv", "-").want(t, cli.ExitFailure, "", `the name "root"`)
	add(csv, "--csv", "-", "--reserved").want(t, cli.ExitOK, "", "added 2 users")
}
