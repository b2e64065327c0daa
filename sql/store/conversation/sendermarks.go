package conversation

import (
	"context"
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
)

// senderBit returns the bit of a user in the mark of a conversation. Users that share a bit
// only cost look-ups in vain.
func senderBit(user uint32) uint64 { return 1 << (user % 64) }

// AddSender adds the sender of m, a message that its client numbered, to a draw.
func (d *Draw) AddSender(m *im.Message) {
	d.numbered = true
	if d.within = max(d.within, m.ResentWithin); m.ResentWithin != 0 {
		d.repeaters |= senderBit(m.From)
	}
}

// Guards reports whether a message of a draw may have been stored by another batch.
func (d *Draw) Guards(m *im.Message) bool {
	return d.numbered && IsNumbered(m) &&
		(m.ResentWithin != 0 || d.marked&senderBit(m.From) != 0)
}

// IsNumbered reports whether a message can be recognised by how its client numbered it.
func IsNumbered(m *im.Message) bool { return m.SentAs != 0 && len(m.ClientID) == 0 }

// senderMarks is the marks of the conversations in a list of draws.
type senderMarks struct {
	cluster bool
	of      []*Draw
	keys    []any // strings
	answers []*redis.Cmd
}

// senderMarksOf returns the marks for the draws in list that need them.
func (s *IDs) senderMarksOf(list []*Draw) *senderMarks {
	m := &senderMarks{cluster: s.db.Redis.Cluster, of: make([]*Draw, 0, len(list)),
		keys: make([]any, 0, len(list))}
	for _, d := range list {
		if d.numbered {
			m.of, m.keys = append(m.of, d), append(m.keys, d.Conversation.markKey())
		}
	}
	return m
}

// markKey returns the key of the conversation's mark, a string. It is in the slot of the
// counter: a server runs its commands in order.
func (c *Conversation) markKey() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mark == nil {
		c.mark = "resent_{" + c.Thread.Counter() + "}"
	}
	return c.mark
}

// set marks the senders of messages that may be repeats.
func (m *senderMarks) set(p redis.Pipeliner) {
	ctx := context.Background() // that of the pipeline counts
	for i, d := range m.of {
		if d.repeaters == 0 {
			continue
		}
		key, _ := m.keys[i].(string)
		for left := d.repeaters; left != 0; left &= left - 1 {
			// The lowest bit of the number is the last one of the string.
			p.SetBit(ctx, key, int64(63-bits.TrailingZeros64(left)), 1)
		}
		p.Expire(ctx, key, time.Duration(d.within)*time.Second)
	}
}

// get reads the marks.
func (m *senderMarks) get(p redis.Pipeliner) {
	m.answers = m.answers[:0]
	size := len(m.keys)
	if m.cluster {
		size = 1 // the keys are on several servers
	}
	for keys := m.keys; len(keys) > 0; keys = keys[size:] {
		command := make([]any, 1, size+1)
		command[0] = "mget"
		m.answers = append(m.answers, p.Do(context.Background(),
			append(command, keys[:size]...)...))
	}
}

// read takes the answers. A mark that cannot be read has all senders.
func (m *senderMarks) read() {
	size := 1
	if !m.cluster {
		size = len(m.of)
	}
	for i, d := range m.of {
		answer := m.answers[i/size]
		switch values, err := answer.Slice(); {
		case err != nil || i%size >= len(values):
			d.marked = math.MaxUint64
		case values[i%size] != nil:
			var b [8]byte
			text, _ := values[i%size].(string)
			copy(b[:], text)
			d.marked = binary.BigEndian.Uint64(b[:])
		}
	}
}
