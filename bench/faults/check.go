package faults

import (
	"fmt"
	"maps"
	"slices"
)

// Member is a client in a conversation.
type Member struct {
	Client string
	User   uint32
}

// View is a member's view of a conversation: its history, oldest first, and its count of
// unread messages.
type View struct {
	Member
	Conv    Conv
	History []Message
	Unread  uint32
	// CountUnread says that Unread can be compared: the user read nothing since the begin.
	CountUnread bool
}

// Membership is the list of a group's members, as a user or the tables show it.
type Membership struct {
	Source string
	Group  uint32
	Users  []uint32
}

// Evidence is everything that is compared with a Ledger: the messages since its begin.
type Evidence struct {
	Members    map[Conv][]Member
	Tables     map[Conv][]Message // in the order of their ids
	Views      []View
	Membership []Membership
}

// Counts are the result of a check. Each problem is counted once for each message, or for
// each message and client.
type Counts struct {
	Sent      int `json:"sent"`
	Acked     int `json:"acked"`
	Stored    int `json:"stored"`    // texts in the tables
	Delivered int `json:"delivered"` // texts that arrived, for each receiver
	Late      int `json:"late"`      // of them, not pushed to a stock client that was online

	Unacked    int `json:"unacked"`    // never acked
	Lost       int `json:"lost"`       // acked, and not in the tables or in a history
	Missing    int `json:"missing"`    // acked, and never delivered to a receiver
	Duplicated int `json:"duplicated"` // stored twice, or reported twice to a person
	Repeated   int `json:"repeated"`   // stored twice, and sent without client_msg_id
	Reordered  int `json:"reordered"`  // stored or delivered in another order than sent
	Unread     int `json:"unread"`     // counts that differ from the history
	Members    int `json:"members"`    // lists of members that differ
	Other      int `json:"other"`      // unknown or changed texts, clients that ended

	Examples []string `json:"examples,omitempty"` // at most maxExamples
}

// maxExamples bounds the examples of a row, and repeatedExamples those of texts that stock
// clients repeated.
const maxExamples, repeatedExamples = 20, 3

// Clean reports whether nothing is wrong. Repeated messages of clients without
// client_msg_id count only with repeats.
func (c *Counts) Clean(repeats bool) bool {
	return c.Unacked+c.Lost+c.Missing+c.Duplicated+c.Reordered+c.Unread+c.Members+c.Other == 0 &&
		(!repeats || c.Repeated == 0)
}

// checker compares a ledger with evidence.
type checker struct {
	Counts
	evidence Evidence
	sent     map[string]*Sent
	stored   map[string]uint32           // the first message id of each text in the tables
	rows     map[Conv]map[uint32]Message // the tables, by id
}

// Check compares the records of a ledger with the evidence.
func (l *Ledger) Check(e Evidence) Counts {
	sent, arrivals, reports := l.record()
	c := &checker{evidence: e, sent: make(map[string]*Sent, len(sent)),
		stored: map[string]uint32{}, rows: map[Conv]map[uint32]Message{}}
	for i := range sent {
		c.sent[sent[i].Text] = &sent[i]
	}
	for _, what := range reports {
		c.Other++
		c.example("%s", what)
	}
	c.tables()
	c.acks(sent)
	c.senders(sent)
	c.views(sent)
	c.arrived(sent, arrivals)
	c.unread()
	c.membership()
	return c.Counts
}

// example records the description of a problem.
func (c *checker) example(format string, args ...any) {
	if len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, fmt.Sprintf(format, args...))
	}
}

// tables checks the messages of the tables: each is a text that was sent, with an id of
// its own.
func (c *checker) tables() {
	for conv, messages := range c.evidence.Tables {
		rows := make(map[uint32]Message, len(messages))
		c.rows[conv] = rows
		for _, m := range messages {
			s := c.sent[m.Text]
			if s == nil || s.Conv != conv || s.From != m.From {
				c.Other++
				c.example("%q is stored in %v as %d of user %d, and was not sent there", m.Text,
					conv, m.ID, m.From)
				continue
			}
			if before, taken := rows[m.ID]; taken {
				c.Duplicated++
				c.example("%q and %q have the same id %d in %v", before.Text, m.Text, m.ID, conv)
			}
			rows[m.ID] = m
			first, again := c.stored[m.Text]
			switch {
			case !again:
				c.stored[m.Text] = m.ID
				c.Stored++
				continue
			case s.Named:
				c.Duplicated++
			default:
				if c.Repeated++; c.Repeated > repeatedExamples {
					continue
				}
			}
			c.example("%q is stored twice in %v, as %d and %d", m.Text, conv, first, m.ID)
		}
	}
}

// acks counts the texts, and compares the ids of the acks with the tables.
func (c *checker) acks(sent []Sent) {
	c.Sent = len(sent)
	for i := range sent {
		s := &sent[i]
		if s.Acked == 0 {
			c.Unacked++
			c.example("%q of %s was never acked", s.Text, s.Client)
			continue
		}
		c.Acked++
		if c.rows[s.Conv][s.Acked] != (Message{s.Acked, s.From, s.Text}) {
			c.Lost++
			c.example("%q of %s was acked as %d in %v, and is not stored under that id", s.Text,
				s.Client, s.Acked, s.Conv)
		}
	}
}

