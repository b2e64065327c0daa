// Package arrivals is what the embedded store keeps of messages between their commit, in the order
// of arrival, and the moment when the tables by conversation have them.
package arrivals

import (
	"encoding/binary"
	"errors"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Message is a message that was accepted. Its id is given.
type Message struct {
	Chat     int64 // id of the conversation of its users; of a group, the negative of its id
	ID       uint32
	From, To uint32 // To is a user, or the group
	Type     pb.MsgType
	Created  uint32 // by the clock of the message server, in unix seconds
	At       uint32 // by the clock of the store
	SentAs   uint32
	ClientID []byte    // empty: none
	Data     []byte    // without Audio
	Audio    *im.Audio // of an audio message
}

// version is the first byte of a batch.
const version = 1

// Encode returns a batch as the table has it.
func Encode(batch []Message) []byte {
	size := 1
	for i := range batch {
		m := &batch[i]
		size += 64 + len(m.Data) + len(m.ClientID)
		if m.Audio != nil {
			size += len(m.Audio.Path)
		}
	}
	b := append(make([]byte, 0, size), version)
	for i := range batch {
		b = batch[i].encode(b)
	}
	return b
}

func (m *Message) encode(b []byte) []byte {
	b = binary.AppendVarint(b, m.Chat)
	for _, n := range []uint32{m.ID, m.From, m.To, uint32(m.Type), m.Created, m.At, m.SentAs} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = appendBytes(b, m.ClientID)
	if m.Audio == nil {
		return appendBytes(append(b, 0), m.Data)
	}
	b = binary.AppendUvarint(append(b, 1), uint64(m.Audio.Size))
	b = binary.AppendUvarint(b, uint64(m.Audio.Duration))
	return appendBytes(b, []byte(m.Audio.Path))
}

func appendBytes(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

var errDamaged = errors.New("a batch of messages in the table Arrived is damaged")

// Decode returns the messages of a batch. Their bytes are those of b.
func Decode(b []byte) ([]Message, error) {
	if len(b) == 0 || b[0] != version {
		return nil, errDamaged
	}
	r := reader{b: b[1:]}
	var batch []Message
	for len(r.b) > 0 && !r.bad {
		batch = append(batch, r.message())
	}
	if r.bad {
		return nil, errDamaged
	}
	return batch, nil
}

// reader reads a batch from the front of b.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) message() Message {
	var m Message
	m.Chat = r.signed()
	var kind uint32
	for _, n := range []*uint32{&m.ID, &m.From, &m.To, &kind, &m.Created, &m.At, &m.SentAs} {
		*n = r.number()
	}
	m.Type, m.ClientID = pb.MsgType(kind), r.bytes()
	switch r.number() {
	case 0:
		m.Data = r.bytes()
	case 1:
		m.Audio = &im.Audio{Size: r.number(), Duration: r.number()}
		m.Audio.Path = string(r.bytes())
	default:
		r.bad = true
	}
	r.bad = r.bad || m.Chat == 0 || m.ID == 0
	return m
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	r.skip(size)
	return n
}

func (r *reader) number() uint32 {
	n, size := binary.Uvarint(r.b)
	r.skip(size)
	r.bad = r.bad || n != uint64(uint32(n))
	return uint32(n)
}

// skip drops size bytes; no number was read if it is 0 or negative.
func (r *reader) skip(size int) {
	if size <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[size:]
}

func (r *reader) bytes() []byte {
	n := int64(r.number())
	if n > int64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	text := r.b[:n:n]
	r.b = r.b[n:]
	return text
}
