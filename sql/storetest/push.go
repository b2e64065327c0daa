package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// pushFixture has the helpers for push tokens and muted groups.
type pushFixture struct{ *base }

var pushTests = []test{
	{"a token comes back", tokenComesBack},
	{"one token a user", oneToken},
	{"a phone changes hands", phoneChangesHands},
	{"clear", clearToken},
	{"dead tokens", deadTokens},
	{"invalid tokens", invalidTokens},
	{"many users", manyTokens},
	{"survive reopen", pushSurvives},
	{"two phones swapped at once", phonesSwapped},
	{"one token for all at once", oneTokenForAll},
	{"shields of a group", groupShields},
	{"shields of many users", manyShields},
	{"cancelled before", pushCancelled},
}

const (
	ios     = pb.ClientType_CLIENT_TYPE_IOS
	android = pb.ClientType_CLIENT_TYPE_ANDROID
)

// setToken sets the token of a user.
func (f pushFixture) setToken(user uint32, client pb.ClientType, token string) {
	f.Helper()
	f.check("SetDeviceToken", f.s.SetDeviceToken(f.ctx, im.DeviceToken{User: user, Client: client,
		Token: token}))
}

// tokens returns the result of DeviceTokens, ordered by user.
func (f pushFixture) tokens(users ...uint32) []im.DeviceToken {
	f.Helper()
	list, err := f.s.DeviceTokens(f.ctx, users)
	f.check("DeviceTokens", err)
	slices.SortFunc(list, func(a, b im.DeviceToken) int { return cmp.Compare(a.User, b.User) })
	return list
}

// wantTokens checks the result of DeviceTokens for users; want is ordered by user.
func (f pushFixture) wantTokens(what string, users []uint32, want ...im.DeviceToken) {
	f.Helper()
	if got := f.tokens(users...); !slices.Equal(got, want) {
		f.Errorf("%s: tokens %+v, want %+v", what, got, want)
	}
}

func tokenComesBack(f *fixture) {
	all := []uint32{1, 2, 3, 4, 4294967295}
	f.wantTokens("before", all)
	f.setToken(1, ios, strings.Repeat("0123456789abcdef", 4))
	f.setToken(3, android, "APA91b:with-colons_and <brackets> ~")
	f.setToken(4, ios, strings.Repeat("x", im.MaxDeviceToken))
	f.setToken(4294967295, android, "12345678901") // longer than any user id
	want := []im.DeviceToken{{User: 1, Client: ios, Token: strings.Repeat("0123456789abcdef", 4)},
		{User: 3, Client: android, Token: "APA91b:with-colons_and <brackets> ~"},
		{User: 4, Client: ios, Token: strings.Repeat("x", im.MaxDeviceToken)},
		{User: 4294967295, Client: android, Token: "12345678901"}}
	f.wantTokens("all", all, want...)
	f.wantTokens("one", []uint32{3}, want[1])
	f.wantTokens("one asked for twice", []uint32{3, 2, 3}, want[1])
	f.wantTokens("none", nil)
}

func oneToken(f *fixture) {
	f.setToken(1, ios, "old")
	f.setToken(1, android, "new")
	f.wantTokens("a new phone", []uint32{1}, im.DeviceToken{User: 1, Client: android, Token: "new"})
	f.setToken(1, android, "new")
	f.wantTokens("the same again", []uint32{1}, im.DeviceToken{User: 1, Client: android,
		Token: "new"})
	f.setToken(1, ios, "new")
	f.wantTokens("the same with another client", []uint32{1}, im.DeviceToken{User: 1, Client: ios,
		Token: "new"})
	f.check("DropDeviceToken", f.s.DropDeviceToken(f.ctx, "old"))
	f.wantTokens("the old one dropped", []uint32{1}, im.DeviceToken{User: 1, Client: ios,
		Token: "new"})
	f.setToken(2, ios, "old")
	f.wantTokens("the old one with another", []uint32{1, 2}, im.DeviceToken{User: 1, Client: ios,
		Token: "new"}, im.DeviceToken{User: 2, Client: ios, Token: "old"})
}

