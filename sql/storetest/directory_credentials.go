package storetest

import (
	"slices"
	"time"

	"teamtalk/core/im"
)

// credentials returns the ids of CredentialsChangedSince, and checks every credential
// against the account.
func (f directoryFixture) credentials(since, after uint32, limit int) (ids []uint32,
	newest uint32) {
	f.Helper()
	list, newest, err := f.s.CredentialsChangedSince(f.ctx, since, after, limit)
	f.check("CredentialsChangedSince", err)
	for _, c := range list {
		users, err := f.s.Users(f.ctx, []uint32{c.User})
		f.check("Users", err)
		a := f.account(users[0].Name)
		want := im.Credential{User: a.ID, Updated: a.Updated, Status: a.Status,
			Digest: im.CredentialDigest(a.Password, a.Salt),
			Moved:  a.Stored().IsKDF() && a.Salt == im.SaltMoved}
		if c != want {
			f.Errorf("credential %+v, want %+v", c, want)
		}
		ids = append(ids, c.User)
	}
	return ids, newest
}

func credentialsSince(f *fixture) {
	if ids, newest := f.credentials(0, 0, 10); len(ids) != 0 || newest != 0 {
		f.Errorf("without users: %v, newest %d", ids, newest)
	}
	ids := f.users(5)
	slices.Sort(ids)
	first, newest := f.credentials(0, 0, 100)
	if !slices.Equal(first, ids) {
		f.Errorf("all: %v, want %v", first, ids)
	}
	if got, _ := f.credentials(0, 0, 0); len(got) != 0 {
		f.Errorf("limit 0: %v", got)
	}
	f.advance(10 * time.Second)
	if got, n := f.credentials(newest+1, 0, 100); len(got) != 0 || n != newest {
		f.Errorf("nothing has changed: %v, newest %d, want %d", got, n, newest)
	}
	hash := im.HashPassword(im.ClientPassword("changed"), "new1")
	f.check("SetPassword", f.s.SetPassword(f.ctx, ids[3], hash, "new1"))
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, ids[1], im.StatusDeparted))
	got, later := f.credentials(newest+1, 0, 100)
	slices.Sort(got)
	if want := []uint32{ids[1], ids[3]}; !slices.Equal(got, want) || later <= newest {
		f.Errorf("changed: %v, newest %d, want %v, newer than %d", got, later, want, newest)
	}
	var paged []uint32
	since, after := newest+1, uint32(0)
	for {
		page, _ := f.credentials(since, after, 1)
		if len(page) == 0 || len(paged) > len(ids) {
			break
		}
		paged = append(paged, page...)
		users, err := f.s.Users(f.ctx, page)
		f.check("Users", err)
		since, after = users[0].Updated, page[0]
	}
	if slices.Sort(paged); !slices.Equal(paged, got) {
		f.Errorf("in pages of one: %v, want %v", paged, got)
	}
}
