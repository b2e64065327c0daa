package storetest

import (
	"slices"
	"time"

	"teamtalk/core/im"
)

var consentTests = []test{
	{"users that left by themselves, and users that were removed", consentLeft},
	{"a departure ends with the next joining", consentReturned},
	{"departures are shown to Allow, and count from a time on", consentAllowed},
	{"departures are known to other processes and after a restart", consentElsewhere},
	{"memberships from others", consentGiven},
}

// edit changes a group's members for user by.
func (f groupFixture) edit(e im.MemberEdit) im.MemberChange {
	f.Helper()
	c, err := f.s.ChangeMembers(f.ctx, e)
	f.check("ChangeMembers", err)
	return c
}

// wantLeft checks which of users have left a group at or after since.
func (f groupFixture) wantLeft(what string, group uint32, users []uint32, since uint32,
	want ...uint32) {
	f.Helper()
	got, err := f.s.LeftGroup(f.ctx, group, users, since)
	f.check("LeftGroup", err)
	if !slices.Equal(got, want) {
		f.Errorf("%s: %v have left, want %v", what, got, want)
	}
}

func consentLeft(f *fixture) {
	u := f.users(5)
	g, other := f.group(u...), f.group(u...)
	at := f.now()
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[1:2], By: u[1]})
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[2:3], By: u[0]})
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[3:4]}) // by an administrator
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: []uint32{u[4], u[0]}, By: u[0]})
	asked := []uint32{u[4], u[3], u[2], u[1], u[0], u[1], 0}
	f.wantLeft("removed and left", g.ID, asked, at, u[0], u[1])
	f.wantLeft("in another group", other.ID, u, at)
	f.wantLeft("in no group", g.ID+1000, u, at)
	f.wantLeft("later", g.ID, u, f.now()+1000)
	f.wantLeft("no time", g.ID, u, 0)
	f.wantLeft("nobody", g.ID, nil, at)
}

func consentReturned(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	at := f.now()
	leave := im.MemberEdit{Group: g.ID, Type: del, Users: u[1:2], By: u[1]}
	f.edit(leave)
	for _, by := range []uint32{0, u[0], u[1]} { // a store lets all of them add
		f.advance(2 * time.Second)
		f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u[1:2], By: by})
		f.wantLeft("returned", g.ID, u, at)
		f.advance(2 * time.Second)
		f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[1:2], By: u[0]})
		f.wantLeft("removed after it had left before", g.ID, u, at)
		f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u[1:2], By: by})
		f.edit(leave)
		f.wantLeft("left again", g.ID, u, at, u[1])
	}
}

func consentAllowed(f *fixture) {
	u := f.users(4)
	g := f.group(u[:3]...)
	at := f.now()
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[1:2], By: u[1]})
	for what, tc := range map[string]struct {
		since uint32
		want  []uint32
	}{"none": {0, nil}, "all": {at, u[1:2]}, "later": {f.now() + 1000, nil}} {
		var saw []uint32
		c := f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u, By: u[0],
			LeftSince: tc.since, Allow: func(_ *im.Group, left []uint32) ([]uint32, error) {
				saw = left
				return nil, nil
			}})
		if !slices.Equal(saw, tc.want) || len(c.Changed) > 0 {
			f.Errorf("%s: Allow saw %v, want %v; changed %v", what, saw, tc.want, c.Changed)
		}
	}
	c := f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u, By: u[0], LeftSince: at,
		Allow: func(*im.Group, []uint32) ([]uint32, error) { return u[3:], nil }})
	f.wantChange("some of those asked for", c, 3, []uint32{u[0], u[2], u[3]}, u[3:])
}

func consentElsewhere(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	at := f.now()
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[1:], By: u[1]})
	left, err := f.second().LeftGroup(f.ctx, g.ID, u, at)
	f.check("LeftGroup", err)
	if !slices.Equal(left, u[1:]) {
		f.Errorf("elsewhere: %v have left, want %v", left, u[1:])
	}
	f.reopen()
	f.wantLeft("after reopen", g.ID, u, at, u[1])
}

// wantGiven checks which of users have n memberships from by.
func (f groupFixture) wantGiven(what string, users []uint32, by uint32, n int, want ...uint32) {
	f.Helper()
	got, err := f.s.GivenMemberships(f.ctx, users, by, n)
	f.check("GivenMemberships", err)
	if !slices.Equal(got, want) {
		f.Errorf("%s: %v have %d memberships from %d, want %v", what, got, n, by, want)
	}
}

func consentGiven(f *fixture) {
	u := f.users(5)
	for _, by := range []uint32{u[0], u[0], u[1], 0} { // 0: a program makes the group
		g := im.Group{Name: "g", Creator: by, Type: f.group(u[4]).Type, Members: u[:4]}
		_, err := f.s.CreateGroup(f.ctx, g, by)
		f.check("CreateGroup", err)
	}
	f.wantGiven("from any", u, 0, 1, u[:4]...)
	f.wantGiven("from any", u, 0, 2, u[1:4]...)
	f.wantGiven("from any", u, 0, 3, u[2], u[3])
	f.wantGiven("from any", u, 0, 4)
	f.wantGiven("from one", u, u[0], 2, u[1], u[2], u[3])
	f.wantGiven("from one", []uint32{u[3], u[4], u[3], 0}, u[0], 2, u[3])
	f.wantGiven("from another", u, u[1], 2)
	f.wantGiven("from nobody known", u, u[4], 1)
	f.wantGiven("nobody", nil, 0, 1)

	g := f.group(u[0])
	f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u[3:], By: u[0]})
	f.wantGiven("added", u, u[0], 3, u[3])
	f.wantGiven("added", u, 0, 1, u...)
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[3:], By: u[0]})
	f.wantGiven("removed", u, u[0], 3)
	f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u[3:]})
	f.wantGiven("added by an administrator", u, 0, 4)
	f.edit(im.MemberEdit{Group: g.ID, Type: del, Users: u[3:4], By: u[3]})
	f.edit(im.MemberEdit{Group: g.ID, Type: add, Users: u[3:4], By: u[3]})
	f.wantGiven("returned", u, 0, 4)
	f.reopen()
	f.wantGiven("after reopen", u, u[0], 2, u[1], u[2], u[3])
	_, err := f.s.GivenMemberships(f.ctx, u, 0, 0)
	f.wantKind("no memberships", err, im.Invalid)
}
