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

// handleNumberedKick forwards a kick of an HTTP server to all message servers, keeps it, and
// confirms it.
func (r *Server) handleNumberedKick(s *session.Link, seq uint16, m *pb.IMServerKickUser) error {
	out := proto.CloneOf(m) // a server in this process receives m itself
	out.ClearNumber()
	at := r.opt.Now().Add(-time.Duration(m.GetAge()) * time.Millisecond)
	r.mu.Lock()
	forgotten := r.kicks.Keep(out, at)
	r.mu.Unlock()
	r.metrics.kicks.Add(float64(forgotten))
	// Kept first: a message server that connects now gets it from there, or from here.
	r.forwardTo(r.all(of(s).node), seq, out)
	return s.Send(seq, m)
}

// sendKicks sends a message server the kicks that it may have missed.
func (r *Server) sendKicks(sv *server, missed time.Duration) {
	r.mu.Lock()
	late := r.kicks.Missed(r.opt.Now(), missed+brokenLasts)
	r.mu.Unlock()
	if len(late) > 0 {
		r.send([]*server{sv}, 0, late...)
	}
}
