//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/persona"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// The pace of personas in tests: an hour of idling takes minutes, and a message is
// repeated after 1.5 s instead of 6.
const (
	personaIdle   = 0.15
	personaResend = 0.25
)

// startPersona starts a client of a deployment. Without an address in o the client
// connects to the message server that login_server names.
func startPersona(t testing.TB, sys *deployment, row persona.Persona,
	o persona.Options) *persona.Client {
	t.Helper()
	if o.Password == "" {
		o.Password = "pw"
	}
	o.Server, o.Idle, o.Resend = sys.url(), personaIdle, personaResend
	o.WebSocket = sys.pageOf(o.Addr)
	c := persona.Start(row, o)
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("%s: %+v", c.Name(), c.Stats())
		}
	})
	return c
}

// logIn waits until clients are online. The user of a client that has stopped logs in
// again.
func logIn(t testing.TB, clients ...*persona.Client) {
	t.Helper()
	tapped := map[*persona.Client]time.Time{}
	var waiting []string
	online := eventually(func() bool {
		waiting = nil
		for _, c := range clients {
			s := c.State()
			if s == persona.Online {
				continue
			}
			waiting = append(waiting, fmt.Sprintf("%s: state %d, %+v, %v, faults %q", c.Name(), s,
				c.Stats(), c.Refusal(), c.Faults()))
			if s == persona.Stopped && time.Since(tapped[c]) > time.Second {
				tapped[c] = time.Now()
				c.LogIn()
			}
		}
		return len(waiting) == 0
	})
	if !online {
		t.Fatalf("not online after %v:\n%s", patience, strings.Join(waiting, "\n"))
	}
}

// day is a deployment with every persona on both sides.
type day struct {
	t      *testing.T
	sys    *deployment
	cipher *im.TextCipher
	left   []*persona.Client // one of each, on the first message server
	right  []*persona.Client // one of each, on the second
	second []*persona.Client // another device of each user on the left, on the second
	group  persona.Peer
	texts  int
	from   map[*persona.Client]int // messages before this one are checked

	reported map[string]bool // messages shown twice
}

// secondDevices are the personas of the left users' other devices, of the other device
// class.
var secondDevices = map[string]persona.Persona{
	"windows": persona.IOS(), "mac": persona.Android(), "ios": persona.Windows(),
	"android": persona.Mac(), "web": persona.Android(), "node": persona.IOS(),
	"dart": persona.Android(),
}

// newDay starts and logs in all clients.
func newDay(t *testing.T, sys *deployment) *day {
	t.Helper()
	cipher, err := im.NewTextCipher("")
	if err != nil {
		t.Fatal(err)
	}
	d := &day{t: t, sys: sys, cipher: cipher, from: map[*persona.Client]int{},
		reported: map[string]bool{}}
	all := persona.All()
	for i, row := range all {
		user := fmt.Sprintf("u%05d", 1+i)
		peer := fmt.Sprintf("u%05d", 1+len(all)+i)
		at := func(server int, user string) persona.Options {
			return persona.Options{User: user, Addr: sys.msgAddr[server]}
		}
		d.left = append(d.left, startPersona(t, sys, row, at(0, user)))
		d.right = append(d.right, startPersona(t, sys, row, at(1, peer)))
		d.second = append(d.second, startPersona(t, sys, secondDevices[row.Name], at(1, user)))
	}
	logIn(t, d.all()...)
	return d
}

// all returns all clients.
func (d *day) all() []*persona.Client { return slices.Concat(d.left, d.right, d.second) }

// sendText sends the next text from a client.
func (d *day) sendText(from *persona.Client, to persona.Peer) {
	d.texts++
	from.Text(to, d.cipher.Encrypt(fmt.Sprintf("%d from %s", d.texts, from.Name())))
}

// user is the conversation with the user of a client.
func user(c *persona.Client) persona.Peer { return persona.Peer{ID: c.Self()} }

// awaitAcks waits until every message sent so far has its ack.
func (d *day) awaitAcks(clients ...*persona.Client) {
	d.t.Helper()
	var missing []string
	if eventually(func() bool {
		missing = nil
		for _, c := range clients {
			for i, s := range c.Sends() {
				if s.ID == 0 && i >= d.from[c] {
					missing = append(missing, fmt.Sprintf("%s to %v", c.Name(), s.To))
				}
			}
		}
		return len(missing) == 0
	}) {
		return
	}
	d.t.Fatalf("%d messages without an ack after %v: %q", len(missing), patience, missing)
}

