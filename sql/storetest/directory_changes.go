package storetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"teamtalk/core/im"
)

func setPassword(f *fixture) {
	ids := f.users(2)
	salt := "new1"
	hash := im.HashPassword(im.ClientPassword("changed"), salt)
	for range 2 { // the second call changes nothing, and must find the user
		f.check("SetPassword", f.s.SetPassword(f.ctx, ids[0], hash, salt))
	}
	changed, other := f.account("user0"), f.account("user1")
	if changed.Password != hash || changed.Salt != salt ||
		!changed.Check(im.ClientPassword("changed")) {
		f.Errorf("password %q salt %q, want %q %q", changed.Password, changed.Salt, hash, salt)
	}
	if want := account(1); other.Password != want.Password || other.Salt != want.Salt {
		f.Errorf("another user's password changed to %q %q", other.Password, other.Salt)
	}
}

func setStatus(f *fixture) {
	ids := f.users(2)
	for _, status := range []im.UserStatus{im.StatusDeparted, im.StatusDeparted, im.StatusIntern,
		im.StatusOK} {
		before := f.now()
		f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[0], status))
		got := f.account("user0")
		if got.Status != status {
			f.Errorf("status %d, want %d", got.Status, status)
		}
		if got.Updated < before {
			f.Errorf("Updated is %d after a change at %d", got.Updated, before)
		}
	}
	if other := f.account("user1"); other.Status != im.StatusOK {
		f.Errorf("another user's status is %d", other.Status)
	}
}

// userTexts returns the texts of a user that have a method to set them.
func userTexts(s im.UserStore) []userText {
	return []userText{
		{"SetSignInfo", 128, s.SetSignInfo, func(u im.User) string { return u.SignInfo }},
		{"SetAvatar", 255, s.SetAvatar, func(u im.User) string { return u.Avatar }},
	}
}

type userText struct {
	name  string
	limit int
	set   func(ctx context.Context, id uint32, text string) error
	get   func(im.User) string
}

func setTexts(f *fixture) {
	ids := f.users(2)
	other := f.account("user1")
	for _, x := range userTexts(f.s) {
		for _, text := range []string{"签名 🙂 'x\"\\%_", "签名 🙂 'x\"\\%_",
			strings.Repeat("界", x.limit), " ends with blanks  ", ""} {
			f.check(x.name, x.set(f.ctx, ids[0], text))
			if got := x.get(f.account("user0").User); got != text {
				f.Errorf("%s: %q, want %q", x.name, got, text)
			}
		}
		f.check(x.name, x.set(f.ctx, ids[0], "stays"))
		for what, text := range map[string]string{"too long": strings.Repeat("x", x.limit+1),
			"not UTF-8": "\xff\xfe"} {
			f.wantKind(x.name+" "+what, x.set(f.ctx, ids[0], text), im.Invalid)
		}
		if got := x.get(f.account("user0").User); got != "stays" {
			f.Errorf("%s: %q after an error, want what was there", x.name, got)
		}
		f.wantKind(x.name+" of nobody", x.set(f.ctx, slices.Max(ids)+1000, "x"), im.NotFound)
	}
	if got := f.account("user1"); got != other {
		f.Errorf("another user changed:\n got %+v\nwant %+v", got, other)
	}
}

func setDepart(f *fixture) {
	ids := f.users(1)
	a := f.depart("a", 0)
	for _, depart := range []uint32{a, a, 0} {
		f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, ids[0], depart))
		if got := f.account("user0").DepartID; got != depart {
			f.Errorf("department %d, want %d", got, depart)
		}
	}
	f.wantKind("a department that is not there", f.s.SetUserDepart(f.ctx, ids[0], a+1000),
		im.Invalid)
	f.wantKind("a missing user", f.s.SetUserDepart(f.ctx, ids[0]+1000, a), im.NotFound)
	f.wantKind("a missing user, into no department", f.s.SetUserDepart(f.ctx, ids[0]+1000, 0),
		im.NotFound)
	if got := f.account("user0").DepartID; got != 0 {
		f.Errorf("department %d after errors, want 0", got)
	}
}

// editUser changes all fields of a user at once, and one of them.
func editUser(f *fixture) {
	ids := f.users(2)
	want, other := account(2), f.account("user1")
	want.DepartID, want.Status = f.depart("a", 0), im.StatusTrial
	e := im.UserEdit{Name: &want.Name, Domain: &want.Domain, Nick: &want.Nick, Phone: &want.Phone,
		Email: &want.Email, Avatar: &want.Avatar, SignInfo: &want.SignInfo, Gender: &want.Gender,
		DepartID: &want.DepartID, Status: &want.Status,
		Password: &im.StoredPassword{Hash: want.Password, Salt: want.Salt}}
	before := f.now()
	f.check("EditUser", f.s.EditUser(f.ctx, ids[0], e))
	check := func(what string) {
		got := f.account("USER2")
		want.ID, want.Updated, want.PushShield = ids[0], got.Updated, got.PushShield
		if got != want || got.Updated < before {
			f.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
		}
	}
	check("every field")
	want.Nick, want.Gender = "another", 0
	f.check("EditUser", f.s.EditUser(f.ctx, ids[0], im.UserEdit{Nick: &want.Nick,
		Gender: &want.Gender, Name: &want.Name})) // the own name is not taken
	_, err := f.s.AccountByName(f.ctx, "user0")
	f.wantKind("the former name", err, im.NotFound)
	taken, phone, long, none := "USER1", "1", strings.Repeat("x", 33), *e.DepartID+1000
	for what, bad := range map[string]im.UserEdit{"nothing": {}, "long": {Nick: &long},
		"a department that is not there": {Phone: &phone, DepartID: &none}} {
		f.wantKind(what, f.s.EditUser(f.ctx, ids[0], bad), im.Invalid)
	}
	bad := im.UserEdit{Phone: &phone, Name: &taken}
	f.wantKind("a taken name", f.s.EditUser(f.ctx, ids[0], bad), im.Exists)
	f.wantKind("nobody", f.s.EditUser(f.ctx, ids[1]+1000, e), im.NotFound)
	check("after errors")
	if got := f.account("user1"); got != other {
		f.Errorf("another user changed:\n got %+v\nwant %+v", got, other)
	}
}

