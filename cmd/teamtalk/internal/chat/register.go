package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
)

// registerTimeout bounds one question to the servers about registration.
const registerTimeout = 15 * time.Second

// applicant is somebody who registers before logging in.
type applicant struct {
	ctx   context.Context
	ask   *Asker // nil: nobody can be asked, all is in the options
	opts  Options
	at    *client.Registrar
	terms client.Terms
}

// newApplicant finds out where and how somebody may register.
func newApplicant(ctx context.Context, ask *Asker, o Options) (*applicant, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	a := &applicant{ask: ask, opts: o}
	var err error
	switch {
	case o.Api != "":
		a.at, err = client.NewRegistrar(nil, o.Api)
	case o.MsgServer != "":
		return nil, im.Errorf(im.Invalid, "with --msg-server, which asks no login server, say with --api where to register")
	default:
		a.at, err = client.FindRegistrar(ctx, nil, o.Server)
		if im.KindOf(err) == im.NotFound {
			return nil, im.Errorf(im.NotFound, "the server at %s lets nobody register from here; its administrator adds users", o.Server)
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

// register makes the user, asking for what is missing, and again for what was not taken. It returns who may log in now.
func (a *applicant) register(ctx context.Context, password string) (u client.NewUser, id uint32, err error) {
	a.ctx = ctx
	u = client.NewUser{Name: a.opts.User, Password: password, Nick: a.opts.Nick, Invite: a.opts.Invite}
	for {
		if err := a.complete(&u); err != nil {
			return u, 0, err
		}
		id, err := a.try(u)
		if err == nil {
			return u, id, nil
		}
		var field *client.FieldError
		if a.ask == nil || !errors.As(err, &field) {
			return u, 0, fmt.Errorf("register %s: %w", CleanLine(u.Name), a.explain(err))
		}
		a.ask.say("%v.", a.explain(err))
		if err := a.change(&u, field.Field); err != nil {
			return u, 0, err
		}
	}
}

// try asks the server once.
func (a *applicant) try(u client.NewUser) (uint32, error) {
	ctx, cancel := context.WithTimeout(a.ctx, registerTimeout)
	defer cancel()
	return a.at.Register(ctx, u)
}

// complete asks for what is missing.
func (a *applicant) complete(u *client.NewUser) (err error) {
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
			return fmt.Errorf("no password to register with: give --password or set %s", EnvPassword)
		}
		u.Password, err = a.newPassword(u.Name)
	}
	return err
}

// change asks anew for a field that was not taken.
func (a *applicant) change(u *client.NewUser, field string) (err error) {
	switch field {
	case "user_name":
		u.Name, err = a.answer("Another name: ")
	case "password":
		u.Password = "" // complete asks
	case "invite_code":
		u.Invite, err = a.answer("Invite code: ")
	case "nick_name":
		u.Nick, err = a.answer("Name shown to others: ")
	default: // of a server that has more of them
		return fmt.Errorf("not registered: this program cannot ask for %s", CleanLine(field))
	}
	return err
}

// errGaveUp is the end of a registration when somebody leaves an answer empty.
var errGaveUp = errors.New("not registered")

// answer asks for a line; an empty one ends the registration.
func (a *applicant) answer(prompt string) (string, error) {
	text, err := a.ask.line(prompt)
	if err == nil && text == "" {
		err = errGaveUp
	}
	return text, err
}

// newPassword asks twice, until both are the same and long enough.
func (a *applicant) newPassword(name string) (string, error) {
	for {
		first, err := a.ask.secret(fmt.Sprintf("New password of %s: ", CleanLine(name)))
		if err != nil {
			return "", err
		}
		if first == "" {
			return "", errGaveUp
		}
		if len([]rune(first)) < a.terms.MinPassword {
			a.ask.say("A password has at least %d characters.", a.terms.MinPassword)
			continue
		}
		again, err := a.ask.secret("The same again: ")
		if err != nil {
			return "", err
		}
		if first == again {
			return first, nil
		}
		a.ask.say("The two are not the same.")
	}
}

// explain says in clear words what went wrong.
func (a *applicant) explain(err error) error {
	var field *client.FieldError
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
		return errors.New("too many people register from here, or somebody tried too often: try again in some minutes")
	case kind == im.NotFound && a.at != nil:
		return fmt.Errorf("registration is not open at %s, or not from here", a.at.URL())
	case name == "user_name":
		return errors.New("a name has 2 to 32 letters, digits, dots, dashes or underscores, and begins with a letter or digit")
	case name == "password" && a.terms.MinPassword > 0:
		return fmt.Errorf("the password was not taken: it has at least %d characters", a.terms.MinPassword)
	case kind == im.Unavailable && a.at != nil:
		return fmt.Errorf("no good answer from %s: %s", a.at.URL(), CleanLine(err.Error()))
	}
	return errors.New(CleanLine(err.Error()))
}