func phoneChangesHands(f *fixture) {
	f.setToken(1, ios, "phone")
	f.setToken(2, ios, "other")
	f.setToken(2, ios, "phone")
	f.wantTokens("taken", []uint32{1, 2}, im.DeviceToken{User: 2, Client: ios, Token: "phone"})
	f.setToken(1, ios, "")
	f.wantTokens("cleared by its former user", []uint32{1, 2}, im.DeviceToken{User: 2,
		Client: ios, Token: "phone"})
	f.setToken(1, ios, "phone")
	f.wantTokens("taken back", []uint32{1, 2}, im.DeviceToken{User: 1, Client: ios, Token: "phone"})
	f.setToken(2, android, "new")
	f.wantTokens("and the other has a new one", []uint32{1, 2}, im.DeviceToken{User: 1, Client: ios,
		Token: "phone"},
		im.DeviceToken{User: 2, Client: android, Token: "new"})
}

func clearToken(f *fixture) {
	f.setToken(1, ios, "phone")
	f.setToken(2, ios, "other")
	// the client of the token, none, and another one
	for _, client := range []pb.ClientType{ios, 0, pb.ClientType_CLIENT_TYPE_MAC} {
		f.setToken(1, client, "")
		f.wantTokens("cleared", []uint32{1, 2}, im.DeviceToken{User: 2, Client: ios,
			Token: "other"})
		f.setToken(1, client, "") // the user has no token
		f.setToken(1, ios, "phone")
	}
	// Logging out of a phone does not return the phone to its former user.
	f.setToken(3, ios, "phone")
	f.setToken(3, ios, "")
	f.wantTokens("cleared by the second owner", []uint32{1, 2, 3}, im.DeviceToken{User: 2,
		Client: ios, Token: "other"})
}

func deadTokens(f *fixture) {
	f.setToken(1, ios, "one")
	f.setToken(2, android, "two")
	for _, token := range []string{"one", "one", "unknown", "", "2", "1",
		"\xff", strings.Repeat("x", im.MaxDeviceToken+1)} {
		f.check("DropDeviceToken", f.s.DropDeviceToken(f.ctx, token))
		f.wantTokens(fmt.Sprintf("dropped %.10q", token), []uint32{1, 2}, im.DeviceToken{User: 2,
			Client: android, Token: "two"})
	}
	f.setToken(1, ios, "one") // the token is in use again
	f.setToken(1, ios, "three")
	f.check("DropDeviceToken", f.s.DropDeviceToken(f.ctx, "three"))
	f.wantTokens("dropped", []uint32{1, 2}, im.DeviceToken{User: 2, Client: android, Token: "two"})
}

func invalidTokens(f *fixture) {
	f.setToken(1, ios, "phone")
	f.setToken(2, ios, "other")
	for what, t := range map[string]im.DeviceToken{
		"too long":              {Client: ios, Token: strings.Repeat("x", im.MaxDeviceToken+1)},
		"a line end":            {Client: ios, Token: "a\n"},
		"NUL":                   {Client: ios, Token: "a\x00"},
		"not ASCII":             {Client: ios, Token: "é"},
		"not UTF-8":             {Client: ios, Token: "\xff"},
		"DEL":                   {Client: ios, Token: "\x7f"},
		"no client":             {Token: "t"},
		"a client on a desktop": {Client: pb.ClientType_CLIENT_TYPE_MAC, Token: "t"},
		// Where users and tokens share keys, it would have the key of the other user.
		"a user's number": {Client: ios, Token: "2"},
	} {
		t.User = 1
		f.wantKind("SetDeviceToken: "+what, f.s.SetDeviceToken(f.ctx, t), im.Invalid)
	}
	f.wantTokens("after it", []uint32{1, 2}, im.DeviceToken{User: 1, Client: ios, Token: "phone"},
		im.DeviceToken{User: 2, Client: ios, Token: "other"})
}

