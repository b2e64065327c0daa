package dbproxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/kdf"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/passwords"
	"teamtalk/proto/pb"
)

// cheap has costs that a test can afford.
var cheap = im.PasswordPolicy{KDF: kdf.Params{Memory: 64, Passes: 1, Lanes: 1}}

func withKDF(remember time.Duration) dbproxy.Options {
	return dbproxy.Options{LinkHeartbeat: time.Hour,
		Passwords: passwords.Settings{Policy: cheap, Remember: remember}}
}

// watchMoves returns a channel that gets the result of each call of ReplacePassword.
func (f *faulty) watchMoves() chan bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved = make(chan bool, 10)
	return f.moved
}

func (f *faulty) ReplacePassword(ctx context.Context, id uint32, old,
	now im.StoredPassword) (bool, error) {
	ok, err := f.Store.ReplacePassword(ctx, id, old, now)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved != nil {
		f.moved <- ok
	}
	return ok, err
}

// TestLoginMovesRow: a login moves the user's row from md5 to argon2id. The same password
// works before and after, sessions from before are told to remain, and Updated stays.
func TestLoginMovesRow(t *testing.T) {
	h := open(t, options{db: withKDF(0)})
	moves := h.store.watchMoves()
	p := h.dial()
	before, err := h.store.AccountByName(t.Context(), "u00001")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.login(t, "u00001", "pw"); got != 0 {
		t.Fatalf("result %d", got)
	}
	if after, err := h.store.AccountByName(t.Context(), "u00001"); err != nil || after != before {
		t.Errorf("a row that was made a moment ago: %+v, %v", after, err)
	}
	h.clock.Add(10 * time.Minute)
	for _, c := range []struct {
		sent string
		want uint32
	}{{"wrong", 1}, {"pw", 0}} {
		if got := p.login(t, "u00001", c.sent); got != c.want {
			t.Fatalf("%s: result %d", c.sent, got)
		}
	}
	if !<-moves {
		t.Error("the row was not moved")
	}
	after, err := h.store.AccountByName(t.Context(), "u00001")
	if err != nil || !after.Stored().IsKDF() || after.User != before.User {
		t.Fatalf("moved: %+v, %v", after, err)
	}
	for sent, want := range map[string]uint32{"wrong": 1, "pw": 0, "Pw": 1} {
		if got := p.login(t, "U00001", sent); got != want {
			t.Errorf("%s with the new form: result %d", sent, got)
		}
	}
	if got := p.login(t, "nobody", "pw"); got != 1 {
		t.Errorf("unknown name: result %d", got)
	}
	req := pb.IMValidateReq_builder{UserName: proto.String("u00001"),
		Password: proto.String(im.ClientPassword("pw")), TellFailure: proto.Bool(true)}.Build()
	want := im.CredentialDigest(after.Password, after.Salt)
	if rsp := ask[*pb.IMValidateRsp](p, 1, req); string(rsp.GetCredential()) != want {
		t.Errorf("login: %v", rsp)
	}
	for _, c := range ask[*pb.IMCredentialsRsp](p, 2, credentialsReq(1, 0)).GetList() {
		if moved := c.GetUserId() == before.ID; c.GetMoved() != moved ||
			moved && string(c.GetCredential()) != want {
			t.Errorf("credential %v", c)
		}
	}
}

// TestGuessesInParallelAreLocked sends wrong passwords and then the right one without waiting
// for answers. As with md5, the tenth locks the name, and no answer after it tells whether
// its password was right, although more than ten were derived.
func TestGuessesInParallelAreLocked(t *testing.T) {
	h := open(t, options{db: withKDF(time.Hour)})
	form := cheap.Store(im.ClientPassword("pw"))
	if err := h.store.SetPassword(t.Context(), 1, form.Hash, form.Salt); err != nil {
		t.Fatal(err)
	}
	p := h.dial()
	const guesses = 40
	for i := range guesses {
		p.send(uint16(i), validateReq("u00001", fmt.Sprint("guess ", i)))
	}
	p.send(guesses, validateReq("u00001", "pw"))
	results := map[uint32]int{}
	for range guesses + 1 {
		_, m, _ := p.read()
		results[m.(*pb.IMValidateRsp).GetResultCode()]++
	}
	if results[1] != 10 || results[6] != guesses-9 {
		t.Errorf("results %v, want 10 wrong, and the rest locked", results)
	}
}

// TestPasswordChangesDuringCheck changes a password while a login with the old one waits for
// its derivation: the login is checked against the new row.
func TestPasswordChangesDuringCheck(t *testing.T) {
	h := open(t, options{db: withKDF(time.Hour)})
	set := func(clear string) {
		form := cheap.Store(im.ClientPassword(clear))
		if err := h.store.SetPassword(t.Context(), 1, form.Hash, form.Salt); err != nil {
			t.Error(err)
		}
	}
	set("old")
	// The second look-up of the login comes after its derivation.
	lookups := 0
	h.store.set(func() error {
		if lookups++; lookups == 2 {
			h.store.set(nil)
			set("new")
		}
		return nil
	})
	p := h.dial()
	if got := p.login(t, "u00001", "old"); got != 1 {
		t.Errorf("the old password: result %d", got)
	}
	if got := p.login(t, "u00001", "new"); got != 0 {
		t.Errorf("the new password: result %d", got)
	}
}

// TestSetBackToMD5: with the policy md5, a row in argon2id stays as it is, and its user logs in.
func TestSetBackToMD5(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{LinkHeartbeat: time.Hour}})
	form := cheap.Store(im.ClientPassword("pw"))
	if err := h.store.SetPassword(t.Context(), 1, form.Hash, form.Salt); err != nil {
		t.Fatal(err)
	}
	h.clock.Add(10 * time.Minute)
	p := h.dial()
	for _, c := range []struct {
		name, sent string
		want       uint32
	}{{"u00001", "wrong", 1}, {"u00001", "pw", 0}, {"u00002", "pw", 0}, {"nobody", "pw", 1}} {
		if got := p.login(t, c.name, c.sent); got != c.want {
			t.Errorf("%s with %s: result %d, want %d", c.name, c.sent, got, c.want)
		}
	}
	for name, want := range map[string]bool{"u00001": true, "u00002": false} {
		a, err := h.store.AccountByName(t.Context(), name)
		if err != nil || a.Stored().IsKDF() != want || want && a.Stored() != form {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}
