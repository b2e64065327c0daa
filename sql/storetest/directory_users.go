package storetest

import (
	"fmt"
	"slices"
	"strings"

	"teamtalk/core/im"
)

// directoryFixture has the helpers for users and departments.
type directoryFixture struct{ *base }

var userTests = []test{
	{"every field comes back", everyField},
	{"ids in the order of the accounts", idsInOrder},
	{"many at once", manyUsers},
	{"many accounts at once", manyAccounts},
	{"names without regard to case", namesFold},
	{"all or none: name taken", noneWhenTaken},
	{"all or none: name twice in one call", noneWhenTwice},
	{"all or none: invalid field", noneWhenInvalid},
	{"the longest fields", longestFields},
	{"not found", userNotFound},
	{"by ids", usersByID},
	{"list in pages", listPages},
	{"password", setPassword},
	{"another form of a password", replacePassword},
	{"another form of a password that changed meanwhile", passwordChangedMeanwhile},
	{"status", setStatus},
	{"sign info and avatar", setTexts},
	{"department", setDepart},
	{"edit", editUser},
	{"push shield", setPushShield},
	{"changes set Updated, and the shield does not", changesSetUpdated},
	{"changed since", changedSince},
	{"changed since, as time passes", changedSinceLater},
	{"credentials changed since", credentialsSince},
	{"survive reopen", usersSurvive},
	{"seen by another process", usersShared},
}

// account returns a valid account with every field set.
func account(i int) im.Account {
	return im.Account{
		User: im.User{
			Name:       fmt.Sprintf("user%d", i),
			Domain:     fmt.Sprintf("yonghu%d", i),
			Nick:       fmt.Sprintf("用户 %d 🙂", i),
			Gender:     uint32(i % 3),
			Phone:      fmt.Sprintf("1380000%04d", i%10000),
			Email:      fmt.Sprintf("user%d@example.com", i),
			Avatar:     fmt.Sprintf("http://127.0.0.1:8700/g0/%d.jpg", i),
			DepartID:   uint32(i%7 + 1),
			Status:     im.StatusOK,
			SignInfo:   fmt.Sprintf("sign %d", i),
			PushShield: i%2 == 1,
		},
		Password: im.HashPassword(im.ClientPassword(fmt.Sprintf("secret%d", i)), "salt"),
		Salt:     "salt",
	}
}

// countUsers returns the number of users.
func (f directoryFixture) countUsers() int {
	f.Helper()
	users, err := f.s.ListUsers(f.ctx, 0, 1<<20)
	f.check("ListUsers", err)
	return len(users)
}

// account reads a user by name.
func (f directoryFixture) account(name string) im.Account {
	f.Helper()
	a, err := f.s.AccountByName(f.ctx, name)
	f.check("AccountByName "+name, err)
	return a
}

func everyField(f *fixture) {
	before := f.now()
	want := account(1)
	ids, err := f.s.CreateUsers(f.ctx, []im.Account{want})
	f.check("CreateUsers", err)
	after := f.now()

	got := f.account("user1")
	if got.Updated < before || got.Updated > after {
		f.Errorf("Updated is %d, created between %d and %d", got.Updated, before, after)
	}
	want.ID, want.Updated = ids[0], got.Updated
	if got != want {
		f.Errorf("AccountByName:\n got %+v\nwant %+v", got, want)
	}
	byID, err := f.s.Users(f.ctx, ids)
	f.check("Users", err)
	listed, err := f.s.ListUsers(f.ctx, 0, 10)
	f.check("ListUsers", err)
	changed, _, err := f.s.UsersChangedSince(f.ctx, 0)
	f.check("UsersChangedSince", err)
	for what, users := range map[string][]im.User{"Users": byID, "ListUsers": listed,
		"UsersChangedSince": changed} {
		if len(users) != 1 || users[0] != want.User {
			f.Errorf("%s:\n got %+v\nwant %+v", what, users, want.User)
		}
	}
}

func idsInOrder(f *fixture) {
	ids := f.users(50)
	seen := map[uint32]bool{0: true}
	for i, id := range ids {
		if seen[id] {
			f.Fatalf("id %d of account %d is 0 or given twice", id, i)
		}
		seen[id] = true
		if got := f.account(account(i).Name); got.ID != id {
			f.Fatalf("account %d: id %d returned, %d stored", i, id, got.ID)
		}
	}
	none, err := f.s.CreateUsers(f.ctx, nil)
	f.check("CreateUsers of none", err)
	if len(none) != 0 {
		f.Errorf("CreateUsers of none returned %v", none)
	}
}

func manyUsers(f *fixture) {
	const n = 5000
	ids := f.users(n)
	users, err := f.s.Users(f.ctx, ids)
	f.check("Users", err)
	if len(users) != n {
		f.Errorf("Users of %d ids returned %d", n, len(users))
	}
	all, _, err := f.s.UsersChangedSince(f.ctx, 0)
	f.check("UsersChangedSince", err)
	if len(all) != n {
		f.Errorf("UsersChangedSince(0) of %d returned %d", n, len(all))
	}
}

