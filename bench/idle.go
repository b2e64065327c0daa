package bench

import "teamtalk/core/pdu"

// idle holds connections that do nothing but send heartbeats, each a last one at the end.
type idle struct{}

func (idle) cast(p *local) {
	for i := p.Part; i < p.scenario.Connections; i += p.Parts {
		p.addClient(i, i/p.Parts)
	}
}

func (idle) needs(*client) bool { return true }

func (idle) begin(w *worker, _ []uint32) {
	w.play = bystander{}
	// The last heartbeats leave over a second: they are to show who is still there, not how a burst of them is handled.
	next, begin := 0, w.plan.End-second-second/10
	w.schedule(begin, func(now int64) int64 {
		for due := int(int64(len(w.clients)) * (now - begin) / second); next < min(due, len(w.clients)); next++ {
			if c := w.clients[next]; c.beatSent == 0 {
				c.beat(now)
			}
		}
		if next == len(w.clients) {
			return 0
		}
		return now + 1e6
	})
}

func (idle) done(*worker) bool { return false }

// bystander does nothing with what happens.
type bystander struct{}

func (bystander) loggedIn(*client)                              {}
func (bystander) gone(*client, error)                           {}
func (bystander) answered(*client, request, pdu.Header, []byte) {}
func (bystander) acked(*client, request)                        {}
func (bystander) told(*client, pdu.Header, []byte)              {}
func (bystander) over()                                         {}
func (bystander) delivered(*client, *delivery)                  {}
