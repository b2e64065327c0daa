package faults

import (
	"strings"
	"sync"
	"time"
)

// Conv is a conversation: that of two users, A < B, or that of a group.
type Conv struct{ A, B, Group uint32 }

// pair returns the conversation of two users.
func pair(a, b uint32) Conv { return Conv{A: min(a, b), B: max(a, b)} }

// other returns the user that a user writes to in a conversation of two.
func (c Conv) other(user uint32) uint32 { return c.A + c.B - user }

// Message is a message in a history or in a table.
type Message struct {
	ID   uint32
	From uint32
	Text string
}

// Sent is a text that a client sent. Each text is sent once, however often its frame is.
type Sent struct {
	Client string // the sender
	From   uint32
	Conv   Conv
	Text   string
	Named  bool   // it has a client_msg_id
	Acked  uint32 // the message id of its ack; 0: none
	Failed bool   // its client gave it up

	events []event // the first one is that it was sent
}

// Arrival is a message that a client received: pushed, or fetched after a new connection.
type Arrival struct {
	Client string // the receiver
	Conv   Conv
	Message
	// Order is equal for arrivals that must be in the order of their ids; 0: in any order.
	// A client of this project promises that order for ever, a stock client shows it for
	// each connection.
	Order int
	// Once says that the client promises to report each message once. A stock client gets
	// a message again that it has not acked.
	Once bool
	// Late says that a stock client got the message only by the sync that ends a row. It was
	// online, and no server pushed the message to it.
	Late bool
}

// Ledger records the events of all clients. Any goroutine.
type Ledger struct {
	label string // begins all texts; messages with other texts belong to another ledger

	mu       sync.Mutex // guards the following fields
	sent     []*Sent
	arrivals []Arrival
	flows    map[flowKey]*silence
	open     map[*Sent]struct{} // texts without an ack, and not given up
	failed   int
	reports  []string // events that must not happen
	waits    waits
}

// flowKey names the texts of a client in one conversation.
type flowKey struct {
	client string
	conv   Conv
}

// silence measures the time without an ack while texts wait for theirs.
type silence struct {
	waiting int
	since   time.Time // the later of the last ack and the time at which texts began to wait
	longest time.Duration
	worst   string // what happened to the text whose ack ended the longest silence
	acked   int
}

// NewLedger returns an empty ledger for texts that begin with a label.
func NewLedger(label string) *Ledger {
	return &Ledger{label: label, flows: map[flowKey]*silence{}, open: map[*Sent]struct{}{},
		waits: waits{offline: map[string]time.Time{}}}
}

// Send records a text that is about to be sent.
func (l *Ledger) Send(s *Sent, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, s)
	l.open[s] = struct{}{}
	s.note(now, "sent")
	f := l.flow(s)
	if f.waiting++; f.waiting == 1 {
		f.since = now
	}
}

// flow returns the silence of a text's flow. The caller holds l.mu.
func (l *Ledger) flow(s *Sent) *silence {
	key := flowKey{s.Client, s.Conv}
	f := l.flows[key]
	if f == nil {
		f = &silence{}
		l.flows[key] = f
	}
	return f
}

// Ack records the ack of a text.
func (l *Ledger) Ack(s *Sent, id uint32, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Acked != 0 || s.Failed {
		return
	}
	s.Acked = id
	delete(l.open, s)
	s.note(now, "acked")
	l.waits.measure(s, now)
	f := l.flow(s)
	l.end(f, s, now)
	f.acked++
}

// Fail records that a client gave up a text.
func (l *Ledger) Fail(s *Sent, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Acked != 0 || s.Failed {
		return
	}
	s.Failed = true
	delete(l.open, s)
	s.note(now, "given up")
	l.waits.measure(s, now)
	l.failed++
	l.end(l.flow(s), s, now)
}

// end ends the wait of a text of a flow. The caller holds l.mu.
func (l *Ledger) end(f *silence, s *Sent, now time.Time) {
	if d := now.Sub(f.since); d > f.longest {
		f.longest, f.worst = d, l.waits.silent(s, f.since)
	}
	f.since = now
	f.waiting--
}

// Arrive records a message that a client received, unless it belongs to another ledger.
func (l *Ledger) Arrive(a Arrival) {
	if !strings.HasPrefix(a.Text, l.label) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals = append(l.arrivals, a)
}

// Report records an event that must not happen, such as a client that was kicked.
func (l *Ledger) Report(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports = append(l.reports, what)
}

// Waiting returns the number of texts without an ack that are not given up.
func (l *Ledger) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// acks returns the number of acks of each flow.
func (l *Ledger) acks() map[flowKey]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := make(map[flowKey]int, len(l.flows))
	for k, f := range l.flows {
		n[k] = f.acked
	}
	return n
}

// Silence returns the longest time in which a client got no ack in a conversation while a
// text waited for one, up to now.
func (l *Ledger) Silence(now time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flows {
		longest = max(longest, f.longest)
		if f.waiting > 0 {
			longest = max(longest, now.Sub(f.since))
		}
	}
	return longest
}

// Silent describes the longest silence that has ended.
func (l *Ledger) Silent() (worst string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for _, f := range l.flows {
		if f.longest > longest {
			longest, worst = f.longest, f.worst
		}
	}
	return worst
}

// record returns copies of the records.
func (l *Ledger) record() (sent []Sent, arrivals []Arrival, reports []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sent {
		sent = append(sent, *s)
	}
	return sent, append(arrivals, l.arrivals...), append(reports, l.reports...)
}

// undelivered returns the number of deliveries that are due: of texts that have an ack, to
// the other clients in their conversations.
func (l *Ledger) undelivered(members map[Conv][]Member) (missing int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := map[string]map[string]bool{}
	for _, a := range l.arrivals {
		if got[a.Text] == nil {
			got[a.Text] = map[string]bool{}
		}
		got[a.Text][a.Client] = true
	}
	for _, s := range l.sent {
		for _, m := range members[s.Conv] {
			if s.Acked != 0 && m.Client != s.Client && !got[s.Text][m.Client] {
				missing++
			}
		}
	}
	return missing
}
