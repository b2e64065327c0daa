package arrivals

import (
	"iter"
	"slices"
	"strconv"
	"sync"

	"teamtalk/core/im"
)

// Pending is the messages that are committed, and that the tables by conversation do not have. Any
// goroutine may ask for them. All else is for the holder of the connection that writes: a
// transaction takes messages with Take and writes them, and ends with Commit or Rollback.
type Pending struct {
	mu      sync.Mutex
	chats   map[int64]*chat
	order   []*chat          // by their oldest message
	pairs   map[uint64]int64 // conversations of users, by im.ConversationKey
	users   map[uint32]int   // number of conversations of a user
	groups  int
	rows    int
	bytes   int
	taken   int              // by the transaction
	batches []batch          // whose messages are not all written, by id
	ids     map[string]Named // client_msg_ids, by Name
	round   uint64
}

// chat is the messages of a conversation or group, by id.
type chat struct {
	id       int64
	from, to uint32 // of a message, so its users if it is no group
	list     []entry
	taken    int // the first ones of list are written by the transaction
	round    uint64
}

// entry is a message of a batch.
type entry struct {
	Message
	batch int64
}

// batch counts the messages of a batch that are not written.
type batch struct {
	id          int64
	left, taken int
}

// Named is the message that has a client_msg_id.
type Named struct{ ID, At uint32 }

// New returns a Pending without messages.
func New() *Pending {
	p := &Pending{}
	p.clear()
	return p
}

func (p *Pending) clear() {
	p.chats, p.pairs = map[int64]*chat{}, map[uint64]int64{}
	p.users, p.ids = map[uint32]int{}, map[string]Named{}
	p.order, p.batches, p.groups, p.rows, p.bytes, p.taken = nil, nil, 0, 0, 0, 0
}

// Clear forgets all messages.
func (p *Pending) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Add adds the messages of a batch, whose id is higher than that of all others.
func (p *Pending) Add(id int64, list []Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, batch{id: id, left: len(list)})
	for i := range list {
		m := &list[i]
		c := p.chats[m.Chat]
		if c == nil {
			c = p.open(m)
		}
		c.list = append(c.list, entry{*m, id})
		p.rows++
		p.bytes += m.size()
		if len(m.ClientID) > 0 {
			p.ids[Name(m.Chat, m.From, m.ClientID)] = Named{m.ID, m.At}
		}
	}
}

// size is about the memory of a message, in bytes.
func (m *Message) size() int { return 160 + len(m.Data) + 2*len(m.ClientID) }

// open adds the conversation of a message. With mu held.
func (p *Pending) open(m *Message) *chat {
	c := &chat{id: m.Chat, from: m.From, to: m.To, round: p.round}
	p.chats[c.id] = c
	p.order = append(p.order, c)
	if c.id < 0 {
		p.groups++
		return c
	}
	p.pairs[im.ConversationKey(m.From, m.To)] = c.id
	p.users[m.From]++
	p.users[m.To]++
	return c
}

// drop removes a conversation without messages, but not from order. With mu held.
func (p *Pending) drop(c *chat) {
	delete(p.chats, c.id)
	if c.id < 0 {
		p.groups--
		return
	}
	delete(p.pairs, im.ConversationKey(c.from, c.to))
	for _, user := range []uint32{c.from, c.to} {
		if p.users[user]--; p.users[user] == 0 {
			delete(p.users, user)
		}
	}
}

// Name is the key of a client_msg_id of a sender in a conversation.
func Name(chat int64, from uint32, clientID []byte) string {
	b := make([]byte, 0, 32+len(clientID))
	b = append(strconv.AppendInt(b, chat, 36), ' ')
	b = append(strconv.AppendUint(b, uint64(from), 36), ' ')
	return string(append(b, clientID...))
}

// Named returns the last message with a client_msg_id, see Name.
func (p *Pending) Named(name string) (Named, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.ids[name]
	return n, ok
}

// Len returns the number of messages, and about how many bytes they take.
func (p *Pending) Len() (rows, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows, p.bytes
}

// Pair returns the conversation of two users, by im.ConversationKey, and the id of its last
// message. If the transaction has taken all its messages, the tables know, and the result is not
// ok.
func (p *Pending) Pair(key uint64) (chat int64, last uint32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok = p.chats[p.pairs[key]].last()
	return p.pairs[key], last, ok
}

// Last returns the id of the last message of a conversation or group, see Pair.
func (p *Pending) Last(chat int64) (uint32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chats[chat].last()
}

func (c *chat) last() (uint32, bool) {
	if c == nil || c.taken == len(c.list) {
		return 0, false
	}
	return c.list[len(c.list)-1].ID, true
}

// Scope is the conversations that a read or a change is about.
type Scope struct {
	all   bool
	old   bool // all that had messages when the round began
	pair  uint64
	chats []int64
	users []uint32 // in increasing order
}

// All is all conversations, None no conversation.
var (
	All  = Scope{all: true}
	None = Scope{}
	// Round is the conversations that had messages at the last call of Begin.
	Round = Scope{old: true}
)

