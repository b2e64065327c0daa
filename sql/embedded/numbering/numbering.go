// Package numbering remembers how the last messages of conversations were numbered by the clients
// that sent them, so that a message which may be a repeat need not be looked for in the table.
package numbering

import lru "github.com/hashicorp/golang-lru/v2"

const (
	// LookBack is how many of the last messages of a conversation are searched for a message
	// that was sent before. In the seconds concerned a connection sends fewer.
	LookBack = 1024
	// trimAt is the length from which a list is cut to LookBack messages.
	trimAt = LookBack + LookBack/4
	// maxTotal bounds the messages that all conversations remember, at about 60 bytes each. It
	// has room for 400 conversations with LookBack messages a minute: to read a list again for
	// each message took a fifth of the processor time of a server with 200 of them.
	maxTotal = 512 << 10
)

// Key is how a sender numbered a message.
type Key struct{ From, SentAs uint32 }

// message is what is remembered of a message.
type message struct {
	Key
	created uint32
	before  uint32 // id of the message before with this key, which may be forgotten; 0: none
}

// List is how the last messages of a conversation were numbered: of LookBack messages at least,
// or of all.
type List struct {
	first  uint32         // id of list[0]
	list   []message      // ids that follow each other; one without a message has no sender
	newest map[Key]uint32 // id of the last message with each key, in list
	asked  uint32         // id of the last message when the list was last needed
}

// NewList returns a list that begins with the message with an id.
func NewList(first uint32) *List { return &List{first: first, newest: map[Key]uint32{}} }

// Last returns the id of the last message.
func (l *List) Last() uint32 { return l.first + uint32(len(l.list)) - 1 }

// Add appends a message with an id after the last one. Ids in between are of no message.
func (l *List) Add(id uint32, key Key, created uint32) {
	for l.Last()+1 < id {
		l.list = append(l.list, message{})
	}
	m := message{Key: key, created: created}
	if key.SentAs != 0 {
		m.before, l.newest[key] = l.newest[key], id
	}
	l.list = append(l.list, m)
}

// Find calls yield with the ids of the messages with a key that were created at since or later,
// the newest first, until it returns false.
func (l *List) Find(key Key, since uint32) func(yield func(id uint32) bool) {
	return func(yield func(uint32) bool) {
		last := l.Last()
		l.asked = last
		for id := l.newest[key]; id >= l.first && last-id < LookBack; {
			m := &l.list[id-l.first]
			if m.created >= since && !yield(id) {
				return
			}
			id = m.before
		}
	}
}

// trim forgets all but the last LookBack messages, and returns how many it forgot.
func (l *List) trim() int {
	dropped := len(l.list) - LookBack
	for i := range l.list[:dropped] {
		if key := l.list[i].Key; l.newest[key] == l.first+uint32(i) {
			delete(l.newest, key)
		}
	}
	l.list = l.list[:copy(l.list, l.list[dropped:])]
	l.first += uint32(dropped)
	return dropped
}

// Memory is the lists of the conversations that are in use, by a number of the conversation. Only
// one goroutine may use it at a time.
type Memory struct {
	cache *lru.Cache[int64, *List]
	total int // messages
}

// New returns a memory for up to n conversations, n > 0, and 524,288 messages.
func New(n int) (*Memory, error) {
	m := &Memory{}
	var err error
	m.cache, err = lru.NewWithEvict(n, func(_ int64, l *List) { m.total -= len(l.list) })
	return m, err
}

// Get returns the list of a conversation with this last message, nil when there is none.
func (m *Memory) Get(conversation int64, last uint32) *List {
	l, ok := m.cache.Get(conversation)
	if !ok {
		return nil
	}
	if l.Last() != last {
		m.cache.Remove(conversation)
		return nil
	}
	return l
}

// Put takes the list of a conversation.
func (m *Memory) Put(conversation int64, l *List) {
	m.cache.Remove(conversation)
	m.cache.Add(conversation, l)
	m.total += len(l.list)
	m.bound()
}

// Note adds a message that was stored to the list of its conversation, if there is one. A list
// that was not needed for LookBack messages is dropped.
func (m *Memory) Note(conversation int64, id uint32, key Key, created uint32) {
	l, ok := m.cache.Peek(conversation)
	if !ok {
		return
	}
	if id != l.Last()+1 || id-l.asked > LookBack {
		m.cache.Remove(conversation)
		return
	}
	l.Add(id, key, created)
	m.total++
	if len(l.list) >= trimAt {
		m.total -= l.trim()
	}
	m.bound()
}

// bound drops the lists that were not needed for longest while there are too many messages.
func (m *Memory) bound() {
	for m.total > maxTotal && m.cache.Len() > 1 {
		m.cache.RemoveOldest()
	}
}

// Clear drops all lists.
func (m *Memory) Clear() { m.cache.Purge() }
