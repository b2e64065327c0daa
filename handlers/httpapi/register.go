package httpapi

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"teamtalk/core/im"
	"teamtalk/core/web"
)

// Register configures self-registration. A new user needs an invite code, unless
// registration is open.
type Register struct {
	// Accounts creates the users. Required.
	Accounts Accounts
	// Passwords is the form in which the passwords of the users are stored.
	Passwords im.PasswordPolicy
	// Open lets every client register without a code.
	Open bool
	// Invites are the invite codes, of at least MinInvite characters each. A code may be
	// used any number of times. Required unless Open is set.
	Invites []string
	// Networks are the networks from which clients may register, and only directly, not
	// through a proxy. Empty: all networks.
	Networks []netip.Prefix
	// PerHour bounds the users created in an hour, for all clients together. Default
	// 1000.
	PerHour int
	// Depart is the department of new users; 0: none.
	Depart uint32

	codes map[[sha256.Size]byte]bool
	limit *rate.Limiter
}

// MinInvite is the shortest invite code, in characters.
const MinInvite = 8

func (r *Register) defaults() error {
	if len(r.Invites) == 0 && !r.Open {
		return im.Errorf(im.Invalid, "self-registration needs invite codes, or must be open")
	}
	if r.PerHour < 0 {
		return im.Errorf(im.Invalid, "%d new users an hour: the number must not be negative",
			r.PerHour)
	}
	if r.PerHour == 0 {
		r.PerHour = 1000
	}
	r.limit = rate.NewLimiter(rate.Limit(float64(r.PerHour)/time.Hour.Seconds()), r.PerHour)
	r.codes = map[[sha256.Size]byte]bool{}
	for _, c := range r.Invites {
		if len(c) < MinInvite {
			return im.Errorf(im.Invalid, "invite code of %d characters: use at least %d", len(c),
				MinInvite)
		}
		r.codes[sha256.Sum256([]byte(c))] = true
	}
	return nil
}

// reachedFrom reports whether a client at addr may register.
func (r *Register) reachedFrom(addr netip.Addr) bool {
	return len(r.Networks) == 0 || slices.ContainsFunc(r.Networks,
		func(p netip.Prefix) bool { return p.Contains(addr) })
}

// invited reports whether a client with this code may register.
func (r *Register) invited(code string) bool {
	return r.Open ||
		r.codes[sha256.Sum256([]byte(code))]
}

type registerRequest struct {
	Name     string `json:"user_name"`
	Password string `json:"password"`
	Nick     string `json:"nick_name"`
	Invite   string `json:"invite_code"`
}

type registerResult struct {
	answer
	User  uint32 `json:"user_id"`
	Field string `json:"field"` // the rejected field, if any
}

// termsResult is the answer to a client that asks for the terms of registration.
type termsResult struct {
	answer
	Invite      bool `json:"invite_needed"`
	MinPassword int  `json:"min_password"` // in characters
}

// registering runs a handler with the settings of the registration in use. Without any there is
// no such page.
func (s *Server) registering(
	run func(*Register, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reg := s.callers.Load().register
		if reg == nil {
			http.NotFound(w, r)
			return
		}
		run(reg, w, r)
	}
}

// terms returns whether, and with which terms, the client may register.
func (s *Server) terms(reg *Register, w http.ResponseWriter, r *http.Request) {
	a := &termsResult{Invite: !reg.Open, MinPassword: minPassword}
	s.respond(w, "RegisterTerms", a, reg.mayRegister(r))
}

// mayRegister returns the reason why the client may not register from its address; nil
// when it may. When registration is limited to networks, requests through a proxy are
// refused: the proxy's address is not the client's, and any client can send the headers
// of a proxy.
func (reg *Register) mayRegister(r *http.Request) error {
	if !reg.reachedFrom(remote(r)) || len(reg.Networks) > 0 && web.Proxied(r) {
		return fail(codeClosed, "registration is not open to this address")
	}
	return nil
}

// loginName matches the login names that new users may choose: characters that every
// keyboard has.
var loginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,31}$`)

// minPassword is the length of the shortest password, in characters; maxPassword that of
// the longest, in bytes.
const (
	minPassword = 8
	maxPassword = 1024
)

// register creates a user. Every attempt counts against the client's address, successful
// ones included.
func (s *Server) register(reg *Register, w http.ResponseWriter, r *http.Request) {
	q, a := &registerRequest{}, &registerResult{}
	err := firstOf(reg.mayRegister(r), s.mayAsk(r))
	if err == nil {
		err = s.decode(w, r, q, smallBody)
	}
	if err == nil {
		err = s.newUser(reg, r, q, a)
	}
	s.auditRegister(r, q.Name, a.User, err)
	s.respond(w, "Register", a, err)
}

// not sets the rejected field and returns the error.
func (a *registerResult) not(field string, code int, text string) error {
	a.Field = field
	return fail(code, text)
}

// check returns the error of an invalid request; nil when it is valid.
func (reg *Register) check(q *registerRequest, a *registerResult) error {
	switch {
	case !reg.invited(q.Invite):
		return a.not("invite_code", codeKey, "invite_code is wrong")
	case !loginName.MatchString(q.Name):
		return a.not("user_name", codeBad,
			"user_name has 2 to 32 letters, digits, dots, dashes or underscores")
	case im.ReservedName(q.Name):
		return a.not("user_name", codeDenied, "user_name is reserved")
	case im.ReservedName(q.Nick):
		return a.not("nick_name", codeDenied, "nick_name is reserved")
	case utf8.RuneCountInString(q.Password) < minPassword:
		return a.not("password", codeBad, fmt.Sprintf("password has at least %d characters",
			minPassword))
	case len(q.Password) > maxPassword:
		return a.not("password", codeBad, fmt.Sprintf("password has at most %d bytes", maxPassword))
	case utf8.RuneCountInString(q.Nick) > im.MaxName:
		return a.not("nick_name", codeBad, "nick_name has at most 32 characters")
	case strings.ContainsFunc(q.Nick, func(c rune) bool { return !unicode.IsPrint(c) }):
		return a.not("nick_name", codeBad, "nick_name has a character that cannot be shown")
	}
	return nil
}

func (s *Server) newUser(reg *Register, r *http.Request, q *registerRequest,
	a *registerResult) error {
	from, now := remote(r), s.opt.Now()
	if !s.newcomers.try(from, now) {
		return fail(codeTooMany, "too many registrations from this address")
	}
	q.Nick = strings.TrimSpace(q.Nick)
	if err := reg.check(q, a); err != nil {
		return err
	}
	if !reg.limit.AllowN(now, 1) {
		return fail(codeTooMany, "too many registrations")
	}
	if q.Nick == "" {
		q.Nick = q.Name
	}
	password := reg.Passwords.Store(im.ClientPassword(q.Password))
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.Timeout)
	defer cancel()
	ids, err := reg.Accounts.CreateUsers(ctx, []im.Account{{
		User: im.User{Name: q.Name, Nick: q.Nick, Domain: q.Name,
			DepartID: reg.Depart},
		Password: password.Hash, Salt: password.Salt,
	}})
	switch im.KindOf(err) {
	case im.Exists:
		return a.not("user_name", codeDenied, "user_name is taken")
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