// Pair is the conversation of two users.
func Pair(a, b uint32) Scope { return Scope{pair: im.ConversationKey(a, b)} }

// Chat is a conversation or group by Message.Chat.
func Chat(id int64) Scope { return Scope{chats: []int64{id}} }

// Groups is groups.
func Groups(ids ...uint32) Scope {
	s := Scope{chats: make([]int64, len(ids))}
	for i, id := range ids {
		s.chats[i] = -int64(id)
	}
	return s
}

// Users is the conversations of users with others, and all groups.
func Users(ids ...uint32) Scope { return Scope{users: slices.Sorted(slices.Values(ids))} }

// Begin begins a round: Round then is the conversations that have messages now.
func (p *Pending) Begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
}

// Has reports whether a scope has messages.
func (p *Pending) Has(s Scope) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.all:
		return p.rows > 0
	case s.old:
		return len(p.order) > 0 && p.order[0].round < p.round
	case len(s.users) > 0:
		return p.groups > 0 || slices.ContainsFunc(s.users, func(u uint32) bool {
			return p.users[u] > 0
		})
	}
	for range p.named(s) {
		return true
	}
	return false
}

// named calls yield with the conversations that a scope names and that have messages. With mu held.
func (p *Pending) named(s Scope) iter.Seq[*chat] {
	return func(yield func(*chat) bool) {
		if c := p.chats[p.pairs[s.pair]]; c != nil && !yield(c) {
			return
		}
		for _, id := range s.chats {
			if c := p.chats[id]; c != nil && !yield(c) {
				return
			}
		}
	}
}

// covers reports whether a scope concerns a conversation that Take looks at.
func (s *Scope) covers(c *chat) bool {
	if len(s.users) == 0 || c.id < 0 {
		return true
	}
	_, from := slices.BinarySearch(s.users, c.from)
	_, to := slices.BinarySearch(s.users, c.to)
	return from || to
}

// Part is messages of a conversation that a transaction writes, by id.
type Part struct {
	Chat     int64
	Messages []*Message
}

// Take takes up to limit messages of a scope, the oldest conversations first. A transaction takes
// no message twice.
func (p *Pending) Take(s Scope, limit int) []Part {
	p.mu.Lock()
	defer p.mu.Unlock()
	candidates := p.named(s)
	if s.all || s.old || len(s.users) > 0 {
		candidates = slices.Values(p.order)
	}
	var parts []Part
	for c := range candidates {
		if limit <= 0 || s.old && c.round >= p.round {
			break
		}
		if n := min(len(c.list)-c.taken, limit); n > 0 && s.covers(c) {
			parts = append(parts, p.take(c, n))
			limit -= n
		}
	}
	return parts
}

// take takes n messages of c. With mu held.
func (p *Pending) take(c *chat, n int) Part {
	part := Part{c.id, make([]*Message, n)}
	for i := range part.Messages {
		e := &c.list[c.taken+i]
		part.Messages[i] = &e.Message
		p.batch(e.batch).taken++
	}
	c.taken += n
	p.taken += n
	return part
}

// batch returns a batch by its id.
func (p *Pending) batch(id int64) *batch {
	i, _ := slices.BinarySearchFunc(p.batches, id, func(b batch, id int64) int {
		return int(b.id - id)
	})
	return &p.batches[i]
}

// Done returns the ids of the batches whose last messages the transaction has taken.
func (p *Pending) Done() (ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.batches {
		if b.taken > 0 && b.taken == b.left {
			ids = append(ids, b.id)
		}
	}
	return ids
}

// Commit forgets what the transaction has taken, which the tables have now. It reports whether that
// was any message.
func (p *Pending) Commit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == 0 {
		return false
	}
	p.taken = 0
	p.order = slices.DeleteFunc(p.order, func(c *chat) bool {
		for i := range c.list[:c.taken] {
			m := &c.list[i].Message
			p.rows--
			p.bytes -= m.size()
			if len(m.ClientID) > 0 {
				p.forget(m)
			}
		}
		c.list, c.taken = c.list[c.taken:], 0
		if len(c.list) == 0 {
			p.drop(c)
		}
		return len(c.list) == 0
	})
	p.batches = slices.DeleteFunc(p.batches, func(b batch) bool { return b.left == b.taken })
	for i := range p.batches {
		b := &p.batches[i]
		b.left, b.taken = b.left-b.taken, 0
	}
	return true
}

// forget removes the client_msg_id of a message. With mu held.
func (p *Pending) forget(m *Message) {
	name := Name(m.Chat, m.From, m.ClientID)
	if p.ids[name].ID == m.ID {
		delete(p.ids, name)
	}
}

// Rollback gives back what the transaction has taken.
func (p *Pending) Rollback() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == 0 {
		return
	}
	p.taken = 0
	for _, c := range p.order {
		c.taken = 0
	}
	for i := range p.batches {
		p.batches[i].taken = 0
	}
}
