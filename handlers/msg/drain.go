package msg

import (
	"context"
	"fmt"
	"time"

	"teamtalk/core/session"
)

// Mac, iOS, Android and web clients send no message again. The only sign to such a client
// that the server ends is the end of its connection, after which no ack can be sent. So the
// server reads, stores and acks as before, and ends each connection by itself at a moment
// when all that has arrived is answered. A message that the client sends before it sees the
// end is neither acked nor stored: the client reports that it failed.

// drainEvery is the interval at which the connections are examined.
const drainEvery = 10 * time.Millisecond

// Bounds of a drain. They count examinations, not time. A loop serves its sockets between
// two examinations, so that all that had arrived when the drain began is read, however slow
// the machine is.
const (
	// deliverLooks is how long connections stay open for messages that are not delivered
	// yet because one before them has not arrived.
	deliverLooks = 50
	// acceptLooks is how long messages are accepted on a connection that always has one in
	// flight.
	acceptLooks = 100
)

// drainAtOnce bounds the connections of a loop that end in one turn. It takes some
// milliseconds, during which the loop serves no other connection.
const drainAtOnce = 500

// Drain ends each connection when none of its messages and queries is in flight and all
// that has arrived is read. Acks do not wait for devices meanwhile. A connection that is
// busy for longer than a second ends once the messages that it has in flight are answered:
// later ones get no ack and are not stored.
//
// Drain returns when db_proxy has answered all messages, and the clients have closed their
// connections or had two seconds to do so. When ctx ends first, connections may still be
// open. No connection may arrive during the call.
func (h *Server) Drain(ctx context.Context) error {
	next := time.NewTicker(drainEvery)
	defer next.Stop()
	for looks := 0; ; looks++ {
		open, n := h.clientsAt(ctx, looks), h.conversation.InFlight()
		if open == 0 && n == 0 {
			return nil
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return fmt.Errorf("drain: %d connections open, %d messages not answered by "+
				"db_proxy: %w", open, n, ctx.Err())
		}
	}
}

// clientsAt examines all connections, see examine. It returns the number of connections
// that are open, at least 1 when ctx ends before all loops have counted theirs.
func (h *Server) clientsAt(ctx context.Context, looks int) (open int) {
	if looks < deliverLooks && h.conversation.Waiting()+h.groups.Waiting() > 0 {
		return 1
	}
	loops := h.allLoops()
	counts := make(chan int, len(loops))
	for _, l := range loops {
		l.Post(func() { counts <- h.examine(l, looks) })
	}
	for range loops {
		select {
		case n := <-counts:
			open += n
		case <-ctx.Done():
			return max(open, 1)
		}
	}
	return open
}

// examine ends the connections of a loop that are idle. It returns the number of those that
// are open, also of those whose client has not closed them yet. The first examination ends
// none: it is made when the loop may not have served its sockets yet. Loop only.
func (h *Server) examine(l *session.Loop, looks int) (open int) {
	h.conversation.ReleaseAcks(l)
	ended, late := 0, looks >= acceptLooks
	l.Clients(func(s *session.Client) {
		open++
		if looks == 0 || s.IsClosed() || ended == drainAtOnce {
			return
		}
		c := clientOf(s)
		if late {
			c.conversation.Refuse()
			// Others may wait for a client that does not read.
			if c.conversation.InFlight() > 0 || c.passing.InFlight() > 0 {
				return
			}
		} else if !isIdle(s) {
			return
		}
		ended++
		h.admission.Leave(s, session.ErrShutdown)
	})
	return open
}

// isIdle reports whether all that has arrived of a client is read, stored and answered. Loop
// only.
func isIdle(s *session.Client) bool {
	c := clientOf(s)
	return c.conversation.InFlight() == 0 && c.passing.Waiting() == 0 && s.IsQuiet()
}
