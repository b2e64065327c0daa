package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/client/loginserver"
	"teamtalk/core/im"
)

// registerTimeout bounds one request to the servers about registration.
const registerTimeout = 15 * time.Second

// applicant registers a new user before the login.
type applicant struct {
	ask   Prompter // nil: there is no user to ask, the options hold every answer
	opts  Options
	at    *loginserver.Registrar
	terms loginserver.Terms
}

// newApplicant finds the place to register, and its terms.
func newApplicant(ctx context.Context, ask Prompter, o Options) (*applicant, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	a := &applicant{ask: ask, opts: o}
	var err error
	switch {
	case o.API != "":
		a.at, err = loginserver.NewRegistrar(o.http(), o.API)
	case o.MsgServer != "":
		return nil, im.Errorf(im.Invalid,
			"--msg-server asks no login server: say with --api where to register")
	default:
		a.at, err = loginserver.FindRegistrar(ctx, o.http(), o.Server)
		if im.KindOf(err) == im.NotFound {
			return nil, im.Errorf(im.NotFound,
				"the server at %s lets nobody register from here; its administrator adds users",
				o.Server)
		}
		if err != nil {
			return nil, openError(o, err)
		}
	}
	if err == nil {
		a.terms, err = a.at.Terms(ctx)
	}
	if err != nil {
		return nil, a.explain(err)
	}
	return a, nil
}

// register registers the user. It asks for values that are missing, and again for values
// that the server refused. It returns the user, whose name may differ from the options',
// and the id.
func (a *applicant) register(ctx context.Context, password string) (
	u loginserver.NewUser, id uint32, err error,
) {
	u = loginserver.NewUser{Name: a.opts.User, Password: password, Nick: a.opts.Nick,
		Invite: a.opts.Invite}
	for {
		if err := a.complete(&u); err != nil {
			return u, 0, err
		}
		id, err := a.try(ctx, u)
		if err == nil {
			return u, id, nil
		}
		var field *loginserver.FieldError
		if a.ask == nil || !errors.As(err, &field) {
			return u, 0, fmt.Errorf("register %s: %w", CleanLine(u.Name), a.explain(err))
		}
		a.say("%v.", a.explain(err))
		if err := a.change(&u, field.Field); err != nil {
			return u, 0, err
		}
	}
}

// try sends one request to register.
func (a *applicant) try(ctx context.Context, u loginserver.NewUser) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	return a.at.Register(ctx, u)
}

// complete asks for the values that are missing.
func (a *applicant) complete(u *loginserver.NewUser) (err error) {
	if a.terms.Invite && u.Invite == "" {
		if a.ask == nil {
			return errors.New("an invite code is needed to register here: give --invite")
		}
		if u.Invite, err = a.answer("Invite code: "); err != nil {
			return err
		}
	}
	if u.Password == "" {
		if a.ask == nil {
			return fmt.Errorf("no password to register with: give --password or set %s",
				EnvPassword)
		}
		u.Password, err = a.newPassword(u.Name)
	}
	return err
}

// change asks again for a field that the server refused.
func (a *applicant) change(u *loginserver.NewUser, field string) (err error) {
	switch field {
	case "user_name":
		u.Name, err = a.answer("Another name: ")
	case "password":
		u.Password = "" // complete asks
	case "invite_code":
		u.Invite, err = a.answer("Invite code: ")
	case "nick_name":
		u.Nick, err = a.answer("Name shown to others: ")
	default: // a server with more fields than this program knows
		return fmt.Errorf("not registered: this program cannot ask for %s", CleanLine(field))
	}
	return err
}

// errGaveUp ends a registration when the user leaves an answer empty.
var errGaveUp = errors.New("not registered")

// answer asks for a line. An empty one ends the registration.
func (a *applicant) answer(prompt string) (string, error) {
	text, err := a.ask.Line(prompt)
	if err == nil && text == "" {
		err = errGaveUp
	}
	return text, err
}

// newPassword asks for a password twice, until both are the same and long enough.
func (a *applicant) newPassword(name string) (string, error) {
	for {
		first, err := a.ask.Secret(fmt.Sprintf("New password of %s: ", CleanLine(name)))
		if err != nil {
			return "", err
		}
		if first == "" {
			return "", errGaveUp
		}
		if len([]rune(first)) < a.terms.MinPassword {
			a.say("A password has at least %d characters.", a.terms.MinPassword)
			continue
		}
		again, err := a.ask.Secret("The same again: ")
		if err != nil {
			return "", err
		}
		if first == again {
			return first, nil
		}
		a.say("The two are not the same.")
	}
}

// say tells the user something.
func (a *applicant) say(format string, args ...any) { a.ask.Say(fmt.Sprintf(format, args...)) }

// explain returns an error for the user, which says in clear words why the server
// refused.
func (a *applicant) explain(err error) error {
	var field *loginserver.FieldError
	name := ""
	if errors.As(err, &field) {
		name = field.Field
	}
	switch kind := im.KindOf(err); {
	case kind == im.Exists:
		return errors.New("the name is taken")
	case kind == im.Denied:
		return errors.New("the invite code is wrong")
	case kind == im.Busy:
		return errors.New("too many users register from here, or there were too many attempts: " +
			"try again in some minutes")
	case kind == im.NotFound && a.at != nil:
		return fmt.Errorf("registration is not open at %s, or not from here", a.at.URL())
	case name == "user_name":
		return errors.New("a name has 2 to 32 letters, digits, dots, dashes or underscores, " +
			"and begins with a letter or digit")
	case name == "password" && a.terms.MinPassword > 0:
		return fmt.Errorf("the server refused the password: it must have at least %d characters",
			a.terms.MinPassword)
	case kind == im.Unavailable && a.at != nil:
		return fmt.Errorf("no good answer from %s: %s", a.at.URL(), CleanLine(err.Error()))
	}
	return errors.New(CleanLine(err.Error()))
}
