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

// TestUserAddFileRefusals refuses files in another encoding, and names of departments that do not
// exist.
func TestUserAddFileRefusals(t *testing.T) {
	dir := t.TempDir()
	for _, x := range []struct{ file, want string }{
		{"name,department\na,West\n", `line 2: no department has the name, path or id "West"`},
		{"name,nick\na,b\nc,\xb1\xb4\n", // GBK
			`line 3: nick "\xb1\xb4": the file is not UTF-8: save it as CSV UTF-8`},
		{"\xff\xfen\x00a\x00m\x00e\x00\n\x00", "the file is not UTF-8"}, // UTF-16
	} {
		command(t, x.file, "user", "add", "--data-dir", dir, "--csv", "-").want(t,
			cli.ExitFailure, "", x.want)
	}
	command(t, "name,department\na,0\n", "user", "add", "--data-dir", dir, "--csv", "-").want(t,
		cli.ExitOK, "", "added 1 user")
}
