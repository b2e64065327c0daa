package presence

import (
	"testing"
	"time"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// heldStore keeps the queries that it gets and answers them when the test says so.
type heldStore struct{ answers []func() }

// Call keeps the query.
func (st *heldStore) Call(l *session.Loop, _ uint64, _ uint16, _ pb.Attachment,
	done func(pb.Message, error)) {
	st.answers = append(st.answers, func() {
		l.PostResult(done, &pb.IMRecentContactSessionRsp{}, nil)
	})
}

// TestContactsOfClientsThatLeave: few clients are asked about at a time, and those that
// leave before their answer arrives are forgotten.
func TestContactsOfClientsThatLeave(t *testing.T) {
	h, l := newHandler(t, Contacts, time.Hour)
	st := &heldStore{}
	h.Connect(st)
	var c crowd
	l.Begin()
	for i := range uint32(3 * maxContactQueries) {
		c.join(h, l, 100+i)
	}
	x := &l.state.contacts
	if x.asking != maxContactQueries || len(x.waiting) != 2*maxContactQueries {
		t.Errorf("%d asked about, %d wait", x.asking, len(x.waiting))
	}
	for _, s := range c.sessions {
		l.Remove(&s.Conn, nil)
		h.Leave(s)
	}
	l.End()
	for len(st.answers) > 0 {
		answers := st.answers
		st.answers = nil
		for _, answer := range answers {
			answer()
		}
		l.Turn()
	}
	if x.unknown != 0 || x.asking != 0 || len(x.waiting) != 0 || len(x.of) != 0 {
		t.Errorf("%d unknown, %d asked about, %d wait, %v", x.unknown, x.asking, len(x.waiting),
			x.of)
	}
}