func manyTokens(f *fixture) {
	const n = 1500
	var users []uint32
	var want []im.DeviceToken
	for i := range uint32(n) {
		users = append(users, 2*n-i)
		if i%100 == 0 {
			want = append(want, im.DeviceToken{User: i + n + 1, Client: android,
				Token: fmt.Sprint("token ", i)})
			f.setToken(want[len(want)-1].User, android, want[len(want)-1].Token)
		}
	}
	f.wantTokens("among many", users, want...)
}

func pushSurvives(f *fixture) {
	f.setToken(1, ios, "phone")
	f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, 1, 9, true))
	f.reopen()
	f.wantTokens("after reopen", []uint32{1}, im.DeviceToken{User: 1, Client: ios, Token: "phone"})
	f.wantShields("after reopen", 9, []uint32{1, 2}, 1)
}

// phonesSwapped lets users swap phones, from two processes if possible, while others
// read. No read may return one phone for two users.
func phonesSwapped(f *fixture) {
	const users, phones, rounds = 6, 4, 60
	stores := []im.Store{f.s, f.s}
	if f.factory.Second != nil {
		stores[1] = f.second()
	}
	var all []uint32
	for i := range uint32(users) {
		all = append(all, i+1)
	}
	look := func() {
		list, err := stores[1].DeviceTokens(f.ctx, all)
		if err != nil {
			f.Errorf("DeviceTokens: %v", err)
		}
		owner := map[string]uint32{}
		for _, t := range list {
			if other := owner[t.Token]; other != 0 {
				f.Errorf("the token %s is with users %d and %d", t.Token, other, t.User)
			}
			owner[t.Token] = t.User
		}
	}
	var wg sync.WaitGroup
	for _, user := range all {
		wg.Go(func() {
			for i := range rounds {
				t := im.DeviceToken{User: user, Client: ios, Token: fmt.Sprint("phone ",
					rand.IntN(phones))}
				if i%7 == 6 {
					t.Token = ""
				}
				if err := stores[(int(user)+i)%2].SetDeviceToken(f.ctx, t); err != nil {
					f.Errorf("SetDeviceToken: %v", err)
				}
				look()
			}
		})
	}
	wg.Wait()
	look()
	// Whatever the swaps left, a token set now is used.
	for i := range uint32(phones) {
		f.setToken(all[i], android, fmt.Sprint("phone ", i))
	}
	for i := range uint32(phones) {
		f.wantTokens("set after it", all[i:i+1], im.DeviceToken{User: all[i], Client: android,
			Token: fmt.Sprint("phone ", i)})
	}
}

// oneTokenForAll sets the same token for many users at once. One of them must have it.
func oneTokenForAll(f *fixture) {
	var all []uint32
	var wg sync.WaitGroup
	for i := range uint32(16) {
		all = append(all, i+1)
		wg.Go(func() {
			token := im.DeviceToken{User: i + 1, Client: ios, Token: "phone"}
			if err := f.s.SetDeviceToken(f.ctx, token); err != nil {
				f.Errorf("SetDeviceToken: %v", err)
			}
		})
	}
	wg.Wait()
	list := f.tokens(all...)
	if len(list) != 1 {
		f.Fatalf("the token is with %+v, want one", list)
	}
	f.setToken(list[0].User, ios, "")
	f.wantTokens("cleared by its owner", all)
}

// wantShields checks the users that have muted a group.
func (f pushFixture) wantShields(what string, group uint32, users []uint32, want ...uint32) {
	f.Helper()
	got, err := f.s.GroupShields(f.ctx, group, users)
	f.check("GroupShields", err)
	if !slices.Equal(got, want) {
		f.Errorf("%s: %v want no pushes of group %d, want %v", what, got, group, want)
	}
}

