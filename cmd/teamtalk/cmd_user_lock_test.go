package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/cli"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/mono"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/sql/embedded"
)

// lockTest returns a function that runs a command "user" on a new store with the user alice, and
// one that tries a wrong password there, as a server does.
func lockTest(t *testing.T) (run func(...string) result,
	guess func(lockout.Attempt) lockout.Reason) {
	t.Helper()
	dir := t.TempDir()
	s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	run = func(args ...string) result {
		t.Helper()
		return command(t, "", append(append([]string{"user"}, args...), "--data-dir", dir)...)
	}
	run("add", "alice").want(t, cli.ExitOK, "added alice", "")
	guard := lockout.New(lockout.Options{Store: s, Timeout: time.Hour,
		Limits:   open.LoginLimits(&config.Default().DBProxy),
		StoreNow: s.Now, Now: mono.Now, Log: slog.New(slog.DiscardHandler),
		Failed: func() { t.Error("the store failed") }})
	return run, func(a lockout.Attempt) lockout.Reason {
		t.Helper()
		r, err := guard.Begin(t.Context(), []lockout.Attempt{a})
		if err != nil {
			t.Fatal(err)
		}
		if reason := r.Locked(0); reason != lockout.Open {
			return reason
		}
		r.Failed(0)
		r.End(t.Context())
		return lockout.Open
	}
}

// TestUserUnlock locks a name and a network, as a server does, and unlocks them.
func TestUserUnlock(t *testing.T) {
	run, guess := lockTest(t)
	alice := lockout.Attempt{Name: "ALICE ", User: 1, Addr: netip.MustParseAddr("203.0.113.7")}
	for i := range 10 {
		alice.Password = fmt.Sprint(i)
		guess(alice)
	}
	if r := guess(alice); r != lockout.Name {
		t.Errorf("after 10 wrong passwords: %q", r)
	}
	r := run("show", "alice")
	r.want(t, cli.ExitOK, "NETWORK         WRONG PASSWORDS  LOCKED UNTIL", "")
	if !strings.Contains(r.out, "\n203.0.113.0/24  10               20") {
		t.Errorf("no lock in %s", r.out)
	}
	run("unlock", "--network", "203.0.113.9").want(t, cli.ExitOK,
		"the wrong passwords from 203.0.113.0/24 are forgotten", "")
	if r := guess(alice); r == lockout.Open {
		t.Error("unlock --network unlocked a name")
	}
	run("unlock", "alice").want(t, cli.ExitOK, "alice is unlocked\n", "")
	if r := guess(alice); r != lockout.Open {
		t.Errorf("unlocked: %q", r)
	}
	other := alice
	for i := range 100 {
		other.Name = fmt.Sprint("nobody ", i)
		guess(other)
	}
	if r := guess(alice); r != lockout.Network {
		t.Errorf("after 100 names: %q", r)
	}
	const stays = "\nThese networks are locked for names that have not logged in from there, " +
		"and so for alice:\n\nLOCKED NETWORK  WRONG PASSWORDS  LOCKED UNTIL\n" +
		"203.0.113.0/24  100              20"
	const how = "\nTo unlock one: teamtalk user unlock --network ADDRESS\n"
	for _, do := range []string{"show", "unlock", "show"} {
		r := run(do, "alice")
		r.want(t, cli.ExitOK, stays, "")
		if !strings.HasSuffix(r.out, how) {
			t.Errorf("%s: %s", do, r.out)
		}
	}
	run("unlock", "--network", "203.0.113.9").want(t, cli.ExitOK,
		"the wrong passwords from 203.0.113.0/24 are forgotten", "")
	if r := guess(alice); r != lockout.Open {
		t.Errorf("unlocked network: %q", r)
	}
	if r := run("show", "alice"); strings.Contains(r.out, "These networks") {
		t.Errorf("unlocked network in %s", r.out)
	}
}

// TestUserUnlockMistakes gives wrong arguments.
func TestUserUnlockMistakes(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) result {
		t.Helper()
		return command(t, "", append(append([]string{"user"}, args...), "--data-dir", dir)...)
	}
	run("add", "alice").want(t, cli.ExitOK, "added alice", "")
	run("unlock").want(t, cli.ExitUsage, "", "want one of NAME and --network")
	run("unlock", "a", "b").want(t, cli.ExitUsage, "", "want one of NAME and --network")
	run("unlock", "alice", "--network", "::1").want(t, cli.ExitUsage, "", "want one of")
	run("unlock", "--network", "office").want(t, cli.ExitUsage, "", `"office" is no address`)
	run("unlock", "carol").want(t, cli.ExitOK, "carol is unlocked; no user has this name\n", "")
	run("show", "carol").want(t, cli.ExitFailure, "", `no user has the name "carol"`)
}