// shows reports whether client c must show s, a message that client from sent. It returns
// the conversation in which c shows it. Every client belongs to a member of the group.
func (d *day) shows(c, from *persona.Client, s persona.Sent) (persona.Peer, bool) {
	switch {
	case s.To.Group:
		return s.To, true
	case c.Self() == from.Self():
		return s.To, true
	case c.Self() == s.To.ID:
		return user(from), true
	}
	return persona.Peer{}, false
}

// missing lists acked messages since the last check that a client does not show. With
// pushed, a message counts only when it was delivered.
func (d *day) missing(pushed bool) (missing []string) {
	for _, c := range d.all() {
		shown := map[persona.Peer][]persona.Shown{}
		for _, from := range d.all() {
			for i, s := range from.Sends() {
				p, ok := d.shows(c, from, s)
				if !ok || i < d.from[from] || s.ID == 0 {
					continue
				}
				if shown[p] == nil {
					shown[p] = c.Shown(p)
				}
				if !slices.ContainsFunc(shown[p], func(m persona.Shown) bool {
					return m.ID == s.ID && m.Data == s.Data && (m.Pushed || !pushed || c == from)
				}) {
					missing = append(missing, fmt.Sprintf("%s lacks %d of %s to %v", c.Name(), s.ID,
						from.Name(), s.To))
				}
			}
		}
	}
	return missing
}

// awaitShown waits until all clients show every acked message since the last check.
func (d *day) awaitShown(what string, pushed bool) {
	d.t.Helper()
	var missing []string
	if !eventually(func() bool { missing = d.missing(pushed); return len(missing) == 0 }) {
		d.t.Errorf("%s: %d messages not shown: %q", what, len(missing),
			missing[:min(5, len(missing))])
	}
	d.checkOnce(what)
}

// checkOnce checks that no screen has a message twice, and that each sender's messages to
// a conversation have ids in the order of sending. A message is reported once.
func (d *day) checkOnce(what string) {
	d.t.Helper()
	for _, c := range d.all() {
		if twice := d.twice(c); len(twice) > 0 {
			d.t.Errorf("%s: %s shows %d messages twice: %q", what, c.Name(), len(twice),
				twice[:min(3, len(twice))])
		}
		last := map[persona.Peer]uint32{}
		for _, s := range c.Sends() {
			if s.ID != 0 && s.ID <= last[s.To] {
				d.t.Errorf("%s: %s sent %d to %v after %d", what, c.Name(), s.ID, s.To, last[s.To])
			}
			last[s.To] = max(last[s.To], s.ID)
		}
	}
}

// twice lists the messages that a client shows twice, without those of an earlier call.
func (d *day) twice(c *persona.Client) (twice []string) {
	peers := map[persona.Peer]bool{d.group: true}
	for _, o := range d.all() {
		peers[user(o)] = true
	}
	for p := range peers {
		seen := map[string]int{}
		for _, m := range c.Shown(p) {
			name := fmt.Sprintf("%s: %d of %v", c.Name(), m.ID, p)
			if seen[m.Data]++; seen[m.Data] == 2 && !d.reported[name] {
				d.reported[name] = true
				twice = append(twice, name)
			}
		}
	}
	return twice
}

// checked excludes the messages sent so far from later checks.
func (d *day) checked() {
	for _, c := range d.all() {
		d.from[c] = len(c.Sends())
	}
}

// quiet ends a part of the day without outages. It checks that all messages were acked
// and delivered.
func (d *day) quiet(what string) {
	d.t.Helper()
	d.awaitAcks(d.all()...)
	d.awaitShown(what, true)
	d.checked()
}

// ask sends a request of a client and returns the answer.
func ask[T pb.Message](d *day, c *persona.Client, m pb.Message) T {
	d.t.Helper()
	var none T
	got, err := c.Ask(bounded(d.t), m, none.Command())
	if err != nil {
		d.t.Fatalf("%s: %s: %v", c.Name(), m.Command(), err)
	}
	return got.(T)
}
