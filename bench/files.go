package bench

import (
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// files plays transfers between pairs of users, from the first of each to the second.
type files struct{}

func (files) cast(p *local) {
	for pair := p.Part; pair < p.scenario.Pairs; pair += p.Parts {
		p.addClient(2*pair, pair/p.Parts)
		p.addClient(2*pair+1, pair/p.Parts)
	}
}

func (files) needs(*client) bool { return true }

func (files) begin(w *worker, _ []uint32) {
	s := w.part.scenario
	m := &mail{w: w, pairs: map[*client]int{}}
	m.courier = newCourier(w, m.ended)
	w.play = m
	pairs := len(w.clients) / 2
	for i := range pairs {
		m.pairs[w.clients[2*i]] = i
	}
	if pairs == 0 {
		return
	}
	if s.Rate == 0 {
		w.schedule(w.plan.Start, func(now int64) int64 {
			for i := range pairs {
				m.send(i, now)
			}
			return 0
		})
		return
	}
	m.pace = newPace(s.Rate*float64(pairs)/float64(s.Pairs), w.phase(), s.Arrivals == "poisson")
	m.step()
	w.schedule(m.due, m.fire)
}

func (files) done(*worker) bool { return false }

// mail is a worker's share of a file scenario.
type mail struct {
	bystander
	w       *worker
	courier *courier
	pairs   map[*client]int // by sender
	sent    int
	next    int
	pace    pace
	due     int64
}

func (m *mail) step() { m.due = m.w.plan.Start + m.pace.step(m.w.rng.ExpFloat64) }

// send starts a transfer from the first user of a pair to the second.
func (m *mail) send(pair int, due int64) {
	s := m.w.part.scenario
	online := s.Mode == "online" || s.Mode == "both" && m.sent%2 == 1
	m.sent++
	m.courier.send(m.w.clients[2*pair], m.w.clients[2*pair+1], int64(s.FileSize), online, due)
}

func (m *mail) fire(now int64) int64 {
	for n := 0; m.due <= now && n < perFire; n++ {
		if m.due >= m.w.plan.End {
			return 0
		}
		if now-m.due > lateness {
			m.w.checks.Behind++
		}
		m.send(m.next, m.due)
		m.next = (m.next + 1) % (len(m.w.clients) / 2)
		m.step()
	}
	return m.due
}

// ended starts the next transfer of the pair in runs without a schedule.
func (m *mail) ended(t *transfer) {
	if m.w.part.scenario.Rate > 0 {
		return
	}
	m.w.loop.At(max(m.w.loop.Now(), t.due+fileGap), func(now int64) int64 {
		if now < m.w.plan.End {
			m.send(m.pairs[t.from], now)
		}
		return 0
	})
}

func (m *mail) answered(_ *client, r request, h pdu.Header, body []byte) {
	if r.op == opFileRequest && h.Command == pb.CmdFileRsp {
		m.courier.answered(r, body)
	}
}

// fileGap is the shortest time between two transfers of a user in runs without a
// schedule, in nanoseconds. Message servers accept ten requests about files a second from
// a client, and a transfer takes two.
const fileGap = 200e6

// told handles the notice of a file.
func (m *mail) told(_ *client, h pdu.Header, body []byte) {
	if h.Command == pb.CmdFileNotify {
		m.courier.notify(body)
	}
}

func (m *mail) over() { m.courier.over() }
