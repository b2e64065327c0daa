package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// committed takes a message that was stored.
func (w *world) committed(m *im.Message) {
	body := string(m.Data)
	w.stored[body] = append(w.stored[body], m.ID)
	if n := len(w.stored[body]); n > 1 && !w.forgotten(body) {
		w.fail("twice", "text %s was stored %d times, as %v", body, n, w.stored[body])
	}
}

// forgotten reports whether a text may be stored twice. Known to fail: a text without a name
// that is repeated on a new connection is recognised by the clocks of message servers, which
// may differ by 5 s.
func (w *world) forgotten(body string) bool {
	m := w.texts[body]
	return m != nil && m.from.persists && w.skewed
}

// ackedText takes an ack.
func (w *world) ackedText(m *text) {
	if !slices.Contains(w.stored[m.body], m.id) {
		w.fail("not stored", "text %s was acked as %d, and is stored as %v", m.body, m.id,
			w.stored[m.body])
	}
}

// conversation returns the key of the conversation of a delivery.
func conversation(d *delivery) uint64 {
	if isGroup(d.to) {
		return im.GroupKey(d.to)
	}
	return im.ConversationKey(d.from, d.to)
}

// delivered takes a delivery.
func (w *world) delivered(c *client, d *delivery) {
	m := w.texts[d.body]
	if m == nil || m.from.user != d.from || m.to != d.to ||
		!slices.Contains(w.stored[d.body], d.id) {
		w.fail("delivery", "%s received %d %q from %d to %d, which is stored as %v", c.name, d.id,
			d.body, d.from, d.to, w.stored[d.body])
		return
	}
	at := fmt.Sprintf("%s %d", c.name, c.gen)
	again := fmt.Sprintf("%s %d %d %d", at, d.from, d.to, d.id)
	if w.seen[again] {
		if c.kind == phone { // redelivered only to clients that ack
			w.fail("received twice", "%s received %d from %d to %d twice", c.name, d.id,
				d.from, d.to)
		}
		return
	}
	w.seen[again] = true
	if isGroup(d.to) && !w.db.groups[d.to].had(c.user, m.first, w.now()) {
		w.fail("stranger", "%s received %d of group %d", c.name, d.id, d.to)
	}
	order := fmt.Sprintf("%s in %d", at, conversation(d))
	if d.id < w.last[order] {
		w.fail("order", "%s received %d after %d: %s", c.name, d.id, w.last[order], order)
	}
	w.last[order] = max(w.last[order], d.id)
}

// check holds the record against the promises when everything is quiet.
func (w *world) check() {
	for _, c := range w.clients {
		if !c.online {
			w.fail("offline", "%s is not logged in", c.name)
		}
		for _, m := range c.out {
			w.fail("waits", "text %s has no ack after %d attempts", m.body, m.tries)
		}
		if c.online {
			w.sessions = append(w.sessions, online{c, c.gen, c.since, w.now()})
		}
	}
	if n := len(w.db.open); n > 0 {
		w.fail("waits", "%d calls of the store are open", n)
	}
	list := make([]*text, 0, len(w.texts))
	for _, m := range w.texts {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *text) int { return cmp.Compare(a.body, b.body) })
	for _, m := range list {
		if m.id != 0 {
			w.checkDelivered(m)
		}
	}
	w.checkAcked(list)
	w.checkSenders(list)
	w.checkMembers()
	w.checkStatuses()
	for key, n := range w.db.unread {
		if g := w.db.groups[key[1]]; g == nil || slices.Contains(g.Members, key[0]) {
			w.fail("unread", "user %d has read everything, and %d messages from %d are unread",
				key[0], n, key[1])
		}
	}
}

// searched is how long a client must have been online before a text, to get it by a
// search.
const searched = 6 * time.Second

// askAfter is how long a text waits for those before it, until they are searched for.
const askAfter = 200 * time.Millisecond

// membersLate is how long a text to a group may wait for its members, which a db_proxy that
// fails does not know.
const membersLate = 15 * time.Second

// checkDelivered looks whether an acked text reached the devices that were online.
func (w *world) checkDelivered(m *text) {
	since, end := m.first-time.Second, m.acked+5*time.Second
	if during(w.losses, since, end) {
		return
	}
	if isGroup(m.to) && during(w.faults, since, end) {
		end += membersLate
	}
	// A newer text may pass one whose first attempt failed, and that was in doubt until its
	// sender repeated it. It may also pass one that reached a message server late, when that
	// server knew no earlier text of the conversation, or could not ask a db_proxy.
	held := m.acked-m.first > refusedPause || during(w.troubles, since, end)
	for _, s := range w.sessions {
		if s.c == m.from || !w.concerns(m, s.c.user, since, end) || s.since > since || s.end < end {
			continue
		}
		// A text that a message server had to search for goes neither to sessions that
		// came shortly before, nor to those of its sender with a text in doubt.
		if (s.since > since-searched || s.c.user == m.from.user) && during(w.troubles, since, end) {
			continue
		}
		// One whose answer was lost is searched for as well, when a newer one waits for it.
		if s.c.user == m.from.user && m.acked-m.first > askAfter &&
			during(w.faults, since, end) && w.writes(s.c, m.first, m.acked) {
			continue
		}
		passed := held && !(m.acked-m.first <= refusedPause && knew(s, m) &&
			!during(w.faults, since, end))
		if !slices.ContainsFunc(s.c.got, func(d *delivery) bool {
			return d.gen == s.gen && (d.body == m.body || passed && overtook(d, m))
		}) && !(passed && w.wroteAfter(s.c, m)) {
			w.fail("not delivered", "%s did not receive text %s, acked as %d", s.c.name,
				m.body, m.id)
		}
	}
}

