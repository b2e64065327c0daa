package bench

import "teamtalk/core/pdu"

// idle holds connections that only send heartbeats, with a last one each at the end.
type idle struct{}

func (idle) cast(p *local) {
	for i := p.Part; i < p.scenario.Connections; i += p.Parts {
		p.addClient(i, i/p.Parts)
	}
}

func (idle) needs(*client) bool { return true }

func (idle) begin(w *worker, _ []uint32) {
	w.play = bystander{}
	// The last heartbeats are spread over a second. They show which connections still
	// work, not how the server handles a burst.
	next, begin := 0, w.plan.End-second-second/10
	w.schedule(begin, func(now int64) int64 {
		for due := int(int64(len(w.clients)) * (now - begin) / second); next < min(due,
			len(w.clients)); next++ {
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

// bystander is a play that ignores all events.
type bystander struct{}

func (bystander) loggedIn(*client)                              {}
func (bystander) gone(*client, error)                           {}
func (bystander) answered(*client, request, pdu.Header, []byte) {}
func (bystander) acked(*client, request)                        {}
func (bystander) told(*client, pdu.Header, []byte)              {}
func (bystander) over()                                         {}
func (bystander) delivered(*client, *delivery)                  {}
