package sim

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// Clients ask for histories while things break, each query once: a client that is left without an
// answer shows it.

// query is a question of a client on its present connection.
type query struct {
	seq  uint16
	at   time.Duration
	well time.Duration // since when its message server has a db_proxy; 0: it has none
}

// Bounds of a query. answerWithin is how long a query may take while its message server has
// a db_proxy. heldAtLeast is the age up to which a message server sends it again.
const answerWithin = 1500 * time.Millisecond

var heldAtLeast = settings.Msg.Hold - 500*time.Millisecond

// maybeAsk asks for a part of a history, at times.
func (c *client) maybeAsk() {
	if !c.online || len(c.asked) > 20 || c.w.now() > active || !c.asks.chance(0.2) {
		return
	}
	peer := uint32(1 + c.asks.rand.IntN(users))
	if peer == c.user || c.asks.chance(0.3) {
		peer = uint32(firstGroup + 1 + c.asks.rand.IntN(groups))
	}
	q := &query{seq: c.nextSeq(), at: c.w.now()}
	c.asked = append(c.asked, q)
	c.send(pb.IMGetMsgListReq_builder{UserId: proto.Uint32(c.user),
		SessionType: sessionType(peer).Enum(), SessionId: &peer,
		MsgIdBegin: proto.Uint32(0), MsgCnt: proto.Uint32(3)}.Build(), q.seq)
}

// answeredQuery takes the answer to a query.
func (c *client) answeredQuery(seq uint16) {
	c.asked = slices.DeleteFunc(c.asked, func(q *query) bool { return q.seq == seq })
}

// checkQueries looks whether a query waits although its message server has had a db_proxy
// for a while, that has answered. It is called at each tick.
func (w *world) checkQueries() {
	now := w.now()
	calm := !during(w.hangs, now-time.Second, now+time.Millisecond)
	for _, c := range w.clients {
		if c.conn == nil {
			continue
		}
		p := c.conn.to
		well := calm && c.online && c.conn.harmed == 0 && p.up && !p.stopping && p.stores.Up()
		for _, q := range c.asked {
			switch {
			case !well:
				q.well = 0
			case q.well == 0:
				q.well = now
			case now-q.well > answerWithin && q.well-q.at < heldAtLeast:
				w.fail("query", "%s has no answer to a query of %v with seq %d", c.name, q.at,
					q.seq)
			}
		}
	}
}

// hangFor records that a db_proxy, or a link to one, may answer late or not at all for d.
func (w *world) hangFor(d time.Duration) {
	w.hangs = append(w.hangs, trouble{w.now(), w.now() + d})
}
