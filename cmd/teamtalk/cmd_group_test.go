package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/embedded"
)

// onBothStores runs a test on the embedded store, and on MariaDB and Redis.
func onBothStores(t *testing.T, test func(t *testing.T)) {
	t.Run("embedded", func(t *testing.T) {
		t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
		test(t)
	})
	t.Run("mysql", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts MariaDB")
		}
		redis := dbtest.Redis(t)
		redis.FlushAll()
		t.Setenv("TEAMTALK_STORE", "mysql")
		t.Setenv("TEAMTALK_MYSQL_MASTER", dbtest.MariaDB(t).NewDatabase(t))
		t.Setenv("TEAMTALK_REDIS_ADDRS", redis.Addr())
		command(t, "", "migrate").want(t, cli.ExitOK, "", "")
		test(t)
	})
}

// addNamed adds users with these names. In a new store their ids are 1, 2 and so on.
func addNamed(t *testing.T, names ...string) {
	t.Helper()
	command(t, "name,password\n"+strings.Join(names, ",x\n")+",x\n", "user", "add", "--csv",
		"-").want(t, cli.ExitOK, "", "added")
}

// TestGroupCommands runs the commands on both stores.
func TestGroupCommands(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addNamed(t, "alice", "bob", "carol", "dora", "2000")
		command(t, "", "user", "disable", "dora").want(t, cli.ExitOK, "", "")
		runGroup(t, "list").want(t, cli.ExitOK,
			"no groups yet; create one with teamtalk group create", "")
		createGroups(t)
		changeMembersOf2(t)
		renameAndList(t)
	})
}

// runGroup runs a command of group.
func runGroup(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, "", append([]string{"group"}, args...)...)
}

// groupShown is what a reader of "group show --json" expects.
type groupShown struct {
	ID       uint32   `json:"id"`
	Name     string   `json:"name"`
	Avatar   string   `json:"avatar"`
	Type     string   `json:"type"`
	Creator  uint32   `json:"creator"`
	Version  uint32   `json:"version"`
	Created  uint32   `json:"created"`
	Updated  uint32   `json:"updated"`
	LastChat uint32   `json:"last_chat"`
	Members  []uint32 `json:"members"`
}

// shownGroup returns a group as group show --json prints it, without its times.
func shownGroup(t *testing.T, group string) (g groupShown) {
	t.Helper()
	r := runGroup(t, "show", group, "--json")
	if err := json.Unmarshal([]byte(r.out), &g); err != nil || r.code != cli.ExitOK {
		t.Fatalf("show %s: %v, %+v", group, err, r)
	}
	if g.Created == 0 {
		t.Errorf("the group %s has no time of creation", group)
	}
	g.Created, g.Updated = 0, 0
	return g
}

// createGroups creates the groups 1 to 3. Two of them have the same name.
func createGroups(t *testing.T) {
	runGroup(t, "create", "小组 'x\"", "alice", "2", "alice", "--avatar", "http://x/a.png").want(t,
		cli.ExitOK, "created the group 小组 'x\" (id 1) of 2 members\n", "")
	equal(t, "group 1", shownGroup(t, "1"), groupShown{ID: 1, Name: "小组 'x\"", Type: "normal",
		Avatar: "http://x/a.png", Version: 1, Members: []uint32{1, 2}})
	runGroup(t, "create", "Talk", "bob", "--creator", "carol", "--type", "temporary").want(t,
		cli.ExitOK, "(id 2) of 2 members", "")
	equal(t, "group Talk", shownGroup(t, "Talk"), groupShown{ID: 2, Name: "Talk",
		Type: "temporary", Creator: 3, Version: 1, Members: []uint32{2, 3}})
	// The name of this user is a number.
	runGroup(t, "create", "Talk", "2000").want(t, cli.ExitOK, "(id 3) of 1 member\n", "")
	runGroup(t, "show", "Talk").want(t, cli.ExitFailure, "",
		`2 groups have the name "Talk"; give the id of one: 2, 3`)
	runGroup(t, "create", "None", "alice", "nobody", "77", "dora").want(t, cli.ExitFailure, "",
		"no user has the name \"nobody\"; see teamtalk user list\nteamtalk: no user has the "+
			"name or id \"77\"; see teamtalk user list\n"+
			"teamtalk: dora is disabled; first: teamtalk user enable dora\nteamtalk: nothing "+
			"was changed\n")
}