func namesFold(f *fixture) {
	a := account(0)
	a.Name = "Alice.Ж"
	ids, err := f.s.CreateUsers(f.ctx, []im.Account{a})
	f.check("CreateUsers", err)
	for _, name := range []string{"Alice.Ж", "alice.ж", "ALICE.Ж"} {
		if got := f.account(name); got.ID != ids[0] || got.Name != "Alice.Ж" {
			f.Errorf("AccountByName(%q) is user %d, name %q", name, got.ID, got.Name)
		}
	}
	names := []string{"alice.ж", "nobody", "ALICE.Ж", "", "\xff", "alice.ж"}
	list, err := f.s.AccountsByName(f.ctx, names)
	f.check("AccountsByName", err)
	for i, name := range names {
		want := uint32(0)
		if strings.EqualFold(name, "Alice.Ж") {
			want = ids[0]
		}
		if len(list) != len(names) || list[i].ID != want || want != 0 &&
			(list[i].Name != "Alice.Ж" || list[i].Password != a.Password ||
				list[i].Salt != a.Salt) {
			f.Fatalf("AccountsByName(%q) found %+v", names, list)
		}
	}
	if list, err := f.s.AccountsByName(f.ctx, nil); err != nil || len(list) != 0 {
		f.Errorf("AccountsByName of none: %v, %v", list, err)
	}
	a.Name = "aLICE.ж"
	_, err = f.s.CreateUsers(f.ctx, []im.Account{a})
	f.wantKind("CreateUsers with a name in another case", err, im.Exists)
}

func noneWhenTaken(f *fixture) {
	f.users(1)
	batch := []im.Account{account(1), account(2), account(0), account(3)}
	_, err := f.s.CreateUsers(f.ctx, batch)
	f.wantKind("CreateUsers", err, im.Exists)
	if !strings.Contains(err.Error(), "user0") {
		f.Errorf("the error does not name the name that is taken: %v", err)
	}
	if n := f.countUsers(); n != 1 {
		f.Errorf("%d users after a CreateUsers that failed, want 1", n)
	}
	_, err = f.s.CreateUsers(f.ctx, []im.Account{account(1), account(2), account(3)})
	f.check("CreateUsers of the others", err)
}

func noneWhenTwice(f *fixture) {
	twice := account(1)
	twice.Name = "USER1"
	_, err := f.s.CreateUsers(f.ctx, []im.Account{account(0), account(1), twice})
	f.wantKind("CreateUsers", err, im.Exists)
	if !strings.Contains(strings.ToLower(err.Error()), "user1") {
		f.Errorf("the error does not contain the name that appears twice: %v", err)
	}
	if n := f.countUsers(); n != 0 {
		f.Errorf("%d users after a CreateUsers that failed", n)
	}
}

// fieldLimits are the longest values of an account's fields, in characters.
var fieldLimits = []struct {
	name  string
	limit int
	field func(*im.Account) *string
}{
	{"name", 32, func(a *im.Account) *string { return &a.Name }},
	{"domain", 32, func(a *im.Account) *string { return &a.Domain }},
	{"nick", 32, func(a *im.Account) *string { return &a.Nick }},
	{"password", 128, func(a *im.Account) *string { return &a.Password }},
	{"salt", 4, func(a *im.Account) *string { return &a.Salt }},
	{"phone", 11, func(a *im.Account) *string { return &a.Phone }},
	{"email", 64, func(a *im.Account) *string { return &a.Email }},
	{"avatar", 255, func(a *im.Account) *string { return &a.Avatar }},
	{"sign info", 128, func(a *im.Account) *string { return &a.SignInfo }},
}

func noneWhenInvalid(f *fixture) {
	refuse := func(what, value string, field func(*im.Account) *string) {
		f.Helper()
		bad := account(1)
		*field(&bad) = value
		_, err := f.s.CreateUsers(f.ctx, []im.Account{account(0), bad, account(2)})
		f.wantKind(what, err, im.Invalid)
	}
	for _, l := range fieldLimits {
		refuse(l.name+" too long", strings.Repeat("x", l.limit+1), l.field)
		refuse(l.name+" not UTF-8", "\xff\xfe", l.field)
	}
	refuse("no name", "", func(a *im.Account) *string { return &a.Name })
	refuse("blank name", "  ", func(a *im.Account) *string { return &a.Name })
	if n := f.countUsers(); n != 0 {
		f.Errorf("%d users after CreateUsers that failed", n)
	}
}

