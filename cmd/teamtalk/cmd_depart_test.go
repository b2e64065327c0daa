package main

import (
	"testing"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/sql/embedded"
)

// TestDepartCommands runs the commands on both stores.
func TestDepartCommands(t *testing.T) {
	onBothStores(t, func(t *testing.T) {
		addDeparts(t)
		addNamed(t, "alice", "bob", "carol")
		putIntoDeparts(t)
		changeDeparts(t)
		deleteDeparts(t)
	})
}

// runDepart runs a command of depart.
func runDepart(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, "", append([]string{"depart"}, args...)...)
}

// changeUser runs a command of user that succeeds and prints want.
func changeUser(t *testing.T, want string, args ...string) {
	t.Helper()
	command(t, "", append([]string{"user"}, args...)...).want(t, cli.ExitOK, want, "")
}

// addDeparts adds the departments 1 to 5.
func addDeparts(t *testing.T) {
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"Sales", "--priority", "2"}, "added Sales (id 1)\n"},
		{[]string{"研发部", "--priority", "1"}, "added 研发部 (id 2)\n"},
		{[]string{"East", "--parent", "Sales"}, "added Sales/East (id 3)\n"},
		{[]string{"East", "--parent", "2"}, "added 研发部/East (id 4)\n"},
		{[]string{"Shop", "--parent", "Sales/East"}, "added Sales/East/Shop (id 5)\n"},
	} {
		runDepart(t, append([]string{"add"}, x.args...)...).want(t, cli.ExitOK, x.want, "")
	}
	runDepart(t, "add", "East", "--parent", "/Sales/").want(t, cli.ExitFailure, "",
		`department 3 has the same parent and the same name "East"`)
	runDepart(t, "add", "x", "--parent", "East").want(t, cli.ExitFailure, "",
		`2 departments have the name "East"; give the path or id of one: `+
			`3 (Sales/East), 4 (研发部/East)`)
	runDepart(t, "add", "x", "--parent", "West").want(t, cli.ExitFailure, "",
		`no department has the name, path or id "West"; see teamtalk depart list`)
}

// putIntoDeparts puts users into departments, and lists the departments. carol is disabled, and
// is not counted.
func putIntoDeparts(t *testing.T) {
	changeUser(t, "alice is in Sales/East\n", "set", "alice", "--department", "Sales/East")
	changeUser(t, "bob is in Sales/East/Shop\nbob has another picture\nbob has another sign info\n",
		"set", "2", "--department", "5", "--avatar", "http://x/b.png", "--sign", "签名 🙂")
	changeUser(t, "carol is in Sales/East\n", "set", "carol", "--department", "Sales/East")
	changeUser(t, "carol is disabled\n", "disable", "3")
	command(t, "", "user", "set", "bob", "--department", "none", "--sign", "y").want(t,
		cli.ExitFailure, "", `no department has the name, path or id "none"`)
	changeUser(t, `"avatar":"http://x/b.png","department":5,"sign":"签名 🙂","status":"ok"}`,
		"list", "--json")
	runDepart(t, "list").want(t, cli.ExitOK, lines(
		"ID  NAME      PRIORITY  USERS",
		"2   研发部    1         0",
		"4     East    0         0",
		"1   Sales     2         0",
		"3     East    0         1",
		"5       Shop  0         1"), "")
	runDepart(t, "list", "--json").want(t, cli.ExitOK,
		`{"id":3,"name":"East","path":"Sales/East","parent":1,"priority":0,"users":1}`+"\n", "")
}

// changeDeparts renames and moves departments.
func changeDeparts(t *testing.T) {
	runDepart(t, "move", "Sales", "Sales/East/Shop").want(t, cli.ExitFailure, "",
		"department 1 would become its own ancestor")
	runDepart(t, "delete", "Sales").want(t, cli.ExitFailure, "",
		`department 1 contains department "East"`)
	runDepart(t, "delete", "5").want(t, cli.ExitFailure, "", "department 5 has users in it: 1")
	runDepart(t, "rename", "Sales/East", "Orient").want(t, cli.ExitOK,
		"Sales/East (id 3) is now Sales/Orient\n", "")
	runDepart(t, "move", "Shop", "/", "--priority", "7").want(t, cli.ExitOK,
		"Sales/Orient/Shop (id 5) is now Shop\n", "")
	runDepart(t, "move", "Orient", "研发部").want(t, cli.ExitOK,
		"Sales/Orient (id 3) is now 研发部/Orient\n", "")
}

// deleteDeparts deletes departments once they are empty.
func deleteDeparts(t *testing.T) {
	changeUser(t, "bob is in no department\n", "set", "bob", "--department", "/")
	runDepart(t, "delete", "Shop").want(t, cli.ExitOK, "Shop (id 5) is deleted\n", "")
	runDepart(t, "delete", "Shop").want(t, cli.ExitFailure, "",
		"no department has the name, path or id")
	runDepart(t, "delete", "Sales").want(t, cli.ExitOK, "Sales (id 1) is deleted\n", "")
	command(t, "", "user", "set", "bob", "--department", "1").want(t, cli.ExitFailure, "",
		`no department has the name, path or id "1"`)
	runDepart(t, "list").want(t, cli.ExitOK, lines(
		"ID  NAME      PRIORITY  USERS",
		"2   研发部    1         0",
		"4     East    0         0",
		"3     Orient  0         1"), "")
}

// TestDepartBesideServer checks that a server on the same store reads the changes of a command.
func TestDepartBesideServer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEAMTALK_DATA_DIR", dir)
	addNamed(t, "alice")
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, since, err := s.UsersChangedSince(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	command(t, "", "depart", "add", "Sales").want(t, cli.ExitOK, "added", "")
	command(t, "", "user", "set", "alice", "--department", "Sales").want(t, cli.ExitOK,
		"alice is in Sales", "")
	departs, _, err := s.DepartsChangedSince(t.Context(), 0)
	if err != nil || len(departs) != 1 || departs[0].Name != "Sales" {
		t.Errorf("%+v, %v", departs, err)
	}
	users, _, err := s.UsersChangedSince(t.Context(), since)
	if err != nil || len(users) != 1 || users[0].DepartID != departs[0].ID {
		t.Errorf("%+v, %v", users, err)
	}
	command(t, "", "user", "add", "zoe", "--department", "Sales").want(t, cli.ExitOK, "added zoe",
		"")
	command(t, "name,department\nyan,Sales\n", "user", "add", "--csv", "-").want(t, cli.ExitOK,
		"yan,", "")
	command(t, "", "user", "add", "xu", "--department", "Sals").want(t, cli.ExitFailure, "",
		`no department has the name, path or id "Sals"`)
	users, _, err = s.UsersChangedSince(t.Context(), 0)
	if err != nil || len(users) != 3 || users[1].DepartID != departs[0].ID ||
		users[2].DepartID != departs[0].ID {
		t.Errorf("%+v, %v", users, err)
	}
}