// wantShielded checks the groups that a user has muted.
func (f pushFixture) wantShielded(what string, user uint32, groups []uint32, want ...uint32) {
	f.Helper()
	got, err := f.s.ShieldedGroups(f.ctx, user, groups)
	f.check("ShieldedGroups", err)
	if !slices.Equal(got, want) {
		f.Errorf("%s: user %d wants no pushes of groups %v, want %v", what, user, got, want)
	}
}

func groupShields(f *fixture) {
	all := []uint32{7, 1, 4294967295, 3, 1}
	set := func(user, group uint32, on bool) {
		f.Helper()
		f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, user, group, on))
	}
	f.wantShields("before", 9, all)
	set(3, 9, false) // not muted before
	set(7, 9, true)
	set(7, 9, true)
	set(1, 9, true)
	set(4294967295, 9, true)
	set(3, 10, true)
	f.wantShields("on", 9, all, 1, 7, 4294967295)
	f.wantShields("some asked for", 9, []uint32{3, 7}, 7)
	f.wantShields("nobody asked for", 9, nil)
	f.wantShields("another group", 10, all, 3)
	f.wantShields("a group that nobody shields", 11, all)
	set(7, 10, true)
	groups := []uint32{11, 10, 4294967295, 9, 10}
	f.wantShielded("on", 7, groups, 9, 10)
	f.wantShielded("some asked for", 7, []uint32{9, 11}, 9)
	f.wantShielded("none asked for", 7, nil)
	f.wantShielded("another user", 3, groups, 10)
	f.wantShielded("a user that shields none", 8, groups)
	set(7, 9, false)
	set(7, 9, false)
	f.wantShields("off", 9, all, 1, 4294967295)
	f.wantShielded("off", 7, groups, 10)
}

func manyShields(f *fixture) {
	const n = 2500
	var users, want []uint32
	for i := range uint32(n) {
		users = append(users, n-i)
		if i%500 == 7 {
			want = append(want, i)
			f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, i, 1, true))
		}
	}
	f.wantShields("among many", 1, users, want...)
	f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, 7, 2, true))
	f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, 7, n, true))
	f.wantShielded("of many groups", 7, users, 1, 2, n)
}

func pushCancelled(f *fixture) {
	f.setToken(1, ios, "phone")
	f.check("SetGroupShield", f.s.SetGroupShield(f.ctx, 1, 9, true))
	ctx := cancelled()
	for name, call := range map[string]func() error{
		"SetDeviceToken": func() error {
			return f.s.SetDeviceToken(ctx,
				im.DeviceToken{User: 2, Client: ios, Token: "phone"})
		},
		"SetDeviceToken to clear": func() error {
			return f.s.SetDeviceToken(ctx,
				im.DeviceToken{User: 1})
		},
		"DropDeviceToken": func() error { return f.s.DropDeviceToken(ctx, "phone") },
		"DeviceTokens": func() error {
			_, err := f.s.DeviceTokens(ctx,
				[]uint32{1})
			return err
		},
		"DeviceTokens of nobody": func() error {
			_, err := f.s.DeviceTokens(ctx, nil)
			return err
		},
		"SetGroupShield": func() error { return f.s.SetGroupShield(ctx, 1, 9, false) },
		"GroupShields": func() error {
			_, err := f.s.GroupShields(ctx, 9,
				[]uint32{1})
			return err
		},
		"GroupShields of nobody": func() error {
			_, err := f.s.GroupShields(ctx, 9, nil)
			return err
		},
		"ShieldedGroups": func() error {
			_, err := f.s.ShieldedGroups(ctx, 1,
				[]uint32{9})
			return err
		},
		"ShieldedGroups of none": func() error {
			_, err := f.s.ShieldedGroups(ctx, 1, nil)
			return err
		},
	} {
		f.wantGivenUp(name, call())
	}
	f.wantTokens("after it", []uint32{1, 2}, im.DeviceToken{User: 1, Client: ios, Token: "phone"})
	f.wantShields("after it", 9, []uint32{1}, 1)
}
