package faults

import (
	"fmt"
	"strings"
	"time"
)

// waits measures how long clients wait for the servers after a fault: from the moment at
// which all servers are ready, until the next fault begins. The wait of a text lasts from
// then on, or from its first attempt, to its ack. It contains all that its client waits for:
// a new connection, an answer, the time before it sends the text again. A client without a
// connection waits as well.
type waits struct {
	fault, ready time.Time            // ready is zero until all servers are ready after fault
	offline      map[string]time.Time // the clients without a connection, since when
	longest      time.Duration
	worst        string // what happened to the text with the longest wait
}

// event is an event of a text.
type event struct {
	at   time.Time
	what string
}

// note records an event of a text.
func (s *Sent) note(now time.Time, what string) { s.events = append(s.events, event{now, what}) }

// after returns the later one of a time and the time at which all servers were ready.
func (w *waits) after(t time.Time) time.Time {
	if t.Before(w.ready) {
		return w.ready
	}
	return t
}

// measure counts the wait of a text up to now.
func (w *waits) measure(s *Sent, now time.Time) {
	if w.ready.IsZero() {
		return
	}
	if d := now.Sub(w.after(s.events[0].at)); d > w.longest {
		w.longest, w.worst = d, w.trace(s)
	}
}

// measureOffline counts the time without a connection up to now.
func (w *waits) measureOffline(client string, now time.Time) {
	since, off := w.offline[client]
	if !off || w.ready.IsZero() {
		return
	}
	if d := now.Sub(w.after(since)); d > w.longest {
		w.longest = d
		w.worst = fmt.Sprintf("%s, begin of the fault %+.3f s: offline %+.3f s to %+.3f s", client,
			w.fault.Sub(w.ready).Seconds(), since.Sub(w.ready).Seconds(),
			now.Sub(w.ready).Seconds())
	}
}

// trace describes what happened to a text. Times count from the moment at which all servers
// were ready.
func (w *waits) trace(s *Sent) string {
	return fmt.Sprintf("%s in %v, begin of the fault %+.3f s%s", s.Client, s.Conv,
		w.fault.Sub(w.ready).Seconds(), s.history(w.ready))
}

// silent describes a silence that began at since, and that the text ended. Times count from
// the begin of the fault.
func (w *waits) silent(s *Sent, since time.Time) string {
	from := w.fault
	if from.IsZero() { // before the first fault
		from = since
	}
	return fmt.Sprintf("%s in %v, begin of the fault at %s, silent from %+.3f s%s", s.Client,
		s.Conv, from.UTC().Format("15:04:05.000"), since.Sub(from).Seconds(), s.history(from))
}

// history lists what happened to a text, with the time since a moment.
func (s *Sent) history(from time.Time) string {
	var b strings.Builder
	for _, e := range s.events {
		fmt.Fprintf(&b, ", %s %+.3f s", e.what, e.at.Sub(from).Seconds())
	}
	return b.String()
}

// Begin records that a fault begins. Until Ready no wait is measured.
func (l *Ledger) Begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measure(now)
	l.waits.fault, l.waits.ready = now, time.Time{}
}

// Serve records that other servers have taken the place of one that does not run yet, or,
// with serve false, that they stall again: then no wait is measured until they serve.
func (l *Ledger) Serve(serve bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measure(now)
	if l.waits.ready = now; !serve {
		l.waits.ready = time.Time{}
	}
}

// Ready records that all servers are ready again, unless others serve in their place.
func (l *Ledger) Ready(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waits.ready.IsZero() {
		l.waits.ready = now
	}
}

// Repeat records that a client sends a text again.
func (l *Ledger) Repeat(s *Sent, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Acked == 0 && !s.Failed {
		s.note(now, "repeated")
	}
}

// Connected records that a client has logged in, or has lost its connection.
func (l *Ledger) Connected(client string, online bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := "online"
	if online {
		l.waits.measureOffline(client, now)
		delete(l.waits.offline, client)
	} else {
		what = "offline"
		l.waits.offline[client] = now
	}
	for s := range l.open {
		if s.Client == client {
			s.note(now, what)
		}
	}
}

// Beyond returns the longest time, up to now, for which a client waited after all servers
// were ready again, and a description of that wait.
func (l *Ledger) Beyond(now time.Time) (longest time.Duration, worst string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measure(now)
	return l.waits.longest, l.waits.worst
}

// measure counts the waits that have not ended. The caller holds l.mu.
func (l *Ledger) measure(now time.Time) {
	for s := range l.open {
		l.waits.measure(s, now)
	}
	for client := range l.waits.offline {
		l.waits.measureOffline(client, now)
	}
}