// writes reports whether c had a text without an ack at some time between two.
func (w *world) writes(c *client, since, end time.Duration) bool {
	for _, m := range w.texts {
		if m.from == c && m.firstGen != 0 && m.first <= end && (m.id == 0 || m.acked >= since) {
			return true
		}
	}
	return false
}

// knew reports whether the message server of a session knew an earlier text of the conversation of
// m. Then a newer one waits there until m was searched for.
func knew(s online, m *text) bool {
	return slices.ContainsFunc(s.c.got, func(d *delivery) bool {
		return d.gen == s.gen && d.of(m) && d.id < m.id && d.at < m.first &&
			d.at > m.first-30*time.Second
	})
}

// overtook reports whether d was delivered in place of m, an older text of the same
// conversation. A receiver finds m in the history: Windows, iOS and Android clients look for
// missing ids when they show a conversation.
func overtook(d *delivery, m *text) bool { return d.of(m) && d.id > m.id }

// of reports whether d is a delivery of the conversation of m.
func (d *delivery) of(m *text) bool {
	return d.to == m.to && (isGroup(m.to) || d.from == m.from.user) ||
		d.to == m.from.user && d.from == m.to
}

// wroteAfter reports whether a newer text of the conversation of m is one of c itself, which
// overtook m as one that c received would.
func (w *world) wroteAfter(c *client, m *text) bool {
	for _, o := range w.texts {
		if o.from == c && o.id > m.id && (o.to == m.to && isGroup(m.to) ||
			!isGroup(m.to) && (o.to == m.from.user || c.user == m.from.user && o.to == m.to)) {
			return true
		}
	}
	return false
}

// concerns reports whether a text must be delivered to the devices of user.
func (w *world) concerns(m *text, user uint32, since, end time.Duration) bool {
	if isGroup(m.to) {
		return w.db.groups[m.to].always(user, since, end)
	}
	return user == m.to || user == m.from.user
}

// checkMembers looks whether clients that are online still, and were when the members of
// a group changed last, know them.
func (w *world) checkMembers() {
	for id := uint32(firstGroup + 1); id <= firstGroup+groups; id++ {
		g := w.db.groups[id]
		at := g.past[len(g.past)-1].since
		since, end := at-time.Second, at+5*time.Second
		if at == 0 || during(w.faults, since, end) || during(w.troubles, since, end) {
			continue
		}
		for _, s := range w.sessions {
			if s.since > since || s.end < w.now() || !slices.Contains(g.Members, s.c.user) {
				continue
			}
			var known []uint32
			for _, h := range s.c.heard {
				if h.group == id && h.gen == s.gen {
					known = h.members
				}
			}
			slices.Sort(known)
			if !slices.Equal(known, g.Members) {
				w.fail("members", "%s heard last that %v are in group %d, and %v are", s.c.name,
					known, id, g.Members)
			}
		}
	}
}

// statusLate is how long the news may take that a user is online.
const statusLate = 15 * time.Second

// checkStatuses looks whether a PC client was told last that a user is offline whose PC has been
// online for a while.
func (w *world) checkStatuses() {
	for _, c := range w.clients {
		for _, o := range w.clients {
			if c.online && o.online && c.kind != phone && o.kind != phone &&
				o.since+statusLate < w.now() &&
				c.told[o.user] == pb.UserStatType_USER_STATUS_OFFLINE {
				w.fail("status", "%s was told last that user %d is offline", c.name, o.user)
			}
		}
	}
}

// checkSenders looks whether the texts of a client to a user or group are stored in
// order.
func (w *world) checkSenders(list []*text) {
	slices.SortFunc(list, func(a, b *text) int {
		return cmp.Or(cmp.Compare(a.from.name, b.from.name), cmp.Compare(a.to, b.to),
			cmp.Compare(a.n, b.n))
	})
	var before *text
	for _, m := range list {
		if len(w.stored[m.body]) == 0 {
			continue
		}
		if before != nil && w.follows(m, before) &&
			w.stored[m.body][0] < w.stored[before.body][0] {
			w.fail("overtaken", "text %s is stored as %d, and %s, written before it, as %d",
				m.body, w.stored[m.body][0], before.body, w.stored[before.body][0])
		}
		before = m
	}
}

// follows reports whether a text must be stored after the one written before it. A text
// that was rejected, because its sender was no member of the group, is out of this order.
func (w *world) follows(m, before *text) bool {
	if m.from != before.from || m.to != before.to ||
		m.from.kind != ours && m.firstGen != before.firstGen {
		return false
	}
	return !isGroup(m.to) || w.db.groups[m.to].always(m.from.user, before.first, m.first)
}
