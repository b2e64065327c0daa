package msg

import (
	"context"
	"time"

	"teamtalk/core/session"
)

// Clients whose connection ends connect again at once, to the other message servers, for which
// a login costs many times as much as a text. So a server that stops ends its connections over
// some time, and serves those that are left as before.

// releaseEvery is the interval at which connections are ended.
const releaseEvery = 100 * time.Millisecond

// SetDraining makes the server close new connections, and login servers send none, or ends that.
// Release ends those that are open. Any goroutine.
func (h *Server) SetDraining(on bool) {
	h.draining.Store(on)
	h.peers.SetFull(on)
}

// SetMaxConns replaces Options.MaxConns, and tells the login servers. Any goroutine.
func (h *Server) SetMaxConns(n int) { h.peers.SetMaxConns(n) }

// SetRate replaces Options.Rate and Options.RateBurst. Any goroutine.
func (h *Server) SetRate(rate, burst float64) { h.conversation.SetRate(rate, burst) }

// Release ends all connections over a time, at an even pace. Each ends when none of its messages
// and queries is in flight and all that has arrived is read. Acks do not wait for devices
// meanwhile. Connections that are busy at the end stay. Release returns when the time is over,
// when no connection is left, or when ctx ends. It reports whether any may be left.
func (h *Server) Release(ctx context.Context, over time.Duration) (left bool) {
	paces := map[*session.Loop]*pace{}
	next := time.NewTicker(releaseEvery)
	defer next.Stop()
	begin := h.opt.Now()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return true
		}
		passed := h.opt.Now().Sub(begin)
		share := 1.0
		if passed < over {
			share = float64(passed) / float64(over)
		}
		if left = h.release(ctx, paces, share); !left || passed >= over {
			return left
		}
	}
}

// pace is how many connections of a loop are released.
type pace struct{ first, ended int }

// release ends connections of each loop until a share of those that it had first is ended. It
// reports whether any is left.
func (h *Server) release(ctx context.Context, paces map[*session.Loop]*pace, share float64) bool {
	loops := h.allLoops()
	counts := make(chan int, len(loops))
	for _, l := range loops {
		p := paces[l]
		if p == nil {
			p = &pace{first: -1}
			paces[l] = p
		}
		l.Post(func() { counts <- p.release(h, l, share) })
	}
	left := 0
	for range loops {
		select {
		case n := <-counts:
			left += n
		case <-ctx.Done():
			return true
		}
	}
	return left > 0
}

// release ends connections of a loop and returns how many are left. Loop only.
func (p *pace) release(h *Server, l *session.Loop, share float64) (left int) {
	h.conversation.ReleaseAcks(l)
	l.Clients(func(s *session.Client) {
		if !s.IsClosed() {
			left++
		}
	})
	if p.first < 0 {
		p.first = left
	}
	most := min(int(share*float64(p.first))-p.ended, drainAtOnce)
	n := 0
	l.Clients(func(s *session.Client) {
		if n < most && !s.IsClosed() && isIdle(s) {
			n++
			h.admission.Leave(s, session.ErrShutdown)
		}
	})
	p.ended += n
	return left - n
}
