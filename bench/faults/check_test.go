package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fixture is a ledger with everything as it should be: user 1 and user 2 wrote four texts to
// each other in turn, and both wrote to group 9.
type fixture struct {
	sent     []*Sent
	arrivals []Arrival
	evidence Evidence
}

// chat and group are the conversations of a fixture.
var chat, group = pair(1, 2), Conv{Group: 9}

// newFixture returns a clean fixture. User 1 has a client of this project and user 2 a
// stock client.
func newFixture() *fixture {
	a, b := Member{"own", 1}, Member{"stock", 2}
	f := &fixture{evidence: Evidence{Members: map[Conv][]Member{chat: {a, b}, group: {a, b}},
		Tables: map[Conv][]Message{},
		Membership: []Membership{{"the tables", 9, []uint32{1, 2}},
			{"own", 9, []uint32{1, 2}}}}}
	for _, conv := range []Conv{chat, group} {
		for i := range 8 {
			from, to := a, b
			if i%2 == 1 {
				from, to = b, a
			}
			id := uint32(i + 1)
			m := Message{id, from.User, fmt.Sprint("text ", i+1, " ", conv)}
			f.sent = append(f.sent, &Sent{Client: from.Client, From: from.User, Conv: conv,
				Text: m.Text, Named: from == a, Acked: id})
			f.evidence.Tables[conv] = append(f.evidence.Tables[conv], m)
			f.arrivals = append(f.arrivals, Arrival{Client: to.Client, Conv: conv, Message: m,
				Order: 1, Once: to == a})
		}
		for _, m := range []Member{a, b} {
			f.evidence.Views = append(f.evidence.Views, View{Member: m, Conv: conv, Unread: 4,
				History: slices.Clone(f.evidence.Tables[conv]), CountUnread: true})
		}
	}
	return f
}

// check fills a ledger and checks it.
func (f *fixture) check() Counts {
	l, now := NewLedger("text "), time.Now()
	for _, s := range f.sent {
		id := s.Acked
		s.Acked = 0
		l.Send(s, now)
		if id != 0 {
			l.Ack(s, id, now)
		}
	}
	for _, a := range f.arrivals {
		l.Arrive(a)
	}
	return l.Check(f.evidence)
}

// remove removes the messages with an id.
func remove(list []Message, id uint32) []Message {
	return slices.DeleteFunc(slices.Clone(list), func(m Message) bool { return m.ID == id })
}

// harms break the fixture in one way each, and say what the check must count.
var harms = []struct {
	name string
	harm func(*fixture)
	want func(*Counts)
}{
	{"nothing", func(*fixture) {}, func(*Counts) {}},
	{"a text without an ack", func(f *fixture) { f.sent[0].Acked = 0 },
		func(c *Counts) { c.Acked--; c.Unacked++ }},
	{"a text that no table has", func(f *fixture) {
		f.evidence.Tables[chat] = remove(f.evidence.Tables[chat], 3)
		for i := range f.evidence.Views[:2] {
			v := &f.evidence.Views[i]
			v.History = remove(v.History, 3)
		}
		f.evidence.Views[1].Unread--
		f.arrivals = slices.Delete(f.arrivals, 2, 3)
	}, func(c *Counts) { c.Stored--; c.Lost++; c.Delivered--; c.Missing++ }},
	{"a text that a history lacks", func(f *fixture) {
		f.evidence.Views[0].History = remove(f.evidence.Views[0].History, 5)
	}, func(c *Counts) { c.Lost++ }},
	{"a text under another id", func(f *fixture) { f.sent[0].Acked = 20 },
		func(c *Counts) { c.Lost++; c.Reordered += 3 }},
	{"a text that did not arrive", func(f *fixture) { f.arrivals = f.arrivals[1:] },
		func(c *Counts) { c.Delivered--; c.Missing++ }},
	{"a text stored twice", func(f *fixture) { f.store(1) },
		func(c *Counts) { c.Duplicated++ }},
	{"a text stored twice, without client_msg_id", func(f *fixture) { f.store(2) },
		func(c *Counts) { c.Repeated++ }},
	{"two texts under one id", func(f *fixture) {
		f.evidence.Tables[chat][1].ID = 1
		f.sent[1].Acked = 1
		f.arrivals[1].ID = 1
		for i := range f.evidence.Views[:2] {
			f.evidence.Views[i].History = f.evidence.Tables[chat]
		}
	}, func(c *Counts) { c.Duplicated++; c.Lost += 3; c.Other++; c.Reordered += 2 }},
	{"a text reported twice by a client that promises not to", func(f *fixture) {
		f.arrivals = append(f.arrivals, f.arrivals[1])
	}, func(c *Counts) { c.Duplicated++ }},
	{"a text pushed again to a stock client", func(f *fixture) {
		f.arrivals = append(f.arrivals, f.arrivals[0])
	}, func(*Counts) {}},
	{"deliveries in another order", func(f *fixture) {
		f.arrivals[1], f.arrivals[3] = f.arrivals[3], f.arrivals[1]
	}, func(c *Counts) { c.Reordered++ }},
	{"the same on the next connection", func(f *fixture) {
		f.arrivals[0], f.arrivals[2] = f.arrivals[2], f.arrivals[0]
		f.arrivals[2].Order = 2
	}, func(*Counts) {}},
	{"a text that a sync fetched after later ones", func(f *fixture) {
		late := f.arrivals[0]
		late.Order, late.Late = 0, true
		f.arrivals = append(f.arrivals[1:], late)
	}, func(c *Counts) { c.Late++ }},
	{"ids in another order than sent", func(f *fixture) {
		f.sent[0], f.sent[2] = f.sent[2], f.sent[0]
	}, func(c *Counts) { c.Reordered++ }},
	{"a history in another order", func(f *fixture) {
		h := f.evidence.Views[2].History
		h[1], h[2] = h[2], h[1]
	}, func(c *Counts) { c.Reordered++ }},
	{"a wrong count of unread messages", func(f *fixture) { f.evidence.Views[3].Unread = 5 },
		func(c *Counts) { c.Unread++ }},
	{"a changed text", func(f *fixture) { f.evidence.Views[0].History[4].Text = "text ?" },
		func(c *Counts) { c.Lost++ }},
	{"a text that nobody sent", func(f *fixture) {
		f.arrivals = append(f.arrivals, Arrival{Client: "own", Conv: chat, Order: 1,
			Message: Message{50, 2, "text ?"}})
	}, func(c *Counts) { c.Delivered++; c.Other++ }},
	{"a text of another row", func(f *fixture) {
		f.arrivals = append(f.arrivals, Arrival{Client: "own", Conv: chat, Order: 1,
			Message: Message{50, 2, "other"}})
	}, func(*Counts) {}},
	{"members that differ", func(f *fixture) { f.evidence.Membership[1].Users = []uint32{1} },
		func(c *Counts) { c.Members++ }},
}

