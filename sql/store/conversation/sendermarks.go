package conversation

import (
	"context"
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/core/mono"
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
	epoch   uint64
	now     int64 // mono.Of
	of      []*Draw
	written []bool // set has marked the senders of a draw
	keys    []any  // strings
	answers []*redis.Cmd
}

// markAgain is the time for which a mark that this process has made is not made again. It lives
// that much longer.
const markAgain = time.Second

// marked is what this process knows of the mark of a conversation: the bits that it has set in an
// epoch, and until when they need not be set again. The lock of the conversation guards it.
type marked struct {
	bits, epoch uint64
	until       int64 // mono.Of
}

// has reports whether all bits are set.
func (k *marked) has(bits, epoch uint64, now int64) bool {
	return k.epoch == epoch && now < k.until && bits&^k.bits == 0
}

// add records bits that were set at a time.
func (k *marked) add(bits, epoch uint64, now int64) {
	if k.epoch != epoch || now >= k.until {
		*k = marked{epoch: epoch, until: now + int64(markAgain)}
	}
	k.bits |= bits
}

// senderMarksOf returns the marks for the draws in list that need them.
func (s *IDs) senderMarksOf(list []*Draw) *senderMarks {
	m := &senderMarks{cluster: s.db.Redis.Cluster, epoch: s.db.Epoch.Now(),
		now: mono.Of(s.db.ProcessTime()), of: make([]*Draw, 0, len(list)),
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

// set marks the senders of messages that may be repeats, unless this process has just done so.
func (m *senderMarks) set(p redis.Pipeliner) {
	ctx := context.Background() // that of the pipeline counts
	m.written = make([]bool, len(m.of))
	for i, d := range m.of {
		if d.repeaters == 0 || d.Conversation.isMarked(d.repeaters, m) {
			continue
		}
		m.written[i] = true
		key, _ := m.keys[i].(string)
		for left := d.repeaters; left != 0; left &= left - 1 {
			// The lowest bit of the number is the last one of the string.
			p.SetBit(ctx, key, int64(63-bits.TrailingZeros64(left)), 1)
		}
		p.Expire(ctx, key, time.Duration(d.within)*time.Second+markAgain)
	}
}

// isMarked reports whether this process has marked senders a moment ago.
func (c *Conversation) isMarked(senders uint64, m *senderMarks) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marked.has(senders, m.epoch, m.now)
}

// noteMark records what Redis has of the mark of a draw.
func (m *senderMarks) noteMark(d *Draw, written bool) {
	if d.repeaters == 0 {
		return
	}
	c := d.Conversation
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case d.repeaters&^d.marked != 0: // Redis has lost it
		c.marked = marked{}
	case written:
		c.marked.add(d.repeaters, m.epoch, m.now)
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
		if err := answer.Err(); err == nil {
			m.noteMark(d, m.written[i])
		}
	}
}