func setPushShield(f *fixture) {
	ids := f.users(2)
	for _, on := range []bool{true, true, false, false, true} {
		f.check("SetPushShield", f.s.SetPushShield(f.ctx, ids[0], on))
		if got := f.account("user0").PushShield; got != on {
			f.Errorf("push shield %v, want %v", got, on)
		}
	}
	if other := f.account("user1"); other.PushShield != account(1).PushShield {
		f.Errorf("another user's push shield is %v", other.PushShield)
	}
	f.wantKind("push shield of nobody", f.s.SetPushShield(f.ctx, slices.Max(ids)+1000, true),
		im.NotFound)
}

func changesSetUpdated(f *fixture) {
	ids := f.users(6)
	a := f.depart("a", 0)
	_, newest := f.changed(0)
	f.advance(10 * time.Second)
	f.check("SetPushShield", f.s.SetPushShield(f.ctx, ids[5], true))
	if got, _ := f.changed(newest + 1); len(got) != 0 {
		f.Errorf("the push shield changed Updated of %v", got)
	}
	before := f.now()
	f.check("SetSignInfo", f.s.SetSignInfo(f.ctx, ids[0], "x"))
	f.check("SetAvatar", f.s.SetAvatar(f.ctx, ids[1], "x"))
	f.check("SetUserDepart", f.s.SetUserDepart(f.ctx, ids[2], a))
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[3], im.StatusIntern))
	f.check("SetPassword", f.s.SetPassword(f.ctx, ids[4], "hash", "slt"))
	got, later := f.changed(newest + 1)
	if want := slices.Sorted(slices.Values(ids[:5])); !slices.Equal(got, want) {
		f.Errorf("changed: %v, want %v", got, want)
	}
	if later < before || later > f.now() {
		f.Errorf("newest %d, changed between %d and %d", later, before, f.now())
	}
}

// changed returns the ids from UsersChangedSince.
func (f directoryFixture) changed(since uint32) (ids []uint32, newest uint32) {
	f.Helper()
	users, newest, err := f.s.UsersChangedSince(f.ctx, since)
	f.check("UsersChangedSince", err)
	for _, u := range users {
		if u.Updated > newest {
			f.Errorf("UsersChangedSince(%d): user %d is newer, %d, than the newest, %d", since,
				u.ID, u.Updated, newest)
		}
		if u.Updated < since {
			f.Errorf("UsersChangedSince(%d): user %d of %d", since, u.ID, u.Updated)
		}
	}
	return idsOf(users), newest
}

func changedSince(f *fixture) {
	if ids, newest := f.changed(0); len(ids) != 0 || newest != 0 {
		f.Errorf("empty directory: users %v, newest %d", ids, newest)
	}
	ids := f.users(4)
	slices.Sort(ids)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[1], im.StatusDeparted))
	rest := []uint32{ids[0], ids[2], ids[3]}

	got, newest := f.changed(0)
	if !slices.Equal(got, rest) {
		f.Errorf("first sync: got %v, want %v, without the departed", got, rest)
	}
	oldest := f.account("user0").Updated
	if got, _ := f.changed(oldest); !slices.Equal(got, ids) {
		f.Errorf("since %d, the time of the oldest: got %v, want all %v, the departed too",
			oldest, got, ids)
	}
	if got, _ := f.changed(newest); len(got) == 0 {
		f.Errorf("since %d, the newest itself: nothing, want those of that second", newest)
	}
	future := f.now() + 1000
	if got, n := f.changed(future); len(got) != 0 || n != future {
		f.Errorf("since %d, later than all: got %v, newest %d", future, got, n)
	}
}

func changedSinceLater(f *fixture) {
	ids := f.users(3)
	slices.Sort(ids)
	f.advance(10 * time.Second)
	before, newest := f.changed(0)
	if !slices.Equal(before, ids) {
		f.Fatalf("first sync: got %v, want %v", before, ids)
	}
	if got, _ := f.changed(newest + 1); len(got) != 0 {
		f.Errorf("nothing has changed, and yet %v", got)
	}
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[1], im.StatusDeparted))
	got, later := f.changed(newest + 1)
	if !slices.Equal(got, ids[1:2]) || later <= newest {
		f.Errorf("after a change: got %v, newest %d; want %v, newer than %d", got, later,
			ids[1:2], newest)
	}
	// The newest time of a first sync is that of the users in it. The next sync must not
	// skip users that the first one left out.
	rest, err := f.s.Users(f.ctx, []uint32{ids[0], ids[2]})
	f.check("Users", err)
	if _, first := f.changed(0); first != max(rest[0].Updated, rest[1].Updated) {
		f.Errorf("first sync after the newest departed: newest %d, want that of %+v", first, rest)
	}
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[0], im.StatusIntern))
	changed, err := f.s.Users(f.ctx, ids[:1])
	f.check("Users", err)
	// This change may be in the second of the one before, or later.
	want := changed[0].Updated
	if _, first := f.changed(0); first != want || want < later {
		f.Errorf("first sync after the user with the lowest id changed: newest %d, want %d, which "+
			"is not before %d", first, want, later)
	}
}
