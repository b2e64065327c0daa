package route

import (
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A kick of the HTTP API has a number. The HTTP server tells its caller that the kick will
// happen when this server has confirmed it, and may be killed then. So this server sends the
// kick to all message servers, and not only to those that are known to hold the user: the
// news of a login may still be on its way. And it keeps the kick for those whose link is
// lost at this moment. Each gets it when it has a link again, with its age, so that it ends
// no later login.

const (
	// kickKept is how long a kick is kept. maxKicks bounds the kicks kept, at about 100 bytes
	// each.
	kickKept = 10 * time.Minute
	maxKicks = 1 << 13
)

// kicks are the kicks that message servers may have missed, oldest first. With Server.mu
// held.
type kicks []kick

type kick struct {
	m  *pb.IMServerKickUser
	at time.Time // of the call
}

// keep keeps a kick, and returns how many others are forgotten for it because there are too
// many.
func (k *kicks) keep(m *pb.IMServerKickUser, at time.Time) (forgotten int) {
	for len(*k) > 0 && (len(*k) >= maxKicks || at.Sub((*k)[0].at) > kickKept) {
		if at.Sub((*k)[0].at) <= kickKept {
			forgotten++
		}
		(*k)[0] = kick{}
		*k = (*k)[1:]
	}
	*k = append(*k, kick{m, at})
	return forgotten
}

// handleNumberedKick forwards a kick of an HTTP server to all message servers, keeps it, and
// confirms it.
func (r *Server) handleNumberedKick(s *session.Link, seq uint16, m *pb.IMServerKickUser) error {
	out := proto.CloneOf(m) // a server in this process receives m itself
	out.ClearNumber()
	at := r.opt.Now().Add(-time.Duration(m.GetAge()) * time.Millisecond)
	r.mu.Lock()
	forgotten := r.kicks.keep(out, at)
	r.mu.Unlock()
	r.metrics.kicks.Add(float64(forgotten))
	// Kept first: a message server that connects now gets it from there, or from here.
	r.forwardTo(r.all(of(s).node), seq, out)
	return s.Send(seq, m)
}

// sendKicks sends a message server the kicks that it may have missed.
func (r *Server) sendKicks(sv *server, missed time.Duration) {
	now := r.opt.Now()
	var late []pb.Message
	r.mu.Lock()
	for _, k := range r.kicks {
		if age := now.Sub(k.at); age <= min(missed+brokenLasts, kickKept) {
			m := proto.CloneOf(k.m)
			m.SetAge(uint32(age.Milliseconds())) // the login may be as old
			late = append(late, m)
		}
	}
	r.mu.Unlock()
	if len(late) > 0 {
		r.send([]*server{sv}, 0, late...)
	}
}
