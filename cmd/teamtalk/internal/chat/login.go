package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
)

// login opens the client of a user, after a registration where the options or the user
// ask for one.
type login struct {
	opts     Options
	observer Observer
	ask      Prompter                          // nil: there is no user to ask
	open     func(user, password string) error // opens the client
}

// run logs in the user of the options. When the server does not know the name or the
// password, and users may register, it offers the registration to the user.
func (l *login) run(ctx context.Context) error {
	o := l.opts
	if o.Register {
		return l.registerFirst(ctx)
	}
	password := o.Password
	if !o.Given {
		var err error
		if password, err = l.askPassword(); err != nil {
			return err
		}
	}
	err := l.open(o.User, password)
	if err == nil {
		return nil
	}
	failed := openError(o, err)
	switch {
	case !wrongPassword(err):
		return failed
	case l.ask == nil || o.Given || o.Unattended:
		if registrationOffered(ctx, o) {
			return fmt.Errorf("%w; somebody new registers with --register", failed)
		}
		return failed
	}
	return l.offerRegistration(ctx, failed)
}

// offerRegistration asks whether to register the user, after a login that failed.
func (l *login) offerRegistration(ctx context.Context, failed error) error {
	a, err := newApplicant(ctx, l.ask, l.opts)
	if err != nil { // without a registration there is nothing to offer
		return failed
	}
	l.ask.Say(fmt.Sprintf("%v.", failed))
	question := fmt.Sprintf("New users may register here. Register %s as somebody new?",
		CleanLine(l.opts.User))
	if yes, err := yes(l.ask, question); err != nil || !yes {
		return errors.Join(err, &Error{Code: exitFailed, Err: errors.New("not logged in")})
	}
	return l.registerAndOpen(ctx, a, "")
}

// registerFirst registers the user of the options, and logs in.
func (l *login) registerFirst(ctx context.Context) error {
	ask := l.ask
	if l.opts.Unattended {
		ask = nil
	}
	a, err := newApplicant(ctx, ask, l.opts)
	if err != nil {
		return fmt.Errorf("register %s: %w", CleanLine(l.opts.User), err)
	}
	return l.registerAndOpen(ctx, a, l.opts.Password)
}

// registerAndOpen registers a user and logs it in.
func (l *login) registerAndOpen(ctx context.Context, a *applicant, password string) error {
	u, id, err := a.register(ctx, password)
	if err != nil {
		return err
	}
	l.observer.Registered(u.Name, id)
	if err := l.open(u.Name, u.Password); err != nil {
		o := l.opts
		o.User = u.Name
		return fmt.Errorf("registered, but %w", openError(o, err))
	}
	return nil
}

// wrongPassword reports whether the server refused a login for the name or the password.
func wrongPassword(err error) bool {
	var refused *tcp.LoginError
	return errors.As(err, &refused) && im.KindOf(err) == im.Denied
}

// registrationOffered reports whether the login server names a place to register.
func registrationOffered(ctx context.Context, o Options) bool {
	if o.API != "" || o.MsgServer != "" {
		return o.API != ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := loginserver.FindRegistrar(ctx, o.http(), o.Server)
	return err == nil
}

// ErrNoPassword reports a login without a password and without a user to ask for it.
var ErrNoPassword = errors.New("no password: give --password or set " + EnvPassword)

// askPassword asks for the password of the user.
func (l *login) askPassword() (string, error) {
	if l.ask == nil {
		return "", ErrNoPassword
	}
	return l.ask.Secret(fmt.Sprintf("Password of %s: ", CleanLine(l.opts.User)))
}
