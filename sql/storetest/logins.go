package storetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/im"
)

var loginTests = []test{
	{"keys of names", nameKeys},
	{"marks come back", marksComeBack},
	{"networks are listed", networksAreListed},
	{"marks put again", marksAgain},
	{"marks expire", marksExpire},
	{"marks are bounded", marksBounded},
	{"marks dropped", marksDropped},
	{"invalid marks", invalidMarks},
	{"marks of other processes", marksShared},
	{"marks cancelled before", marksCancelled},
}

// nameKeys compares keys of names with the names that AccountsByName finds.
func nameKeys(f *fixture) {
	spellings := []string{"Ann Lee", "ann lee", "ANN LEE ", "ann lee  ", "Zoë", "ZOË", "zoë ",
		"Zoe", "张三", "张三 ", "ÅSA", "åsa", "Å", "å", "ΣΊΣΥΦΟΣ", "σίσυφος", "ann\tlee", " ann lee"}
	for _, users := range [][]string{nil, {"Ann Lee", "Zoë", "张三", "ÅSA", "Σίσυφοσ"}} {
		for _, name := range users {
			a := account(0)
			a.Name = name
			_, err := f.s.CreateUsers(f.ctx, []im.Account{a})
			f.check("CreateUsers", err)
		}
		keys, err := f.s.NameKeys(f.ctx, spellings)
		f.check("NameKeys", err)
		accounts, err := f.s.AccountsByName(f.ctx, spellings)
		f.check("AccountsByName", err)
		for i, a := range spellings {
			for j, b := range spellings {
				same := accounts[i].ID == accounts[j].ID
				if accounts[i].ID != 0 && same != (keys[i] == keys[j]) {
					f.Errorf("%q and %q: the same user %v, the same key %v", a, b, same,
						keys[i] == keys[j])
				}
			}
		}
		if strings.Join(keys[:4], "\x00") != strings.Repeat(keys[0]+"\x00", 3)+keys[0] {
			f.Errorf("with users %v, keys of one name are %q", users, keys[:4])
		}
	}
	if keys, err := f.s.NameKeys(f.ctx, []string{"", " ", "\xff", "x\x00y"}); err != nil ||
		len(keys) != 4 {
		f.Errorf("keys of names that cannot be: %q, %v", keys, err)
	}
	if keys, err := f.s.NameKeys(f.ctx, nil); err != nil || len(keys) != 0 {
		f.Errorf("keys of no names: %q, %v", keys, err)
	}
}

var (
	nameMarks    = im.LoginMarkKey{Kind: im.FailuresOfName, Key: "0011223344556677"}
	networkMarks = im.LoginMarkKey{Kind: im.FailuresOfNetwork, Key: "2001:db8::/64"}
	userMarks    = im.LoginMarkKey{Kind: im.NetworksOfUser, Key: "7"}
)

// putMark puts a mark that is kept for an hour.
func (f *base) putMark(k im.LoginMarkKey, value string, at uint32) {
	f.Helper()
	f.check("ChangeLoginMarks", f.s.ChangeLoginMarks(f.ctx, nil, []im.NewLoginMark{{
		LoginMarkKey: k, LoginMark: im.LoginMark{Value: value, At: at}, Keep: time.Hour}}))
}

// wantMarks checks the marks of a key.
func (f *base) wantMarks(k im.LoginMarkKey, want ...im.LoginMark) {
	f.Helper()
	lists, err := f.s.LoginMarks(f.ctx, []im.LoginMarkKey{k})
	f.check("LoginMarks", err)
	if len(lists) != 1 || !slices.Equal(lists[0], want) {
		f.Errorf("marks of %v: %v, want %v", k, lists, want)
	}
}

func marksComeBack(f *fixture) {
	at := f.now()
	f.putMark(nameMarks, "b\x00\xff", at)
	f.putMark(nameMarks, "a", at-5)
	f.putMark(networkMarks, "", at)
	f.putMark(userMarks, strings.Repeat("x", im.MaxLoginMark), at)
	f.wantMarks(nameMarks, im.LoginMark{Value: "a", At: at - 5}, im.LoginMark{Value: "b\x00\xff",
		At: at})
	lists, err := f.s.LoginMarks(f.ctx, []im.LoginMarkKey{networkMarks, {Kind: im.NetworksOfUser,
		Key: nameMarks.Key}, userMarks, networkMarks})
	f.check("LoginMarks", err)
	if len(lists) != 4 || len(lists[0]) != 1 || len(lists[1]) != 0 || len(lists[2]) != 1 ||
		len(lists[3]) != 1 {
		f.Errorf("marks of several keys: %v", lists)
	}
	if lists, err := f.s.LoginMarks(f.ctx, nil); err != nil || len(lists) != 0 {
		f.Errorf("marks of no key: %v, %v", lists, err)
	}
}

// networksAreListed: a store lists the networks with wrong passwords, and no other keys.
func networksAreListed(f *fixture) {
	at := f.now()
	f.putMark(nameMarks, "a", at)
	f.putMark(userMarks, "a", at)
	var want []string
	var puts []im.NewLoginMark
	for i := range 200 { // in every shard
		k := im.LoginMarkKey{Kind: im.FailuresOfNetwork, Key: fmt.Sprintf("10.1.%d.0/24", i)}
		for _, value := range []string{"a", "b"} {
			puts = append(puts, im.NewLoginMark{LoginMarkKey: k,
				LoginMark: im.LoginMark{Value: value, At: at}, Keep: time.Hour})
		}
		want = append(want, k.Key)
	}
	f.check("ChangeLoginMarks", f.s.ChangeLoginMarks(f.ctx, nil, puts))
	f.check("ChangeLoginMarks", f.s.ChangeLoginMarks(f.ctx, []im.LoginMarkDrop{
		{LoginMarkKey: puts[14].LoginMarkKey}}, nil)) // that of want[7]
	want = slices.Delete(want, 7, 8)
	got, err := f.s.FailureNetworks(f.ctx)
	f.check("FailureNetworks", err)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("networks %v, want %v", got, want)
	}
}

