package dbproxy

import (
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestFirstFailureCounts: C is refused at once, because the server drains. A has waited too
// long, and is refused later. B, between them, is not stored either.
func TestFirstFailureCounts(t *testing.T) {
	o, now, link := newSendOrder(time.Minute, nil), time.Now(), &session.Link{}
	arrives := func() *Pending {
		p := &Pending{request: request{session: link}, msg: &pb.MsgData{SenderConn: 7},
			row: im.Message{From: 1, To: 2}}
		o.came(p)
		return p
	}
	a, b, c := arrives(), arrives(), arrives()
	c.row.Err = im.Errorf(im.Closed, "draining")
	o.note(c, now)
	a.row.Err = im.Errorf(im.Busy, "waited too long")
	o.holdBack([]*Pending{a, b}, now)
	if b.row.Err == nil {
		t.Error("B is stored before A")
	}
}
