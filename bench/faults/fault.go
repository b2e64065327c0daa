package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"teamtalk/bench/faults/deploy"
)

// injection is what an action works on.
type injection struct {
	*deploy.System
	random *rand.Rand // of all numbers of the action
	// serve is called with true when other servers have taken the place of one that does not
	// run yet: from then on clients should get acks. Later calls say that they stall, and serve
	// again.
	serve func(bool)
}

// action injects a fault into a deployment and ends it. It returns when the processes run
// and the connections pass again; the servers need not be ready. An error says that a
// process did not do what an operator expects.
type action func(ctx context.Context, in *injection, target string) error

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
	{"clock", false, true, stepClock},
	{"skew", false, true, skewClock},
}

// Faults of all roles, without a target.
const (
	killAll = "kill-all" // SIGKILL of all servers at once
	rolling = "rolling"  // SIGTERM and a restart of one server after the other
	// failover is SIGKILL of a Redis master, and a new start after a replica has taken its place.
	failover = "failover"
	dying    = "dying"   // a database that crashes several times in a row, and is slow between
	full     = "full"    // leaves no room on the disk of the store
	reshard  = "reshard" // moves slots of a Redis Cluster, one of them with a pause half-way
)

// fault is a fault that can be injected.
type fault struct {
	name string
	do   func(ctx context.Context, in *injection) error
}

