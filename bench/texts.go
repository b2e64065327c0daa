package bench

import "teamtalk/bench/scenario"

// scriptOf returns the script of the scenario's kind.
func scriptOf(s *scenario.Scenario) script {
	switch s.Kind {
	case scenario.KindSingle:
		return single{}
	case scenario.KindGroup:
		return group{}
	case scenario.KindIdle:
		return idle{}
	case scenario.KindConnect:
		return storm{}
	case scenario.KindFile:
		return files{}
	case scenario.KindMixed:
		return &mixed{}
	}
	return nil
}

// single plays texts between pairs of users, from the first of each to the second.
type single struct{}

func (single) cast(p *local) {
	for pair := p.Part; pair < p.scenario.Pairs; pair += p.Parts {
		from, to := p.addClient(2*pair, pair/p.Parts), p.addClient(2*pair+1, pair/p.Parts)
		from.outboxes = []outbox{{conv: uint32(pair), fanout: 1}}
		to.inboxes = []inbox{{conv: uint32(pair), streams: make([]stream, 1), own: -1}}
	}
}

func (single) needs(*client) bool { return true }

func (single) begin(w *worker, _ []uint32) {
	for i := 0; i < len(w.clients); i += 2 {
		w.clients[i].outboxes[0].to = w.clients[i+1].id
	}
	newChat(w, w.part.scenario.Pairs)
}

func (single) done(*worker) bool { return false }

// group plays texts in groups, from some members of each.
type group struct{}

func (group) cast(p *local) {
	s := p.scenario
	key := 0
	for g := range s.Groups {
		for j := range s.Members {
			if s.Owner(g, j, p.Parts) != p.Part {
				continue
			}
			c := p.addClient(s.MemberOf(g, j), key)
			key++
			own := -1
			if j < s.Senders {
				c.outboxes = []outbox{{conv: uint32(g), sender: uint16(j), group: true,
					fanout: int64(s.Members - 1)}}
				own = j
			}
			c.inboxes = []inbox{{conv: uint32(g), streams: make([]stream, s.Senders), own: own}}
		}
	}
}

func (group) needs(*client) bool { return true }

func (group) begin(w *worker, groups []uint32) {
	for _, c := range w.clients {
		for i := range c.outboxes {
			c.outboxes[i].to = groups[c.outboxes[i].conv]
		}
	}
	newChat(w, w.part.scenario.Groups*w.part.scenario.Senders)
}

func (group) done(*worker) bool { return false }

// chat is a worker's share of the senders of a text scenario.
type chat struct {
	bystander
	w       *worker
	senders []*client
	next    int // index of the next sender
	pace    pace
	due     int64
}

// perFire bounds the messages that are sent before the connections are read again.
const perFire = 512

// newChat prepares a worker whose clients with an outbox send texts. all is the number of
// such clients in the whole run.
func newChat(w *worker, all int) {
	s := w.part.scenario
	ch := &chat{w: w}
	w.play = ch
	for _, c := range w.clients {
		if len(c.outboxes) > 0 {
			ch.senders = append(ch.senders, c)
		}
	}
	if len(ch.senders) == 0 {
		return
	}
	if s.Rate == 0 {
		w.schedule(w.plan.Start, ch.fill)
		return
	}
	ch.pace = newPace(s.Rate*float64(len(ch.senders))/float64(all), w.phase(),
		s.Arrivals == "poisson")
	ch.step()
	w.schedule(ch.due, ch.fire)
}

// phase returns the position of the worker among all workers of the run, from 0 to 1.
func (w *worker) phase() float64 {
	n := len(w.part.workers)
	return float64(w.part.Part*n+w.loop.Index()) / float64(w.part.Parts*n)
}

func (ch *chat) step() { ch.due = ch.w.plan.Start + ch.pace.step(ch.w.rng.ExpFloat64) }

// fire sends the texts that are due.
func (ch *chat) fire(now int64) int64 {
	for n := 0; ch.due <= now && n < perFire; n++ {
		if ch.due >= ch.w.plan.End {
			return 0
		}
		c := ch.senders[ch.next]
		if ch.pace.poisson {
			ch.next = ch.w.rng.IntN(len(ch.senders))
		} else if ch.next++; ch.next == len(ch.senders) {
			ch.next = 0
		}
		c.write(&c.outboxes[0], ch.due)
		ch.step()
	}
	return ch.due
}

// fill sends as many texts of each sender as may be in flight.
func (ch *chat) fill(now int64) int64 {
	for _, c := range ch.senders {
		for range ch.w.part.scenario.Window {
			c.write(&c.outboxes[0], now)
		}
	}
	return 0
}

func (ch *chat) acked(c *client, _ request) {
	if now := ch.w.loop.Now(); ch.w.part.scenario.Rate == 0 && now < ch.w.plan.End {
		c.write(&c.outboxes[0], now)
	}
}