// changeMembersOf2 adds members to group 2 and removes some, also those that change nothing.
func changeMembersOf2(t *testing.T) {
	runGroup(t, "add", "2", "alice", "bob", "alice").want(t, cli.ExitOK,
		"Talk (id 2): 1 member added, 3 now; in it already: 1\n", "")
	runGroup(t, "add", "2", "alice").want(t, cli.ExitOK,
		"Talk (id 2): 0 members added, 3 now; in it already: 1\n", "")
	runGroup(t, "remove", "2", "bob", "alice", "2000").want(t, cli.ExitOK,
		"Talk (id 2): 2 members removed, 1 now; not in it: 1\n", "")
	equal(t, "group 2", shownGroup(t, "2"), groupShown{ID: 2, Name: "Talk", Type: "temporary",
		Creator: 3, Version: 3, Members: []uint32{3}})
	runGroup(t, "add", "9", "alice").want(t, cli.ExitFailure, "",
		`no group has the name or id "9"; see teamtalk group list`)
}

// renameAndList renames group 3, and shows and lists the groups.
func renameAndList(t *testing.T) {
	runGroup(t, "rename", "3", "All staff").want(t, cli.ExitOK,
		"the group Talk (id 3) is now All staff\n", "")
	runGroup(t, "show", "All staff").want(t, cli.ExitOK, "creator       nobody\n", "")
	runGroup(t, "show", "2").want(t, cli.ExitOK, "creator       carol (id 3)\n", "")
	runGroup(t, "show", "2").want(t, cli.ExitOK,
		"\nID  NAME   NICK   STATUS\n3   carol  carol  ok\n", "")
	runGroup(t, "list").want(t, cli.ExitOK, lines(
		"ID  NAME       TYPE       MEMBERS  LAST MESSAGE",
		"1   小组 'x\"   normal     2",
		"2   Talk       temporary  1",
		"3   All staff  normal     1"), "")
	list := strings.Split(strings.TrimSpace(runGroup(t, "list", "--json").out), "\n")
	if len(list) != 3 || !strings.Contains(list[0],
		`"name":"小组 'x\"","avatar":"http://x/a.png","type":"normal","creator":0,"version":1,`) ||
		!strings.HasSuffix(list[0], `"last_chat":0,"members":[1,2]}`) {
		t.Errorf("%s", list)
	}
}

// TestGroupFromFile reads the names of members from a file and from standard input.
func TestGroupFromFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEAMTALK_DATA_DIR", dir)
	command(t, "", "user", "add", "--count", "600", "--password", "x").want(t, cli.ExitOK, "", "")
	file := filepath.Join(dir, "names.txt")
	text := "\xef\xbb\xbfu00001\r\n\n  u00002  \n7\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "", "group", "create", "few", "u00009", "--from", file).want(t, cli.ExitOK,
		"of 4 members", "")
	command(t, command(t, "", "user", "list", "--json").out, "group", "create", "x", "--from",
		"-").want(t, cli.ExitFailure, "", "and 580 more problems\n")
	var names strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(command(t, "", "user", "list",
		"--json").out), "\n") {
		var u struct{ Name string }
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			t.Fatal(err)
		}
		names.WriteString(u.Name + "\n")
	}
	command(t, names.String(), "group", "add", "few", "--from", "-").want(t, cli.ExitOK,
		"few (id 1): 596 members added, 600 now; in it already: 4", "")
	command(t, "\n\n", "group", "add", "few", "--from", "-").want(t, cli.ExitUsage, "",
		"want users, as arguments or with --from FILE")
	command(t, "", "group", "add", "few", "--from", filepath.Join(dir, "none")).want(t,
		cli.ExitFailure, "", "no such file")
}