// opener opens the client for a user.
type opener func(user, password string) error

// logIn opens the client for who is named on the command line; who asks for it registers first, and so may somebody whom the server does not know and who
// is there to say so.
func logIn(ctx context.Context, o Options, front Frontend, ask *Asker, open opener) error {
	password, given := o.Password, o.Given
	if o.Register {
		return registerFirst(ctx, ask, o, password, front, open)
	}
	if !given {
		var err error
		if password, err = askPassword(o, ask); err != nil {
			return err
		}
	}
	err := open(o.User, password)
	if err == nil {
		return nil
	}
	failed := openError(o, err)
	switch {
	case !wrongPassword(err):
		return failed
	case ask == nil || given || o.Json:
		if registrationOffered(ctx, o) {
			return fmt.Errorf("%w; somebody new registers with --register", failed)
		}
		return failed
	}
	a, err := newApplicant(ctx, ask, o)
	if err != nil { // then it is as if there were no registration
		return failed
	}
	ask.say("%v.", failed)
	if yes, err := ask.yes(fmt.Sprintf("People may register here. Register %s as somebody new?", CleanLine(o.User))); err != nil || !yes {
		return errors.Join(err, &Error{Code: exitFailed, Err: errors.New("not logged in")})
	}
	return a.registerAndOpen(ctx, "", front, open)
}

// registerFirst registers, and logs in.
func registerFirst(ctx context.Context, ask *Asker, o Options, password string, front Frontend, open opener) error {
	if o.Json {
		ask = nil // a program reads what is written, and answers in JSON
	}
	a, err := newApplicant(ctx, ask, o)
	if err != nil {
		return fmt.Errorf("register %s: %w", CleanLine(o.User), err)
	}
	return a.registerAndOpen(ctx, password, front, open)
}

func (a *applicant) registerAndOpen(ctx context.Context, password string, front Frontend, open opener) error {
	u, id, err := a.register(ctx, password)
	if err != nil {
		return err
	}
	if f, ok := front.(interface{ Registered(name string, id uint32) }); ok {
		f.Registered(u.Name, id)
	} else if a.ask != nil {
		a.ask.say("Registered %s.", u.Name)
	}
	if err := open(u.Name, u.Password); err != nil {
		a.opts.User = u.Name
		return fmt.Errorf("registered, but %w", openError(a.opts, err))
	}
	return nil
}

// wrongPassword reports whether a login failed for name or password.
func wrongPassword(err error) bool {
	var refused *client.LoginError
	return errors.As(err, &refused) && im.KindOf(err) == im.Denied
}

// registrationOffered reports whether somebody may register, as far as the login server says.
func registrationOffered(ctx context.Context, o Options) bool {
	if o.Api != "" || o.MsgServer != "" {
		return o.Api != ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := client.FindRegistrar(ctx, nil, o.Server)
	return err == nil
}

// ErrNoPassword reports a login without a password and without a person to ask for it.
var ErrNoPassword = errors.New("no password: give --password or set " + EnvPassword)

// askPassword asks for the password of somebody who has one.
func askPassword(o Options, ask *Asker) (string, error) {
	if ask == nil {
		return "", ErrNoPassword
	}
	return ask.secret(fmt.Sprintf("Password of %s: ", CleanLine(o.User)))
}
