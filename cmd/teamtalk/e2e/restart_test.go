//go:build linux

package e2e

import (
	"net/http"
	"slices"
	"testing"

	"teamtalk/core/client/loginserver"
)

// TestRestarts stops and kills each process in turn and starts it again, while two users
// write to each other without a pause, on different message servers if there are two. The
// clients connect again by themselves. No acked message is missing, none is stored twice,
// and ids and unread counts are right.
func TestRestarts(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2, races: true, flags: []string{"--msg.rate", "0"}},
		func(t *testing.T, sys *deployment) {
			// With one message server, clients ask the login server. With two, each
			// client keeps its own.
			at := [2]where{{login: sys.url()}, {login: sys.url()}}
			if sys.separate {
				at = [2]where{{addr: sys.msgAddr[0]}, {addr: sys.msgAddr[1]}}
			}
			a, b := newTalker(t, "u00001", at[0]), newTalker(t, "u00002", at[1])
			talk(a, b)
			awaitTalk(t, a, b, 2*maxWaiting+5)
			for _, s := range sys.servers {
				for _, end := range []func(*server){(*server).stop, (*server).kill} {
					burst(a, b)
					end(s)
					if sys.separate {
						whileDown(t, sys, s)
					}
					s.start()
					awaitTalk(t, a, b, 2*maxWaiting+5)
				}
			}
			online(t, a, b)
			discovered(t, sys, sys.msgAddr[0], 1)
			hush(t, a, b)
			if a.lost < 2 || b.lost < 2 {
				t.Errorf("the talkers lost %d and %d connections, want 2 or more each", a.lost,
					b.lost)
			}
			// db_proxy draws an id in Redis before it commits the message in MySQL. A
			// kill between the two leaves a gap.
			check(t, a, b, sys.separate)
		})
}

// whileDown checks the other servers while one is down: the message servers report that
// they are not ready, and the login server names no message server that is down.
func whileDown(t *testing.T, sys *deployment, down *server) {
	t.Helper()
	for i, s := range sys.msg {
		if s == down {
			// The login server names only the other one, though it alternates otherwise.
			discovered(t, sys, sys.msgAddr[1-i], 5)
			continue
		}
		if down.name != "msg1" && down.name != "msg2" {
			until(t, s.name+" to report that it is not ready", func() bool {
				return s.probe("/readyz") == http.StatusServiceUnavailable
			})
		}
	}
}

// discovered waits until the login server names an address to a number of clients in a
// row.
func discovered(t *testing.T, sys *deployment, addr string, clients int) {
	t.Helper()
	row := 0
	until(t, "the login server to name "+addr, func() bool {
		addrs, err := loginserver.Discover(bounded(t), http.DefaultClient, sys.url())
		if err != nil || !slices.Contains(addrs, addr) {
			row = 0
			return false
		}
		row++
		return row >= clients
	})
}

// TestKills kills all processes at once, four times, while two users write to each other.
func TestKills(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2, both: true, races: true, flags: []string{"--msg.rate", "0"}},
		func(t *testing.T, sys *deployment) {
			a, b := newTalker(t, "u00001", where{login: sys.url()}),
				newTalker(t, "u00002", where{login: sys.url()})
			talk(a, b)
			for round := range 4 {
				awaitTalk(t, a, b, 5+8*round)
				burst(a, b)
				for _, s := range sys.servers {
					s.kill()
				}
				sys.start()
			}
			hush(t, a, b)
			check(t, a, b, sys.separate)

			// A new connection sees all messages of the two.
			late := conn(t, sys.msgAddr[0], "u00001", android)
			if got, want := len(history(t, late, b.UserID())),
				len(a.texts)+len(b.texts); got != want {
				t.Errorf("a new connection sees %d messages of %d", got, want)
			}
		})
}