// TestGroupBesideServer checks that a server on the same store applies the changes of a command
// at once.
func TestGroupBesideServer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEAMTALK_DATA_DIR", dir)
	addNamed(t, "alice", "bob", "carol")
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send := func() *im.Message {
		m := &im.Message{From: 3, To: 1, Created: 1, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
			Data: []byte("x")}
		s.AppendMessages(t.Context(), []*im.Message{m})
		return m
	}
	command(t, "", "group", "create", "g", "alice", "bob").want(t, cli.ExitOK, "(id 1)", "")
	if m := send(); im.KindOf(m.Err) != im.Denied {
		t.Errorf("carol is no member, and sends: %v", m.Err)
	}
	command(t, "", "group", "add", "g", "carol").want(t, cli.ExitOK, "3 now", "")
	if m := send(); m.Err != nil || m.GroupVersion != 2 {
		t.Errorf("carol is a member now: %v, version %d", m.Err, m.GroupVersion)
	}
	if v, err := s.GroupVersions(t.Context(),
		[]uint32{1}); err != nil || len(v) != 1 || v[0].Version != 2 {
		t.Errorf("versions %v, %v", v, err)
	}
}

// TestGroupAndDepartUsage checks the errors of wrong usage.
func TestGroupAndDepartUsage(t *testing.T) {
	t.Setenv("TEAMTALK_DATA_DIR", t.TempDir())
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"group", "creat"}, `did you mean "create"?`},
		{[]string{"group", "create"}, "want a NAME and users, got 0 arguments"},
		{[]string{"group", "create", "x"}, "want users, as arguments or with --from FILE"},
		{[]string{"group", "create", "", "a"}, "a group needs a name"},
		{[]string{"group", "create", " x", "a"}, "begins or ends with a blank"},
		{[]string{"group", "create", strings.Repeat("x", im.MaxGroupName+1), "a"}, "256 fit"},
		{[]string{"group", "create", "x", "a", "--avatar", strings.Repeat("x", im.MaxGroupName+1)},
			"256 fit"},
		{[]string{"group", "create", "x", "a", "--type", "secret"},
			`--type "secret" is none of normal and temporary`},
		{[]string{"group", "list", "x"}, "want no arguments"},
		{[]string{"group", "show"}, "want one GROUP, got 0 arguments"},
		{[]string{"group", "add", "x"}, "want users"},
		{[]string{"group", "remove"}, "want a GROUP and users"},
		{[]string{"group", "rename", "x"}, "want a GROUP and its new NAME"},
		{[]string{"group", "rename", "x", "a\nb"}, "control character"},
		{[]string{"depart", "add"}, "want one NAME"},
		{[]string{"depart", "add", ""}, "a department needs a name"},
		{[]string{"depart", "add", strings.Repeat("x", im.MaxDepartName+1)}, "64 fit"},
		{[]string{"depart", "rename", "x", "y "}, "begins or ends with a blank"},
		{[]string{"depart", "move", "x"}, "want a DEPARTMENT and its new PARENT"},
		{[]string{"depart", "delete"}, "want one DEPARTMENT"},
		{[]string{"depart", "add", "x", "--priority", "-1"}, "--priority"},
		{[]string{"user", "set", "a"}, "want a flag with a value to change, such as --nick"},
		{[]string{"user", "set", "--sign", "x"}, "want one NAME"},
		{[]string{"user", "set", "a", "--sign", strings.Repeat("x", 129)}, "128 fit"},
		{[]string{"user", "set", "a", "--avatar", "a\nb"}, "control character"},
	} {
		r := command(t, "", x.args...)
		r.want(t, cli.ExitUsage, "", x.want)
		if r.out != "" {
			t.Errorf("%q: printed %q", x.args, r.out)
		}
	}
	for _, args := range [][]string{{"group", "list"}, {"group", "create", "x", "a"},
		{"depart", "list"}, {"depart", "delete", "x"}, {"user", "set", "a", "--sign", ""}} {
		command(t, "", args...).want(t, cli.ExitFailure, "", "no store in ")
	}
}

// TestGroupAndDepartHelp compares the help with the golden files.
func TestGroupAndDepartHelp(t *testing.T) {
	golden(t, "help-group.txt", command(t, "", "group", "--help").out)
	golden(t, "help-depart.txt", command(t, "", "depart", "--help").out)
}
