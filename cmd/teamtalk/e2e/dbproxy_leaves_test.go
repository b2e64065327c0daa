//go:build linux

package e2e

import (
	"fmt"
	"testing"
)

// TestDBProxyLeaves stops each of two dbproxies in turn, with SIGTERM, and starts it again,
// while users write all the time and send no text again. Every text is
// acked and stored once, in the order of its sender.
func TestDBProxyLeaves(t *testing.T) {
	t.Parallel()
	const users = 8
	sys := deploySeparate(t, settings{users: users, second: true, races: true,
		flags: []string{"--msg.rate", "0", "--msg.ack", "stored"}})
	all, done := writers(t, sys.msgAddr[0], "text", users, steadily)
	more := func() { t.Helper(); furtherAcks(t, all, writerWindow+1) }
	more()
	up := func(m *server) float64 { return m.metric("teamtalk_link_up", `"dbproxy"`) }
	links := up(sys.msg[0])
	for _, s := range []*server{sys.dbproxy, sys.second} {
		s.stop()
		more()
		s.start()
		for _, m := range sys.msg {
			until(t, "the links to be up again", func() bool {
				return up(m) == links
			})
		}
		more()
	}
	finish(t, all, done)
	for i, w := range all {
		name := fmt.Sprintf("u%05d", i+1)
		checkStored(t, sys.msgAddr[0], name, w)
		w.checkOrder()
	}
}

// waiting returns the number of texts that are not acked.
func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent - len(w.acked)
}

// checkOrder checks that later texts of the writer have greater ids.
func (w *writer) checkOrder() {
	w.t.Helper()
	last := uint32(0)
	for n := range w.sent {
		text := w.text(uint16(n + 2))
		if id := w.acked[text]; id <= last {
			w.t.Errorf("%q has id %d, and a text before it %d", text, id, last)
		} else {
			last = id
		}
	}
}
