package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"regexp"
	"unicode/utf8"

	"teamtalk/core/im"
)

// Register is what self-registration needs. Who registers names an invite code; everybody with the code may.
type Register struct {
	// Accounts makes the users. Required.
	Accounts Accounts
	// Invites are the codes, at least MinInvite characters each. Required.
	Invites []string
	// Depart is the department new users are put in; 0: none.
	Depart uint32

	codes map[[sha256.Size]byte]bool
}

// MinInvite is the shortest invite code, in characters.
const MinInvite = 8

func (r *Register) defaults() error {
	if len(r.Invites) == 0 {
		return im.Errorf(im.Invalid, "self-registration needs invite codes")
	}
	r.codes = map[[sha256.Size]byte]bool{}
	for _, c := range r.Invites {
		if len(c) < MinInvite {
			return im.Errorf(im.Invalid, "an invite code of %d characters; at least %d are needed", len(c), MinInvite)
		}
		r.codes[sha256.Sum256([]byte(c))] = true
	}
	return nil
}

type registerRequest struct {
	Name     string `json:"user_name"`
	Password string `json:"password"`
	Nick     string `json:"nick_name"`
	Invite   string `json:"invite_code"`
}

type registerResult struct {
	answer
	User uint32 `json:"user_id"`
}

// loginName is what a self-chosen login name looks like: what people type on every keyboard.
var loginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,31}$`)

// minPassword is the shortest password, in characters.
const minPassword = 8

// register makes a user for whoever has an invite code. Every try counts against the address, those that succeed too.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	q, a := &registerRequest{}, &registerResult{}
	err := s.decode(w, r, q)
	if err == nil {
		err = s.newUser(r, q, a)
	}
	s.respond(w, "Register", a, err)
}

func (s *Server) newUser(r *http.Request, q *registerRequest, a *registerResult) error {
	from, now := remote(r), s.opt.Now()
	if !s.clients.mayTry(from, now) {
		return fail(codeTooMany, "too many registrations from this address")
	}
	s.clients.failed(from, now)
	if !s.opt.Register.codes[sha256.Sum256([]byte(q.Invite))] {
		return fail(codeKey, "invite_code is wrong")
	}
	if q.Nick == "" {
		q.Nick = q.Name
	}
	switch {
	case !loginName.MatchString(q.Name):
		return fail(codeBad, "user_name has 2 to 32 letters, digits, dots, dashes or underscores")
	case utf8.RuneCountInString(q.Password) < minPassword || len(q.Password) > 1024:
		return fail(codeBad, "password has at least 8 characters")
	case utf8.RuneCountInString(q.Nick) > 32:
		return fail(codeBad, "nick_name has at most 32 characters")
	}
	salt := rand.Text()[:4]
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.Timeout)
	defer cancel()
	ids, err := s.opt.Register.Accounts.CreateUsers(ctx, []im.Account{{
		User:     im.User{Name: q.Name, Nick: q.Nick, Domain: q.Name, DepartID: s.opt.Register.Depart},
		Password: im.HashPassword(im.ClientPassword(q.Password), salt), Salt: salt,
	}})
	switch im.KindOf(err) {
	case im.Exists:
		return fail(codeDenied, "user_name is taken")
	case im.Invalid:
		return fail(codeBad, "a field is too long or not UTF-8")
	}
	if err != nil {
		return err
	}
	a.User = ids[0]
	s.log.Info("user registered", "user", ids[0], "from", from.String())
	return nil
}
