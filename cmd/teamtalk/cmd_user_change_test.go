package main

import (
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
)

// TestUserChanges changes every field of a user, and deletes the user, on both stores.
func TestUserChanges(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addNamed(t, "alice", "bob")
		changeUser(t, "alice has another nick\nalice has another domain\n"+
			"alice has another gender\nalice has another phone\nalice has another email\n",
			"set", "alice", "--nick", "Alice Liddell", "--domain", "ailisi", "--gender", "f",
			"--phone", "13800138000", "--email", "a@example.com")
		command(t, "", "user", "list", "--json").want(t, cli.ExitOK, `"id":1,"name":"alice",`+
			`"nick":"Alice Liddell","domain":"ailisi","gender":"f","phone":"13800138000",`+
			`"email":"a@example.com"`, "")
		for _, x := range []struct{ flag, value, want string }{
			{"--nick", "", "a user needs a nick"}, {"--nick", "Admin", "--reserved"},
			{"--phone", "123456789012", "11 fit"}, {"--gender", "x", "is none of m, f"},
			{"--email", "a\x1b", "control character"},
		} {
			command(t, "", "user", "set", "alice", x.flag, x.value).want(t, cli.ExitUsage, "",
				x.want)
		}
		changeUser(t, "alice has another nick\n", "set", "alice", "--nick", "Admin", "--reserved")
		deleteAlice(t)
	})
}

// deleteAlice deletes a user that has made a group, adds another one with the name, and
// dissolves the group.
func deleteAlice(t *testing.T) {
	command(t, "", "group", "create", "G", "bob", "--creator", "alice").want(t, cli.ExitOK,
		"created the group G (id 1) of 2 members\n", "")
	command(t, "", "user", "delete", "alice").want(t, cli.ExitUsage, "", "confirm it with --yes")
	changeUser(t, "alice (id 1) is deleted, and was in 1 group\n"+
		"groups that no client can change now: [1]\n", "delete", "alice", "--yes")
	changeUser(t, "deleted-1 (id 1) is deleted, and was in 0 groups\n", "delete", "1", "--yes")
	list := command(t, "", "user", "list", "--json").out
	for _, want := range []string{`"name":"deleted-1","nick":"Admin","domain":"deleted-1",` +
		`"gender":"","phone":"","email":"","avatar":"","department":0,"sign":"",` +
		`"status":"disabled"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %s:\n%s", want, list)
		}
	}
	command(t, "", "group", "show", "G", "--json").want(t, cli.ExitOK, `"members":[2]`, "")
	addNamed(t, "alice")
	command(t, "", "group", "dissolve", "G").want(t, cli.ExitOK,
		"the group G (id 1) is dissolved: 1 member removed\n", "")
	command(t, "", "group", "dissolve", "1").want(t, cli.ExitOK, "0 members removed\n", "")
	command(t, "", "group", "show", "G", "--json").want(t, cli.ExitOK, `"members":[]`, "")
	command(t, "", "group", "add", "G", "alice").want(t, cli.ExitOK, "1 member added, 1 now", "")
}

// TestUserNamedLikeAnID: a user that has chosen the id of another one as its name does not take the
// place of that user where the text says that it is an id.
func TestUserNamedLikeAnID(t *testing.T) {
	t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
	addNamed(t, "alice", "1")
	command(t, "", "user", "set", "id:1", "--nick", "by id").want(t, cli.ExitOK, "alice has", "")
	command(t, "", "user", "set", "1", "--nick", "by name").want(t, cli.ExitOK, "1 has", "")
	command(t, "", "user", "set", "id:9", "--nick", "x").want(t, cli.ExitFailure, "",
		`no user has the name or id "id:9"`)
	command(t, "", "user", "list", "--json").want(t, cli.ExitOK,
		`"id":1,"name":"alice","nick":"by id"`, "")
	command(t, "", "group", "create", "G", "id:1").want(t, cli.ExitOK, "of 1 member", "")
	command(t, "", "group", "show", "G", "--json").want(t, cli.ExitOK, `"members":[1]`, "")
}

// TestUserKickUsage: commands that call the admin API say how to reach it.
func TestUserKickUsage(t *testing.T) {
	t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
	addNamed(t, "alice")
	for _, verb := range []string{"kick", "online"} {
		command(t, "", "user", verb, "alice").want(t, cli.ExitUsage, "", "admin_api.listen")
		command(t, "", "user", verb, "alice", "--api", "http://127.0.0.1:1").want(t, cli.ExitUsage,
			"", "--token-file")
		command(t, "x", "user", verb, "alice", "--api", "http://127.0.0.1:1", "--token-file", "-").
			want(t, cli.ExitFailure, "", "call the admin API")
	}
}
