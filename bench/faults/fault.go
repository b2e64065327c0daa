package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"teamtalk/bench/faults/deploy"
)

// action injects a fault into a deployment and ends it. It returns when the processes run
// and the connections pass again; the servers need not be ready. An error says that a
// process did not do what an operator expects. It draws all its numbers from r.
type action func(ctx context.Context, s *deploy.System, target string, r *rand.Rand) error

// actions are the kinds of faults, in the order of a run.
var actions = []struct {
	name string
	// link says that the target is the connections to a role, not the role.
	link bool
	// servers says that databases are no targets.
	servers bool
	do      action
}{
	{"kill", false, false, kill},
	{"down", false, false, down},
	{"stop", false, false, stop},
	{"term", false, true, terminate},
	{"cut", true, false, cut},
	{"slow", true, false, slow},
	{"hang", true, false, hang},
}

// Faults of all roles, without a target.
const (
	killAll = "kill-all" // SIGKILL of all servers at once
	rolling = "rolling"  // SIGTERM and a restart of one server after the other
)

// fault is a fault that can be injected.
type fault struct {
	name string
	do   func(ctx context.Context, s *deploy.System, r *rand.Rand) error
}

// faultsOf returns all faults of a deployment.
func faultsOf(s *deploy.System) (list []fault) {
	for _, a := range actions {
		for _, kind := range kindsOf(s, a.link) {
			if a.servers && slices.Contains(deploy.Databases, kind) {
				continue
			}
			list = append(list, fault{a.name + ":" + kind,
				func(ctx context.Context, s *deploy.System, r *rand.Rand) error {
					return a.do(ctx, s, kind, r)
				}})
		}
	}
	return append(list, fault{killAll, killEach}, fault{rolling, roll})
}

// kindsOf returns the kinds of roles, or of the roles that links lead to.
func kindsOf(s *deploy.System, links bool) (kinds []string) {
	add := func(kind string) {
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if links {
		for _, l := range s.Links {
			add(l.Kind)
		}
		return kinds
	}
	for _, r := range s.Roles {
		add(r.Kind)
	}
	return kinds
}

// choose returns the faults with the given names, in that order; all when none are given.
// The name of an action without a target, such as "kill", stands for all its targets.
func choose(s *deploy.System, names []string) ([]fault, error) {
	all := faultsOf(s)
	if len(names) == 0 {
		return all, nil
	}
	var list []fault
	for _, name := range names {
		found := false
		for _, f := range all {
			if f.name == name || strings.HasPrefix(f.name, name+":") {
				list, found = append(list, f), true
			}
		}
		if !found {
			var known []string
			for _, f := range all {
				known = append(known, f.name)
			}
			return nil, fmt.Errorf("fault %q: want some of %s", name, strings.Join(known, ", "))
		}
	}
	return list, nil
}

// between returns a random time from least to most.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

// pause waits.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// pick returns one of the roles of a kind.
func pick(s *deploy.System, kind string, r *rand.Rand) *deploy.Role {
	list := s.OfKind(kind)
	return list[r.IntN(len(list))]
}

// kill ends a process with SIGKILL and starts it again after a moment.
func kill(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	role, away := pick(s, kind, r), between(r, 0, 300*time.Millisecond)
	role.Kill()
	pause(ctx, away)
	return role.Start()
}

// down ends a process with SIGKILL and starts it again when others have taken its place,
// such as the replica of a master.
func down(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	role, away := pick(s, kind, r), between(r, 5*time.Second, 10*time.Second)
	role.Kill()
	pause(ctx, away)
	return role.Start()
}

// killEach kills all servers at once, and starts them again. The databases run on.
func killEach(ctx context.Context, s *deploy.System, r *rand.Rand) error {
	away := between(r, 0, 300*time.Millisecond)
	list := servers(s)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, role := range list {
		role.Kill()
	}
	pause(ctx, away)
	for _, role := range list {
		if err := role.Start(); err != nil {
			return err
		}
	}
	return nil
}

// servers returns the roles that are not databases.
func servers(s *deploy.System) []*deploy.Role {
	return slices.DeleteFunc(slices.Clone(s.Roles), func(r *deploy.Role) bool {
		return slices.Contains(deploy.Databases, r.Kind)
	})
}

// stop stops a process with SIGSTOP for up to three seconds.
func stop(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	role, frozen := pick(s, kind, r), between(r, 100*time.Millisecond, 3*time.Second)
	if err := role.Stop(); err != nil {
		return err
	}
	pause(ctx, frozen)
	return role.Continue()
}

// stopTimeout bounds the end of a process after SIGTERM: it is the servers' own limit for
// their drain, and some time for a loaded machine.
const stopTimeout = time.Minute

// terminate ends a process with SIGTERM and starts it again.
func terminate(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	return restart(ctx, pick(s, kind, r))
}

// restart restarts a role with SIGTERM.
func restart(ctx context.Context, role *deploy.Role) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := role.Terminate(ctx)
	if started := role.Start(); err == nil {
		err = started
	}
	return err
}

// roll restarts one server after the other, as an operator does for a new version: each
// one when the ones before it are ready.
func roll(ctx context.Context, s *deploy.System, r *rand.Rand) error {
	list := servers(s)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, role := range list {
		if err := restart(ctx, role); err != nil {
			return err
		}
		ready, cancel := context.WithTimeout(ctx, stopTimeout)
		err := s.AwaitReady(ready)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// cut resets all connections to a role.
func cut(_ context.Context, s *deploy.System, kind string, _ *rand.Rand) error {
	for _, l := range s.LinksTo(kind) {
		l.Cut()
	}
	return nil
}

// slow delays all bytes to and from a role for a moment.
func slow(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	delay := between(r, 20*time.Millisecond, 300*time.Millisecond)
	time := between(r, time.Second, 3*time.Second)
	for _, l := range s.LinksTo(kind) {
		l.Slow(delay)
	}
	pause(ctx, time)
	for _, l := range s.LinksTo(kind) {
		l.Slow(0)
	}
	return nil
}

// hang holds back all bytes to and from a role, and then resets the connections.
func hang(ctx context.Context, s *deploy.System, kind string, r *rand.Rand) error {
	time := between(r, 200*time.Millisecond, 4*time.Second)
	for _, l := range s.LinksTo(kind) {
		l.Hang()
	}
	pause(ctx, time)
	for _, l := range s.LinksTo(kind) {
		l.Resume()
	}
	return nil
}
