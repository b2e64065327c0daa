package faults

import (
	"context"
	"fmt"
	"slices"
	"time"

	"teamtalk/bench/faults/deploy"
	"teamtalk/bench/faults/services"
)

// addServices starts the clients of the services.
func (r *run) addServices(ctx context.Context) (err error) {
	r.services, err = services.Open(ctx, services.World{
		Server: r.serverOf, API: r.sys.API, AppKey: deploy.AppKey, Uploads: r.sys.Uploads,
		Pushes: r.sys.Pushes.Times, User: deploy.User, First: r.Teams*teamSize + 2,
		Password: deploy.Password, Dir: r.Dir, Options: clientOptions(), Log: r.Log,
		Patience: r.Settle,
		Messages: r.textsBetween, Members: r.tables.Members})
	return err
}

// serverOf returns the address of a message server for a user, and the URL of the login server
// that names it, if clients ask one.
func (r *run) serverOf(user int) (addr, login string) {
	return r.sys.Clients[user%len(r.sys.Clients)], r.loginOf(user)
}

// loginOf returns the URL of the login server for a user; empty: clients ask none.
func (r *run) loginOf(user int) string {
	if len(r.sys.Logins) == 0 {
		return ""
	}
	return r.sys.Logins[user%len(r.sys.Logins)]
}

// textsBetween returns the texts of two users of a service in the tables, which are no
// texts of the ledger.
func (r *run) textsBetween(ctx context.Context, a, b uint32) ([]services.Text, error) {
	rows, err := r.tables.Messages(ctx)
	if err != nil {
		return nil, err
	}
	var list []services.Text
	for _, m := range rows[pair(a, b)] {
		text, err := r.cipher.Decrypt(m.Content)
		if err != nil {
			text = fmt.Sprintf("%q", m.Content)
		}
		list = append(list, services.Text{ID: m.ID, Text: text})
	}
	return list, nil
}

// served waits until each service has a new success. It reports those that have none.
func (r *run) served(ctx context.Context, l *Ledger) bool {
	before := r.services.Successes()
	var idle []string
	met := r.until(ctx, pollPause, func() bool {
		idle = nil
		for name, n := range r.services.Successes() {
			if n <= before[name] {
				idle = append(idle, name)
			}
		}
		return len(idle) == 0
	})
	if !met {
		slices.Sort(idle)
		l.Report(fmt.Sprintf("nothing of %v succeeded for %v after all servers were ready", idle,
			r.Settle))
	}
	return met
}

// checkServices returns the results of the services of a row.
func (r *run) checkServices(ctx context.Context) ([]services.Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	return r.services.Check(ctx)
}

// ready records that all servers are ready again.
func (r *run) ready(l *Ledger) {
	now := time.Now()
	l.Ready(now)
	r.services.Ready(now)
}

// serve records whether others serve in the place of a server that does not run.
func (r *run) serve(l *Ledger, serve bool) {
	now := time.Now()
	if l.Serve(serve, now); serve {
		r.services.Ready(now)
	} else {
		r.services.Fault()
	}
}