// senders checks that the ids of a client's texts in a conversation have the order of the
// texts.
func (c *checker) senders(sent []Sent) {
	last := map[flowKey]*Sent{}
	for i := range sent {
		s := &sent[i]
		if s.Acked == 0 {
			continue
		}
		key := flowKey{s.Client, s.Conv}
		if l := last[key]; l != nil && s.Acked <= l.Acked {
			c.Reordered++
			c.example("%s sent %q after %q, and their ids are %d and %d", s.Client, s.Text, l.Text,
				s.Acked, l.Acked)
		}
		if last[key] == nil || s.Acked > last[key].Acked {
			last[key] = s
		}
	}
}

// views compares the history of each member with the tables.
func (c *checker) views(sent []Sent) {
	missing := map[string]bool{} // each text counts once, whatever the number of its readers
	for _, v := range c.evidence.Views {
		has := make(map[uint32]Message, len(v.History))
		for i, m := range v.History {
			has[m.ID] = m
			if i > 0 && m.ID <= v.History[i-1].ID {
				c.Reordered++
				c.example("the history of %s in %v has %d after %d", v.Client, v.Conv, m.ID,
					v.History[i-1].ID)
			}
		}
		for _, m := range c.evidence.Tables[v.Conv] {
			if has[m.ID] != m && !missing[m.Text] {
				missing[m.Text] = true
				c.lostFor(v, m)
			}
			delete(has, m.ID)
		}
		for _, id := range slices.Sorted(maps.Keys(has)) {
			c.Other++
			c.example("the history of %s in %v has %d, %q, which is in no table", v.Client, v.Conv,
				id, has[id].Text)
		}
	}
}

// lostFor counts a stored message that a member's history lacks. The message counts as
// lost only if it was acked.
func (c *checker) lostFor(v View, m Message) {
	if s := c.sent[m.Text]; s != nil && s.Acked == m.ID {
		c.Lost++
	} else {
		c.Other++
	}
	c.example("the history of %s in %v lacks %d, %q", v.Client, v.Conv, m.ID, m.Text)
}

// seen is the record of a receiver for one text.
type seen struct{ client, text string }

// arrived checks the arrivals: each acked text reaches each receiver, each once, in the
// order of the ids.
func (c *checker) arrived(sent []Sent, arrivals []Arrival) {
	got := map[seen]map[uint32]bool{}
	type stream struct {
		client string
		conv   Conv
		order  int
	}
	last := map[stream]uint32{}
	for _, a := range arrivals {
		key := seen{a.Client, a.Text}
		if got[key] == nil {
			got[key] = map[uint32]bool{}
			c.Delivered++
			if a.Late {
				c.Late++
			}
		}
		if got[key][a.ID] {
			if a.Once {
				c.Duplicated++
				c.example("%s received %d, %q, twice in %v", a.Client, a.ID, a.Text, a.Conv)
			}
			continue
		}
		got[key][a.ID] = true
		c.genuine(a)
		if a.Order == 0 {
			continue
		}
		at := stream{a.Client, a.Conv, a.Order}
		if a.ID <= last[at] {
			c.Reordered++
			c.example("%s received %d, %q, after %d in %v", a.Client, a.ID, a.Text, last[at],
				a.Conv)
		}
		last[at] = max(last[at], a.ID)
	}
	for i := range sent {
		s := &sent[i]
		for _, m := range c.evidence.Members[s.Conv] {
			if s.Acked != 0 && m.Client != s.Client && got[seen{m.Client, s.Text}] == nil {
				c.Missing++
				c.example("%q of %s, acked as %d in %v, did not reach %s", s.Text, s.Client,
					s.Acked, s.Conv, m.Client)
			}
		}
	}
}

// genuine checks that an arrival is a message of the tables.
func (c *checker) genuine(a Arrival) {
	if c.rows[a.Conv][a.ID] != a.Message {
		c.Other++
		c.example("%s received %d, %q of user %d, in %v, which is in no table", a.Client, a.ID,
			a.Text, a.From, a.Conv)
	}
}

// unread compares the counts of unread messages with the tables.
func (c *checker) unread() {
	for _, v := range c.evidence.Views {
		if !v.CountUnread {
			continue
		}
		want := uint32(0)
		for _, m := range c.evidence.Tables[v.Conv] {
			if m.From != v.User {
				want++
			}
		}
		if v.Unread != want {
			c.Unread++
			c.example("%s has %d unread messages in %v, and its history has %d", v.Client, v.Unread,
				v.Conv, want)
		}
	}
}

// membership compares the lists of the members of each group.
func (c *checker) membership() {
	first := map[uint32]Membership{}
	for _, m := range c.evidence.Membership {
		f, there := first[m.Group]
		if !there {
			first[m.Group] = m
			continue
		}
		if !slices.Equal(f.Users, m.Users) {
			c.Members++
			c.example("the members of group %d are %v for %s, and %v for %s", m.Group, f.Users,
				f.Source, m.Users, m.Source)
		}
	}
}
