package storetest

import (
	"time"

	"teamtalk/core/im"
	"teamtalk/core/kdf"
)

// kdfPolicy has costs that a test can afford.
var kdfPolicy = im.PasswordPolicy{KDF: kdf.Params{Memory: 64, Passes: 1, Lanes: 1}}

// replacePassword moves a user's password to another form, which is no change of the
// password: Updated remains, and the credential says that it was moved.
func replacePassword(f *fixture) {
	ids := f.users(3)
	sent := im.ClientPassword("secret0")
	before := f.account("user0")
	f.counts(im.PasswordCounts{Weak: 3})
	f.advance(10 * time.Second)
	moved, ok := kdfPolicy.Improve(before.Stored(), sent)
	if !ok {
		f.Fatal("an md5 form stays")
	}
	f.replace(ids[0], before.Stored(), moved, true)
	f.replace(ids[0], before.Stored(), moved, false) // it is not the old one any more
	f.counts(im.PasswordCounts{Weak: 2, KDF: 1})
	f.isMoved("user0", before, moved, sent)

	costly := im.PasswordPolicy{KDF: kdf.Params{Memory: 128, Passes: 1}}
	raised, ok := costly.Improve(moved, sent)
	if !ok || raised == moved {
		f.Fatal("a form of lower costs stays")
	}
	f.replace(ids[0], moved, raised, true)
	f.isMoved("user0", before, raised, sent)
	if digest := func(p im.StoredPassword) string {
		return im.CredentialDigest(p.Hash, p.Salt)
	}; digest(raised) != digest(moved) {
		f.Error("higher costs change the digest")
	}
	if got, want := f.account("user1"), account(1); got.Stored() != want.Stored() {
		f.Errorf("another user's password is %+v", got.Stored())
	}
}

// passwordChangedMeanwhile requires that a form of an old password does not replace a new
// password.
func passwordChangedMeanwhile(f *fixture) {
	ids := f.users(1)
	before := f.account("user0")
	moved, _ := kdfPolicy.Improve(before.Stored(), im.ClientPassword("secret0"))
	set := kdfPolicy.Store(im.ClientPassword("changed"))
	f.check("SetPassword", f.s.SetPassword(f.ctx, ids[0], set.Hash, set.Salt))
	f.replace(ids[0], before.Stored(), moved, false)
	f.replace(ids[0]+1000, before.Stored(), moved, false)
	sameHash := im.StoredPassword{Hash: set.Hash, Salt: "salt"}
	f.replace(ids[0], sameHash, moved, false)
	if got := f.account("user0"); got.Stored() != set || !got.Check(im.ClientPassword("changed")) {
		f.Errorf("the password is %+v", got.Stored())
	}
	list, _, err := f.s.CredentialsChangedSince(f.ctx, 0, 0, 10)
	f.check("CredentialsChangedSince", err)
	if len(list) != 1 || list[0].Moved {
		f.Errorf("a password that was set counts as moved: %+v", list)
	}
	_, err = f.s.ReplacePassword(f.ctx, ids[0], set, im.StoredPassword{Hash: "\xff"})
	f.wantKind("ReplacePassword with a form that is not UTF-8", err, im.Invalid)
}

// replace calls ReplacePassword, which must report want.
func (f directoryFixture) replace(id uint32, old, now im.StoredPassword, want bool) {
	f.Helper()
	done, err := f.s.ReplacePassword(f.ctx, id, old, now)
	f.check("ReplacePassword", err)
	if done != want {
		f.Errorf("the form of user %d was replaced: %v, want %v", id, done, want)
	}
}

// counts compares the numbers of users by the form of their passwords.
func (f directoryFixture) counts(want im.PasswordCounts) {
	f.Helper()
	got, err := f.s.CountPasswords(f.ctx)
	f.check("CountPasswords", err)
	if got != want {
		f.Errorf("%+v, want %+v", got, want)
	}
}

// isMoved checks the row of a user that has a form now and was before.
func (f directoryFixture) isMoved(name string, before im.Account, form im.StoredPassword,
	sent string) {
	f.Helper()
	a := f.account(name)
	if a.Stored() != form || !a.Check(sent) || a.Check(im.ClientPassword("other")) {
		f.Errorf("%s has the password %+v, want %+v", name, a.Stored(), form)
	}
	if a.User != before.User {
		f.Errorf("the user changed:\n got %+v\nwant %+v", a.User, before.User)
	}
	list, _, err := f.s.CredentialsChangedSince(f.ctx, 0, 0, 10)
	f.check("CredentialsChangedSince", err)
	for _, c := range list {
		if c.User == a.ID && (!c.Moved || c.Digest != im.CredentialDigest(form.Hash, form.Salt) ||
			len(c.Digest) != im.KDFCredential) {
			f.Errorf("credential %+v", c)
		}
	}
}
