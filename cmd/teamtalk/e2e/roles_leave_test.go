//go:build linux

package e2e

import (
	"testing"
)

// TestRolesLeave stops each role in turn with SIGTERM, dbproxy also with SIGKILL, and
// starts it again, while clients that send no text again write 100 texts a second, and a
// system calls the HTTP API. Every text is acked, stored once, in the order of its sender,
// and delivered. Message servers leave last, see leave.
func TestRolesLeave(t *testing.T) {
	t.Parallel()
	sys := deploySeparate(t, settings{users: callerUsers, files: true, twice: true, races: true,
		flags: []string{"--msg.rate", "0", "--msg.hold", "60s"}})
	api := newCaller(t, sys)
	all := newSteadies(t, sys)
	for _, s := range all {
		s.talk()
	}
	more(t, all)
	restart := func(s *server, how string, end func(*server)) {
		t.Helper()
		before := lost(all)
		end(s)
		s.start()
		more(t, all)
		api.more()
		if n := lost(all) - before; n > 0 {
			t.Errorf("%s of %s: %d texts are not acked", how, s.name, n)
		}
	}
	for _, s := range sys.servers {
		if s != sys.msg[0] && s != sys.msg[1] {
			restart(s, "SIGTERM", (*server).stop)
		}
	}
	restart(sys.dbproxy, "SIGKILL", (*server).kill)
	if t.Failed() {
		return
	}
	for _, s := range all {
		s.settle()
		if n := s.unacked(); len(n) > 0 || s.attempts > 0 {
			t.Errorf("%s: of %d texts %v are not acked, %d attempts to log in again", s.name,
				s.sent, n, s.attempts)
		}
	}
	for i, s := range all {
		s.heardAll(all[i^1], 0)
	}
	for _, s := range all {
		s.resume()
	}
	leave(t, sys, all, sys.msg[:])
	api.stored(sys.msgAddr[0])
}

// TestAllInOneLeaves stops a process of all roles as TestRolesLeave stops message servers.
// Its clients reach no server until it has started again.
func TestAllInOneLeaves(t *testing.T) {
	t.Parallel()
	sys := deployAllInOne(t, settings{users: steadyWriters, flags: []string{"--msg.rate", "0"}})
	all := newSteadies(t, sys)
	for _, s := range all {
		s.talk()
	}
	leave(t, sys, all, sys.msg[:1])
}

// leave stops message servers in turn with SIGTERM, and starts them again, while clients
// write. The clients connect to the message server that a login server names. Every text
// that the kernel had before the signal is acked. No text without an ack is stored: a text
// that a client sends before it sees the end of its connection may have none.
func leave(t *testing.T, sys *deployment, all []*steady, servers []*server) {
	t.Helper()
	more(t, all)
	for _, m := range servers {
		flying := make([][]int, len(all))
		for i, s := range all {
			flying[i] = s.flying()
		}
		m.stop()
		m.start()
		for _, s := range all {
			until(t, s.name+" to be connected", s.connected)
		}
		more(t, all)
		for i, s := range all {
			for _, n := range flying[i] {
				if s.id(n) == 0 {
					t.Errorf("%s: %q was sent before the signal and is not acked", m.name,
						s.text(n))
				}
			}
		}
	}
	for _, s := range all {
		s.settle()
		s.hangUp()
		t.Logf("%s: %d texts, without an ack: %v, sent to a closed connection: %d; "+
			"%d attempts to log in again", s.name, s.sent, s.unacked(), s.late, s.attempts)
	}
	for _, s := range all {
		s.stored(sys.msgAddr[0])
	}
}

// more waits until every writer has more acks.
func more(t testing.TB, all []*steady) {
	t.Helper()
	n := make([]int, len(all))
	for i, s := range all {
		n[i] = s.count() + 5
	}
	for i, s := range all {
		until(t, "all writers to have more acks", func() bool { return s.count() >= n[i] })
	}
}

// lost returns the number of texts of all writers that are not acked although later ones
// are.
func lost(all []*steady) (n int) {
	for _, s := range all {
		n += s.lost()
	}
	return n
}
