package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/session"
)

// scenario runs f in a world without clients, whose processes run and are linked.
func scenario(t *testing.T, meshes bool, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, meshes)
		w.clients, w.plain, w.stock, w.net.stock = nil, false, "", ""
		for _, p := range w.order {
			p.start()
		}
		w.every(session.TickInterval, "tick", w.tick)
		w.runUntil(5 * time.Second)
		f(w)
		for _, f := range w.failures {
			t.Errorf("%v: %s: %s", f.at, f.kind, f.text)
		}
		for _, c := range w.clients {
			c.hangUp(time.Hour)
		}
		for _, p := range w.order {
			p.crash(false)
		}
		w.settle()
	})
}

// comes has a client of a user connect to a message server. It does not come back when it
// is kicked.
func (w *world) comes(user uint32, k kind, server string) *client {
	w.add(user, k)
	c := w.clients[len(w.clients)-1]
	c.name += "@" + server
	c.src, c.only = w.source(c.name), server
	w.every(time.Second, c.name, c.tick)
	w.runUntil(w.now() + 3*time.Second)
	c.quit = true
	return c
}

// TestKickAfterALinkWasLost: a login ends the older session of its user on another message
// server, also when that one had no link to the route server at the time, however long.
func TestKickAfterALinkWasLost(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 20 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			scenario(t, false, func(w *world) {
				old := w.comes(1, ours, "msg2")
				other := w.comes(2, ours, "msg2")
				w.net.part("msg2", "route")
				w.runUntil(w.now() + away/2)
				fresh := w.comes(1, ours, "msg1")
				w.runUntil(w.now() + away/2)
				w.net.join("msg2", "route")
				w.runUntil(w.now() + healing)
				if old.online || !fresh.online || !other.online {
					t.Errorf("online: the older client %v, the newer one %v, another user %v; "+
						"want false, true, true", old.online, fresh.online, other.online)
				}
			})
		})
	}
}

// TestKickWithoutRouteServer: the same, when the two message servers do not reach each other, or
// one of them does not reach Redis and counts as gone.
func TestKickWithoutRouteServer(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 20 * time.Second, 10 * time.Minute} {
		for _, redis := range []bool{false, true} {
			scenario(t, true, func(w *world) {
				old := w.comes(1, ours, "msg2")
				other := w.comes(2, ours, "msg2")
				if redis {
					w.cutOff(w.procs["msg2"], away)
				} else {
					w.net.part("msg1", "msg2")
					w.net.part("msg2", "msg1")
				}
				w.runUntil(w.now() + away/2)
				fresh := w.comes(1, ours, "msg1")
				w.runUntil(w.now() + away/2)
				w.net.join("msg1", "msg2")
				w.net.join("msg2", "msg1")
				w.runUntil(w.now() + healing)
				if old.online || !fresh.online || !other.online {
					t.Errorf("%v away, from Redis: %v. Online: the older client %v, the newer one "+
						"%v, another user %v; want false, true, true", away, redis, old.online,
						fresh.online, other.online)
				}
			})
		}
	}
}

// TestKickAfterBothLinksWereLost: the server of the older session is connected again while
// the one of the newer session is not.
func TestKickAfterBothLinksWereLost(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		scenario(t, false, func(w *world) {
			old := w.comes(1, ours, "msg2")
			w.net.part("msg2", "route")
			fresh := w.comes(1, ours, "msg1")
			w.runUntil(w.now() + time.Minute)
			w.net.part("msg1", "route")
			if restarts {
				w.crash(w.procs["route"], false, time.Second)
			}
			w.runUntil(w.now() + 2*time.Second)
			w.net.join("msg2", "route")
			w.runUntil(w.now() + healing)
			w.net.join("msg1", "route")
			w.runUntil(w.now() + healing)
			if old.online || !fresh.online {
				t.Errorf("route server restarts: %v. Online: the older client %v, the newer "+
					"one %v; want false, true", restarts, old.online, fresh.online)
			}
		})
	}
}