// faultsOf returns all faults of a deployment.
func faultsOf(s *deploy.System) (list []fault) {
	for _, a := range actions {
		for _, kind := range kindsOf(s, a.link) {
			if a.servers && slices.Contains(deploy.Databases, kind) {
				continue
			}
			list = append(list, fault{a.name + ":" + kind,
				func(ctx context.Context, in *injection) error { return a.do(ctx, in, kind) }})
		}
	}
	list = append(list, fault{killAll, killEach}, fault{rolling, roll})
	if kind := "mariadb"; slices.Contains(kindsOf(s, false), kind) {
		list = append(list, fault{dying + ":" + kind,
			func(ctx context.Context, in *injection) error { return die(ctx, in, kind) }})
	}
	if kind := s.OnDisk(); kind != "" {
		list = append(list, fault{full + ":" + kind, fill})
	}
	switch deploy.RedisOf(s) {
	case deploy.RedisSentinels:
		list = append(list, fault{failover, failRedis})
	case deploy.RedisCluster:
		list = append(list, fault{failover, failRedis}, fault{reshard, moveSlots})
	}
	if s.Kind() == deploy.Replica {
		list = append(list, fault{"lag:replica", lag})
	}
	return list
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
func (in *injection) between(least, most time.Duration) time.Duration {
	return least + time.Duration(in.random.Int64N(int64(most-least)+1))
}

// pause waits.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// pick returns one of the roles of a kind.
func (in *injection) pick(kind string) *deploy.Role {
	list := in.OfKind(kind)
	return list[in.random.IntN(len(list))]
}

// kill ends a process with SIGKILL and starts it again after a moment.
func kill(ctx context.Context, in *injection, kind string) error {
	return in.killFor(ctx, in.pick(kind), in.between(0, 300*time.Millisecond))
}

// killFor ends a process with SIGKILL and starts it again after a time. The other nodes of a
// cluster of databases serve before that, see injection.
func (in *injection) killFor(ctx context.Context, role *deploy.Role, away time.Duration) error {
	role.Kill()
	others := make(chan error, 1)
	go func() {
		limit, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		others <- in.WatchOthers(limit, role, in.serve)
	}()
	pause(ctx, away)
	return errors.Join(role.Start(), <-others)
}

// down ends a process with SIGKILL and starts it again when others have taken its place,
// such as the replica of a master.
func down(ctx context.Context, in *injection, kind string) error {
	return in.killFor(ctx, in.pick(kind), in.between(5*time.Second, 10*time.Second))
}

// die ends a database with SIGKILL several times in a row. In between it runs for a moment,
// with connections that delay all bytes, so that servers notice that it is back and lose it
// again.
func die(ctx context.Context, in *injection, kind string) error {
	role := in.pick(kind)
	delay := in.between(20*time.Millisecond, 200*time.Millisecond)
	for _, l := range in.LinksTo(kind) {
		l.Slow(delay)
	}
	defer func() {
		for _, l := range in.LinksTo(kind) {
			l.Slow(0)
		}
	}()
	for range 2 + in.random.IntN(3) {
		role.Kill()
		pause(ctx, in.between(0, 300*time.Millisecond))
		if err := role.Start(); err != nil {
			return err
		}
		pause(ctx, in.between(300*time.Millisecond, 3*time.Second))
	}
	return nil
}

// killEach kills all servers at once, and starts them again. The databases run on.
func killEach(ctx context.Context, in *injection) error {
	away := in.between(0, 300*time.Millisecond)
	list := servers(in.System)
	in.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
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
func stop(ctx context.Context, in *injection, kind string) error {
	role, frozen := in.pick(kind), in.between(100*time.Millisecond, 3*time.Second)
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
func terminate(ctx context.Context, in *injection, kind string) error {
	return restart(ctx, in.pick(kind))
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
func roll(ctx context.Context, in *injection) error {
	list := servers(in.System)
	in.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, role := range list {
		if err := restart(ctx, role); err != nil {
			return err
		}
		ready, cancel := context.WithTimeout(ctx, stopTimeout)
		err := in.AwaitReady(ready)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// cut resets all connections to a role.
func cut(_ context.Context, in *injection, kind string) error {
	for _, l := range in.LinksTo(kind) {
		l.Cut()
	}
	return nil
}

// slow delays all bytes to and from a role for a moment.
func slow(ctx context.Context, in *injection, kind string) error {
	delay := in.between(20*time.Millisecond, 300*time.Millisecond)
	time := in.between(time.Second, 3*time.Second)
	for _, l := range in.LinksTo(kind) {
		l.Slow(delay)
	}
	pause(ctx, time)
	for _, l := range in.LinksTo(kind) {
		l.Slow(0)
	}
	return nil
}

// hang holds back all bytes to and from a role, and then resets the connections.
func hang(ctx context.Context, in *injection, kind string) error {
	time := in.between(200*time.Millisecond, 4*time.Second)
	for _, l := range in.LinksTo(kind) {
		l.Hang()
	}
	pause(ctx, time)
	for _, l := range in.LinksTo(kind) {
		l.Resume()
	}
	return nil
}

// failRedis kills a master of Redis, and starts it again after a replica has taken its place
// and up to a second more.
func failRedis(ctx context.Context, in *injection) error {
	more := in.between(0, time.Second)
	limit, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	old, err := in.FailRedis(limit, in.random.IntN)
	if err == nil {
		in.serve(true)
		pause(ctx, more)
	}
	if old == nil {
		return err
	}
	if started := old.Start(); err == nil {
		err = started
	}
	return err
}

// moveSlots moves slots of a Redis Cluster. One of them stays open for up to two seconds.
func moveSlots(ctx context.Context, in *injection) error {
	open := in.between(200*time.Millisecond, 2*time.Second)
	return in.Reshard(ctx, in.random.IntN, open)
}

// lag stops the replica from applying changes for up to six seconds.
func lag(ctx context.Context, in *injection) error {
	return in.Lag(ctx, in.between(time.Second, 6*time.Second))
}

// steps are the steps of a wall clock: of NTP, and of a machine that was suspended.
var steps = []time.Duration{200 * time.Second, 900 * time.Second, -2 * time.Hour}

// stepClock steps the wall clock of a server, and back.
func stepClock(ctx context.Context, in *injection, kind string) error {
	step := steps[in.random.IntN(len(steps))]
	return in.step(ctx, kind, step, in.between(200*time.Millisecond, 2*time.Second))
}

// skewClock lets the wall clock of a server be 5 s behind those of the others for some
// seconds.
func skewClock(ctx context.Context, in *injection, kind string) error {
	const behind = -5 * time.Second
	return in.step(ctx, kind, behind, in.between(2*time.Second, 6*time.Second))
}

// step steps the wall clock of a server for a time.
func (in *injection) step(ctx context.Context, kind string, step, d time.Duration) error {
	role := in.pick(kind)
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := role.StepClock(ctx, step); err != nil {
		return err
	}
	pause(ctx, d)
	return role.StepClock(ctx, 0)
}

// fill leaves no room on the disk of the store for some seconds.
func fill(ctx context.Context, in *injection) error {
	return in.Fill(ctx, in.between(time.Second, 5*time.Second))
}

// NeedsDisk reports whether faults with these names need a small disk, and so a process in
// deploy.RunWithDisks.
func NeedsDisk(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return name == full || strings.HasPrefix(name, full+":")
	})
}