// marksAgain: failures keep the time of the first, networks of users get that of the last.
func marksAgain(f *fixture) {
	at := f.now()
	for _, k := range []im.LoginMarkKey{nameMarks, networkMarks, userMarks} {
		f.putMark(k, "again", at-10)
		f.putMark(k, "again", at)
		want := at - 10
		if k.Kind.Renews() {
			want = at
		}
		f.wantMarks(k, im.LoginMark{Value: "again", At: want})
	}
}

// marksExpire: a mark that is kept no longer does not keep the time of a new one.
func marksExpire(f *fixture) {
	at := f.now()
	f.putMark(nameMarks, "a", at-3600)
	f.putMark(nameMarks, "b", at-3599)
	f.putMark(nameMarks, "a", at)
	f.wantMarks(nameMarks, im.LoginMark{Value: "b", At: at - 3599},
		im.LoginMark{Value: "a", At: at})
}

func marksBounded(f *fixture) {
	at := f.now()
	for _, k := range []im.LoginMarkKey{nameMarks, networkMarks, userMarks} {
		most := k.Kind.Most()
		puts := make([]im.NewLoginMark, most+3)
		for i := range puts {
			puts[i] = im.NewLoginMark{LoginMarkKey: k, Keep: time.Hour * 10,
				LoginMark: im.LoginMark{Value: strconv.Itoa(i), At: at - uint32(most+3-i)}}
		}
		f.check("ChangeLoginMarks", f.s.ChangeLoginMarks(f.ctx, nil, puts))
		lists, err := f.s.LoginMarks(f.ctx, []im.LoginMarkKey{k})
		f.check("LoginMarks", err)
		if len(lists[0]) != most || lists[0][0].Value != "3" {
			f.Errorf("%v: %d marks, the oldest %v; want %d from 3", k, len(lists[0]), lists[0][0],
				most)
		}
	}
}

func marksDropped(f *fixture) {
	at := f.now()
	for _, v := range []string{"a", "b", "c"} {
		f.putMark(nameMarks, v, at)
		f.putMark(userMarks, v, at)
	}
	f.check("ChangeLoginMarks", f.s.ChangeLoginMarks(f.ctx,
		[]im.LoginMarkDrop{{LoginMarkKey: nameMarks, Values: []string{"a", "c", "other"}},
			{LoginMarkKey: userMarks}, {LoginMarkKey: networkMarks}},
		[]im.NewLoginMark{{LoginMarkKey: nameMarks, LoginMark: im.LoginMark{Value: "c", At: at + 1},
			Keep: time.Hour}}))
	f.wantMarks(nameMarks, im.LoginMark{Value: "b", At: at}, im.LoginMark{Value: "c", At: at + 1})
	f.wantMarks(userMarks)
}

func invalidMarks(f *fixture) {
	good := im.NewLoginMark{LoginMarkKey: nameMarks, LoginMark: im.LoginMark{Value: "a",
		At: f.now()}, Keep: time.Hour}
	long := strings.Repeat("v", im.MaxLoginMark+1)
	for what, spoil := range map[string]func(m *im.NewLoginMark){
		"no key":       func(m *im.NewLoginMark) { m.Key = "" },
		"long key":     func(m *im.NewLoginMark) { m.Key = strings.Repeat("k", 65) },
		"unknown kind": func(m *im.NewLoginMark) { m.Kind = 0 },
		"long value":   func(m *im.NewLoginMark) { m.Value = long },
		"no time":      func(m *im.NewLoginMark) { m.Keep = time.Millisecond },
	} {
		bad := good
		spoil(&bad)
		f.wantKind(what, f.s.ChangeLoginMarks(f.ctx, nil, []im.NewLoginMark{good, bad}), im.Invalid)
	}
	f.wantMarks(nameMarks)
}

func marksShared(f *fixture) {
	other := f.second()
	at := f.now()
	f.putMark(nameMarks, "a", at)
	lists, err := other.LoginMarks(f.ctx, []im.LoginMarkKey{nameMarks})
	f.check("LoginMarks", err)
	if len(lists[0]) != 1 {
		f.Errorf("another process reads %v", lists)
	}
	f.check("ChangeLoginMarks", other.ChangeLoginMarks(f.ctx,
		[]im.LoginMarkDrop{{LoginMarkKey: nameMarks}}, nil))
	f.wantMarks(nameMarks)
}

func marksCancelled(f *fixture) {
	ctx := cancelled()
	_, err := f.s.NameKeys(ctx, []string{"Zoë"})
	if err != nil { // a store that asks no database may answer
		f.wantGivenUp("NameKeys", err)
	}
	_, err = f.s.LoginMarks(ctx, []im.LoginMarkKey{nameMarks})
	f.wantGivenUp("LoginMarks", err)
	f.wantGivenUp("ChangeLoginMarks", f.s.ChangeLoginMarks(ctx, nil, []im.NewLoginMark{{
		LoginMarkKey: nameMarks, LoginMark: im.LoginMark{Value: "a", At: f.now()},
		Keep: time.Hour}}))
	f.wantMarks(nameMarks)
}
