package sim

import (
	"context"
	"fmt"
	"time"

	"teamtalk/core/session"
)

// drainLimit is the longest time for which a process that was told to stop drains.
const drainLimit = 10 * time.Second

// closing is for how long a process keeps its links after it has closed the connections of
// its clients, so that other servers learn that the users are gone.
const closing = 50 * time.Millisecond

// stop makes a process drain and end as after SIGTERM, and start d later. It accepts no
// connection meanwhile.
func (w *world) stop(p *proc, d time.Duration) {
	if !p.up || p.stopping {
		return
	}
	p.stopping, p.told = true, w.now()
	if w.plain || w.stock != "" {
		w.faultFor(aftermath) // what is not accepted goes to no other db_proxy
	}
	life, src := p.life, w.source(fmt.Sprintf("%s.%d stops", p.name, p.lives))
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	life.abort = cancel
	go func() {
		var err error
		if life.drain != nil {
			err = life.drain(ctx)
		}
		w.post(src, func() {
			if life.dead.Load() {
				return
			}
			if err != nil && !w.disturbed() {
				w.fail("drain", "%s did not drain: %v", p.name, err)
			}
			lasts := time.Duration(0)
			for _, l := range life.clients {
				l.closeAll()
				lasts = closing
			}
			w.after(lasts, p.name+" ends", func() {
				if !life.dead.Load() {
					p.leave()
					w.after(d, p.name+" starts", p.revive)
				}
			})
		})
	}()
}

// disturbed reports whether a fault is going on that may keep requests from their answers.
func (w *world) disturbed() bool {
	since, end := w.now()-drainLimit, w.now()
	return during(w.faults, since, end) || during(w.troubles, since, end)
}

// closeAll closes the connections of a loop, as the engine does when it stops: after the
// tasks that were posted before.
func (l *loop) closeAll() {
	l.Post(func() { l.Each(func(c *session.Conn) { c.Close(session.ErrShutdown) }) })
}

// leave ends a process that has drained. The other sides get all its frames before
// they learn the end.
func (p *proc) leave() {
	if p.member != nil {
		p.w.cluster.deregister(p)
	}
	for _, c := range p.w.net.conns {
		switch p {
		case c.from:
			c.there.finish()
		case c.to:
			c.back.finish()
		}
	}
	p.over()
}

// ackedWithin is how long the ack of a text may take that no fault holds up.
const ackedWithin = 5 * time.Second

// checkAcked looks whether the texts of clients that repeat them once or never have their
// acks, if the connection lived on and nothing failed meanwhile: a process that drains, or
// that takes the place of one, loses none.
func (w *world) checkAcked(list []*text) {
	for _, m := range list {
		since, end := m.first-2*drainLimit, m.first+ackedWithin
		if m.id != 0 || m.firstGen == 0 || end > w.now() || during(w.faults, since, end) ||
			during(w.troubles, since, end) ||
			isGroup(m.to) && !w.db.groups[m.to].always(m.from.user, m.first, end) {
			continue
		}
		for _, s := range w.sessions {
			if s.c == m.from && s.gen == m.firstGen && s.end >= end {
				w.fail("unacked", "text %s has no ack", m.body)
			}
		}
	}
}

// checkDrained looks whether a message server that drains has acked what it had accepted,
// when the connection of a client ends.
func (w *world) checkDrained(c *client) {
	p := c.conn.to
	if !p.stopping || c.conn.harmed != 0 || w.disturbed() {
		return
	}
	for _, m := range c.out {
		if m.gen == c.gen && m.state == flying && m.last < p.told-2*maxLatency &&
			(!isGroup(m.to) || w.db.groups[m.to].always(c.user, m.first, w.now())) {
			w.fail("unacked", "text %s had no ack when %s had drained", m.body, p.name)
		}
	}
}