// TestCheck breaks the fixture in one way at a time. The check must count exactly that.
func TestCheck(t *testing.T) {
	whole := Counts{Sent: 16, Acked: 16, Stored: 16, Delivered: 16}
	for _, c := range harms {
		f, want := newFixture(), whole
		c.harm(f)
		c.want(&want)
		got := f.check()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Counts{}, "Examples")); diff != "" {
			t.Errorf("%s (-want +got):\n%s%s", c.name, diff, strings.Join(got.Examples, "\n"))
		}
		if wrong := !want.Clean(true); wrong != (len(got.Examples) > 0) {
			t.Errorf("%s: examples %q", c.name, got.Examples)
		}
	}
}

// store stores the text with an id a second time, in the tables and in the histories.
func (f *fixture) store(id uint32) {
	m := f.evidence.Tables[chat][id-1]
	m.ID = 9
	f.evidence.Tables[chat] = append(f.evidence.Tables[chat], m)
	for i := range f.evidence.Views[:2] {
		v := &f.evidence.Views[i]
		v.History = append(v.History, m)
		if v.User != m.From {
			v.Unread++
		}
	}
}

// TestSilence measures the time without an ack, for each client and conversation.
func TestSilence(t *testing.T) {
	l, begin := NewLedger(""), time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	send := func(client string, seconds int) *Sent {
		s := &Sent{Client: client, Conv: chat}
		l.Send(s, at(seconds))
		return s
	}
	a1, a2 := send("a", 0), send("a", 1)
	l.Ack(a1, 1, at(3))
	l.Ack(a2, 2, at(5))
	if got := l.Silence(at(90)); got != 3*time.Second {
		t.Errorf("after both acks: %v, want 3 s", got)
	}
	b := send("b", 90) // the time without a text that waits does not count
	a3 := send("a", 90)
	l.Ack(a3, 3, at(91))
	if got := l.Silence(at(100)); got != 10*time.Second {
		t.Errorf("while a text waits: %v, want 10 s", got)
	}
	l.Fail(b, at(101))
	l.Ack(b, 1, at(150)) // too late
	if got := l.Silence(at(200)); got != 11*time.Second || l.Waiting() != 0 {
		t.Errorf("after a text was given up: %v, want 11 s; %d texts wait", got, l.Waiting())
	}
}

// TestReport checks the verdict, the columns and the examples.
func TestReport(t *testing.T) {
	r := &Result{Deployment: "separate", Seed: 7, Rows: []Row{
		{Fault: "kill:msg", Rounds: 3, Counts: Counts{Sent: 5, Acked: 5, Stored: 5, Repeated: 1,
			Examples: []string{"an example"}}, Silence: 1250}}}
	for _, c := range []struct {
		change func()
		clean  bool
	}{
		{func() {}, true},
		{func() { r.Repeats = true }, false},
		{func() { r.Rows[0].Repeated = 0 }, true},
		{func() { r.Notes = []string{"a crash"} }, false},
		{func() { r.Notes, r.Rows[0].Lost = nil, 1 }, false},
	} {
		c.change()
		if r.Clean() != c.clean {
			t.Errorf("clean: %v, want %v: %+v", r.Clean(), c.clean, r)
		}
	}
	var text, page, data bytes.Buffer
	for _, err := range []error{r.Text(&text), r.Markdown(&page), r.JSON(&data)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"seed 7", "kill:msg", "1.2 s", "NOT CLEAN", "an example"} {
		if !strings.Contains(text.String(), want) || !strings.Contains(page.String(), want) {
			t.Errorf("no %q in:\n%s%s", want, &text, &page)
		}
	}
	var back Result
	if err := json.Unmarshal(data.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, back); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
}

// TestStall measures waits while a cluster stalls, after it has served without a node.
func TestStall(t *testing.T) {
	l, begin := NewLedger(""), time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	l.Begin(at(0))
	s := &Sent{Client: "a", Conv: chat}
	l.Send(s, at(1))
	l.Serve(true, at(6))
	l.Serve(false, at(8)) // the text has waited for 2 s
	l.Serve(true, at(20))
	l.Ready(at(22)) // without effect
	l.Ack(s, 1, at(23))
	if got, _ := l.Beyond(at(30)); got != 3*time.Second {
		t.Errorf("longest wait %v, want 3 s, after the cluster serves again", got)
	}
}