func longestFields(f *fixture) {
	for i, char := range []string{"x", "界", "🙂"} {
		a := account(i)
		for _, l := range fieldLimits {
			*l.field(&a) = strings.Repeat(char, l.limit)
		}
		ids, err := f.s.CreateUsers(f.ctx, []im.Account{a})
		f.check("CreateUsers with fields of "+char, err)
		got := f.account(a.Name)
		a.ID, a.Updated = ids[0], got.Updated
		if got != a {
			f.Errorf("fields of %s:\n got %+v\nwant %+v", char, got, a)
		}
	}
}

func userNotFound(f *fixture) {
	a, _ := f.pair()
	for _, name := range []string{"nobody", "", "user", "user%", "user_", "' or 1=1 -- "} {
		_, err := f.s.AccountByName(f.ctx, name)
		f.wantKind(fmt.Sprintf("AccountByName(%q)", name), err, im.NotFound)
	}
	unknown := a + 1000
	f.wantKind("SetPassword", f.s.SetPassword(f.ctx, unknown, "p", "s"), im.NotFound)
	f.wantKind("SetUserStatus", f.s.SetUserStatus(f.ctx, unknown, im.StatusDeparted), im.NotFound)
}

// manyAccounts reads more accounts than one query returns, in another order than they
// were created.
func manyAccounts(f *fixture) {
	const n = 300
	ids := f.users(n)
	names, want := make([]string, n), make([]uint32, n)
	for i := range n {
		names[i], want[i] = account(n-1-i).Name, ids[n-1-i]
	}
	list, err := f.s.AccountsByName(f.ctx, names)
	f.check("AccountsByName", err)
	for i, a := range list {
		if a.ID != want[i] || a.Name != names[i] {
			f.Fatalf("account %d is %d %q, want %d %q", i, a.ID, a.Name, want[i], names[i])
		}
	}
}

func usersByID(f *fixture) {
	ids := f.users(5)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[3], im.StatusDeparted))
	for _, tc := range []struct {
		name      string
		ask, want []uint32
	}{
		{"none", nil, nil},
		{"unknown only", []uint32{0, ids[4] + 1000}, nil},
		{"some, departed and unknown", []uint32{ids[4], ids[4] + 1000, ids[0], ids[3]},
			[]uint32{ids[0], ids[3], ids[4]}},
	} {
		users, err := f.s.Users(f.ctx, tc.ask)
		f.check("Users: "+tc.name, err)
		if got := idsOf(users); !slices.Equal(got, tc.want) {
			f.Errorf("Users: %s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

// idsOf returns the sorted ids of users.
func idsOf(users []im.User) []uint32 {
	var ids []uint32
	for _, u := range users {
		ids = append(ids, u.ID)
	}
	slices.Sort(ids)
	return ids
}

func listPages(f *fixture) {
	ids := f.users(7)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[2], im.StatusDeparted))
	var got []uint32
	after := uint32(0)
	for pages := 0; ; pages++ {
		page, err := f.s.ListUsers(f.ctx, after, 3)
		f.check("ListUsers", err)
		if len(page) == 0 {
			break
		}
		if len(page) > 3 || pages > 3 {
			f.Fatalf("page %d after %d has %d users", pages, after, len(page))
		}
		for _, u := range page {
			got = append(got, u.ID)
		}
		after = page[len(page)-1].ID
	}
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		f.Errorf("pages of 3: got %v, want %v", got, ids)
	}
	for _, limit := range []int{0, -1} {
		page, err := f.s.ListUsers(f.ctx, 0, limit)
		f.check("ListUsers", err)
		if len(page) != 0 {
			f.Errorf("ListUsers with limit %d returned %d users", limit, len(page))
		}
	}
}

func usersSurvive(f *fixture) {
	ids := f.users(2)
	f.check("SetPassword", f.s.SetPassword(f.ctx, ids[0], "hash", "slt"))
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[1], im.StatusDeparted))
	want := []im.Account{f.account("user0"), f.account("user1")}
	f.reopen()
	for i, w := range want {
		if got := f.account(w.Name); got != w {
			f.Errorf("user %d after reopen:\n got %+v\nwant %+v", i, got, w)
		}
	}
	more, err := f.s.CreateUsers(f.ctx, []im.Account{account(2)})
	f.check("CreateUsers", err)
	if slices.Contains(ids, more[0]) {
		f.Errorf("id %d given twice", more[0])
	}
}

func usersShared(f *fixture) {
	other := f.second()
	f.users(1)
	if _, err := other.AccountByName(f.ctx, "user0"); err != nil {
		f.Errorf("the other process does not see a user: %v", err)
	}
	ids, err := other.CreateUsers(f.ctx, []im.Account{account(1)})
	f.check("CreateUsers in the other process", err)
	if got := f.account("user1"); got.ID != ids[0] {
		f.Errorf("user of the other process has id %d, want %d", got.ID, ids[0])
	}
	_, err = other.CreateUsers(f.ctx, []im.Account{account(0)})
	f.wantKind("CreateUsers of a name that the first process has taken", err, im.Exists)
}
