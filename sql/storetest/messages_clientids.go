package storetest

import (
	"strings"
	"time"

	"teamtalk/core/im"
)

// named returns a text message created now, with a client_msg_id. A store may expire ids
// by the time of messages or by its own clock.
func (f *fixture) named(from, to uint32, body, id string) *im.Message {
	m := text(from, to, body)
	m.Created, m.ClientID = f.now(), []byte(id)
	return m
}

// wantDuplicate checks that m was recognised as a duplicate of the message with that id.
func (f *fixture) wantDuplicate(what string, m *im.Message, id uint32) {
	f.Helper()
	if m.Err != nil || !m.Duplicate || m.ID != id {
		f.Fatalf("%s: id %d, duplicate %v, error %v; want a duplicate of %d", what, m.ID,
			m.Duplicate, m.Err, id)
	}
}

// wantFirst checks the time of the first message in a duplicate of it. Stores may keep that
// of their clock.
func (f *fixture) wantFirst(what string, m, first *im.Message) {
	f.Helper()
	if d := int64(m.FirstCreated) - int64(first.Created); d < -2 || d > 2 {
		f.Errorf("%s: the first was created at %d, want %d", what, m.FirstCreated, first.Created)
	}
}

func clientIDSameBatch(f *fixture) {
	a, b := f.pair()
	batch := []*im.Message{
		text(a, b, "before"),
		f.named(a, b, "first", "k1"), text(b, a, "between"), f.named(a, b, "resent", "k1"),
		f.named(a, b, "another", "k2"), f.named(a, b, "resent", "k1"),
	}
	f.s.AppendMessages(f.ctx, batch)
	f.wantDuplicate("resent at once", batch[3], batch[1].ID)
	f.wantDuplicate("resent again", batch[5], batch[1].ID)
	f.wantFirst("resent again", batch[5], batch[1])
	for _, i := range []int{0, 1, 2, 4} {
		if m := batch[i]; m.Err != nil || m.Duplicate {
			f.Fatalf("message %d: duplicate %v, error %v", i, m.Duplicate, m.Err)
		}
	}
	f.wantHistory(a, b, batch[0], batch[1], batch[2], batch[4])
	if n := f.unread(b, a); n != 3 {
		f.Errorf("%d unread, want 3: a duplicate is not counted", n)
	}
}

func clientIDLater(f *fixture) {
	a, b := f.pair()
	first := f.named(a, b, "first", "key\x00\xff")
	f.append(text(a, b, "before"), first)
	f.advance(10 * time.Second)
	resend := func(what string, created uint32) {
		f.Helper()
		m := f.named(a, b, "resent", "key\x00\xff")
		m.Created = created
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		f.wantDuplicate(what, m, first.ID)
		f.wantFirst(what, m, first)
	}
	resend("later batch", first.Created+1)
	resend("just inside the time", first.Created+im.ClientIDTTL-1)
	f.reopen()
	resend("after reopen", first.Created+2)
	if got := len(f.history(a, b)); got != 2 {
		f.Errorf("%d messages, want 2", got)
	}
	if n := f.unread(b, a); n != 2 {
		f.Errorf("%d unread, want 2", n)
	}
	s, _ := f.session(b, a)
	f.wantTime("session after a duplicate", s.Updated, first)
	mixed := []*im.Message{f.named(a, b, "resent", "key\x00\xff"), text(a, b, "third")}
	f.s.AppendMessages(f.ctx, mixed)
	f.wantDuplicate("beside a new message", mixed[0], first.ID)
	if mixed[1].Err != nil || mixed[1].ID <= first.ID {
		f.Errorf("the new message: id %d, %v", mixed[1].ID, mixed[1].Err)
	}
}

func clientIDScope(f *fixture) {
	u := f.users(3)
	for _, when := range []string{"one batch", "batches"} {
		batch := []*im.Message{
			f.named(u[0], u[1], "first", when),
			f.named(u[1], u[0], "the other side", when),
			f.named(u[2], u[1], "another sender", when),
			f.named(u[0], u[2], "another recipient", when),
			f.named(u[0], u[1], "another id", strings.ToUpper(when)),
			f.named(u[0], u[1], "another id", when+" "),
			f.named(u[0], u[1], "no id", ""),
			f.named(u[0], u[1], "no id", ""),
			text(u[0], u[1], "no id"),
			text(u[0], u[1], "no id"),
		}
		if when == "one batch" {
			f.append(batch...)
			continue
		}
		for _, m := range batch {
			f.append(m)
		}
	}
}

func clientIDOfFailed(f *fixture) {
	a, b := f.pair()
	failed := f.named(a, b, strings.Repeat("x", im.MaxContent+1), "k")
	batch := []*im.Message{failed, f.named(a, b, "in the same batch", "k")}
	f.s.AppendMessages(f.ctx, batch)
	f.wantKind("too long", failed.Err, im.Invalid)
	if m := batch[1]; m.Err != nil || m.Duplicate {
		f.Fatalf("after one that failed: duplicate %v, error %v", m.Duplicate, m.Err)
	}
	failed = f.named(a, b, strings.Repeat("x", im.MaxContent+1), "k2")
	f.s.AppendMessages(f.ctx, []*im.Message{failed})
	f.wantKind("too long", failed.Err, im.Invalid)
	later := f.named(a, b, "in the next", "k2")
	f.append(later)
	f.wantHistory(a, b, batch[1], later)
}

func clientIDForgotten(f *fixture) {
	a, b := f.pair()
	first := f.named(a, b, "first", "k")
	f.append(first)
	resend := func() *im.Message {
		m := f.named(a, b, "first", "k")
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		return m
	}
	f.advance(im.ClientIDTTL*time.Second - time.Minute)
	f.wantDuplicate("a minute before", resend(), first.ID)
	f.advance(2 * time.Minute)
	m := resend()
	if m.Err != nil || m.Duplicate {
		f.Fatalf("a minute after: duplicate %v, error %v", m.Duplicate, m.Err)
	}
	f.wantDuplicate("of the second", resend(), m.ID)
	f.wantHistory(a, b, first, m)
}
