//go:build linux

package e2e

import (
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/persona"
)

// TestPersonaNight runs the outages of the day on passwords that cost a derivation each: a
// db_proxy that starts again remembers none, and all clients log in at once.
func TestPersonaNight(t *testing.T) {
	t.Parallel()
	kdf := []string{"--password.kdf", "argon2id"}
	s := settings{users: 2 * len(persona.All()), pages: true, files: true, small: true,
		adds: kdf, flags: append(kdf, "--msg.ack-wait", longWait.String(), "--msg.redeliver-after",
			redeliverAfter.String(), "--msg.rate", "0")}
	d := newDay(t, deploySeparate(t, s))
	d.live([]part{{"group", (*day).groupTexts}, {"outages", func(d *day) {
		d.fastOutages()
		d.outage(d.sys.dbproxy)
		d.outage(d.sys.msg[0])
	}}, {"relogin", (*day).relogin}})
	d.moderate()
	if n := d.sys.dbproxy.metric("teamtalk_dbproxy_password_derivations_total",
		`result="right"`); n < 1 {
		t.Error("no password was derived")
	}
}

// part is a part of a day.
type part struct {
	name string
	run  func(d *day)
}

// live runs parts of a day.
func (d *day) live(parts []part) {
	d.t.Helper()
	for _, p := range parts {
		began := time.Now()
		p.run(d)
		d.t.Logf("%s: %.1f s", p.name, time.Since(began).Seconds())
		if d.t.Failed() {
			d.t.Logf("failed in %q", p.name)
		}
	}
}
