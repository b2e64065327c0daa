package arrivals

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// examples are messages of every form.
func examples() []Message {
	return []Message{
		{Chat: 7, ID: 1, From: 1, To: 2, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Created: 1 << 31,
			At: 1<<32 - 1, SentAs: 9, ClientID: []byte("id"), Data: []byte("text")},
		{Chat: -7, ID: 1<<32 - 1, From: 1, To: 7, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT,
			ClientID: []byte{}, Data: []byte{}},
		{Chat: 1 << 40, ID: 3, From: 2, To: 1, Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
			ClientID: []byte{}, Audio: &im.Audio{Path: "a/b", Size: 3, Duration: 4}},
	}
}

func TestEncode(t *testing.T) {
	want := examples()
	got, err := Decode(Encode(want))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	b := Encode(want)
	for n := range len(b) {
		if got, err := Decode(b[:n]); err == nil && len(got) == len(want) {
			t.Errorf("%d of %d bytes are whole", n, len(b))
		}
	}
	for _, bad := range [][]byte{nil, {}, {0}, {2}, Encode([]Message{{Chat: 0, ID: 1}}),
		Encode([]Message{{Chat: 1, ID: 0}})} {
		if got, err := Decode(bad); err == nil {
			t.Errorf("%x is %v", bad, got)
		}
	}
}

// FuzzDecode: what Decode accepts, Encode keeps.
func FuzzDecode(f *testing.F) {
	f.Add(Encode(examples()))
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Encode(list))
		if diff := cmp.Diff(list, again); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	})
}

// model is a Pending that does nothing fast.
type model struct {
	waiting []entry
	taken   map[*Message]bool
}

// TestPending adds, takes, commits and rolls back at random, and compares with a model: each
// message is taken in the order of its conversation, and once it is committed never again. A
// batch is done with the transaction that takes the last of its messages.
func TestPending(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := New()
	var m model
	next := map[int64]uint32{}
	written := map[int64]uint32{}
	for step := range 4000 {
		switch r.IntN(4) {
		case 0:
			m.add(p, int64(step+1), batchOf(r, next))
		case 1, 2:
			m.transaction(t, p, r, written)
		case 3:
			m.compare(t, p)
		}
	}
	for range 2 {
		m.taken = map[*Message]bool{}
		m.take(t, p, All, 1<<30, written)
		m.end(p, true)
	}
	if rows, size := p.Len(); rows != 0 || size != 0 || p.Has(All) || len(p.users) != 0 ||
		len(p.pairs) != 0 || len(p.ids) != 0 || len(p.batches) != 0 || p.groups != 0 {
		t.Errorf("%d messages, %d bytes left: %+v", rows, size, p)
	}
	for chat, id := range next {
		if written[chat] != id {
			t.Errorf("conversation %d: %d of %d messages written", chat, written[chat], id)
		}
	}
}

// batchOf returns new messages of some conversations.
func batchOf(r *rand.Rand, next map[int64]uint32) []Message {
	list := make([]Message, 1+r.IntN(8))
	for i := range list {
		from, to := 1+uint32(r.IntN(4)), 5+uint32(r.IntN(3))
		m := Message{Chat: int64(from*10 + to), From: from, To: to}
		if r.IntN(3) == 0 {
			m.Chat = -int64(to)
		}
		next[m.Chat]++
		if m.ID = next[m.Chat]; m.ID%2 == 0 {
			m.ClientID = fmt.Append(nil, m.ID%8)
		}
		list[i] = m
	}
	return list
}

func (m *model) add(p *Pending, id int64, list []Message) {
	p.Add(id, list)
	for i := range list {
		m.waiting = append(m.waiting, entry{list[i], id})
	}
}

// transaction takes messages of some scopes, and commits or rolls back.
func (m *model) transaction(t *testing.T, p *Pending, r *rand.Rand, written map[int64]uint32) {
	m.taken = map[*Message]bool{}
	before := map[int64]uint32{}
	for chat, id := range written {
		before[chat] = id
	}
	if r.IntN(3) == 0 {
		p.Begin()
	}
	for range 1 + r.IntN(3) {
		from, to := 1+uint32(r.IntN(4)), 5+uint32(r.IntN(3))
		scopes := []Scope{Round, Round, Users(from), Users(from, to), Pair(to, from), Groups(to),
			Groups(to, from), Chat(int64(from*10 + to)), None}
		m.take(t, p, scopes[r.IntN(len(scopes))], 1+r.IntN(20), written)
	}
	keep := r.IntN(3) > 0
	if !keep {
		clear(written)
		for chat, id := range before {
			written[chat] = id
		}
	}
	m.end(p, keep)
}

func (m *model) take(t *testing.T, p *Pending, s Scope, limit int, written map[int64]uint32) {
	t.Helper()
	parts := p.Take(s, limit)
	n := 0
	for _, part := range parts {
		for _, got := range part.Messages {
			n++
			if got.Chat != part.Chat || got.ID != written[got.Chat]+1 {
				t.Fatalf("message %d of %d taken after %d", got.ID, got.Chat, written[got.Chat])
			}
			written[got.Chat] = got.ID
			for i := range m.waiting {
				if w := &m.waiting[i].Message; w.Chat == got.Chat && w.ID == got.ID {
					m.taken[w] = true
				}
			}
		}
	}
	if n > limit {
		t.Fatalf("%d messages taken, %d at most", n, limit)
	}
	left := map[int64]int{}
	whole := map[int64]bool{}
	for i := range m.waiting {
		w := &m.waiting[i]
		if left[w.batch] += 1; m.taken[&w.Message] {
			left[w.batch]--
		}
		whole[w.batch] = left[w.batch] == 0
	}
	for _, id := range p.Done() {
		if !whole[id] {
			t.Fatalf("batch %d is done, and %d of its messages are not written", id, left[id])
		}
		delete(whole, id)
	}
	for id, is := range whole {
		if is {
			t.Fatalf("batch %d is not done", id)
		}
	}
}

func (m *model) end(p *Pending, keep bool) {
	if !keep {
		p.Rollback()
		return
	}
	p.Commit()
	var left []entry
	for i := range m.waiting {
		if !m.taken[&m.waiting[i].Message] {
			left = append(left, m.waiting[i])
		}
	}
	m.waiting = left
}

// compare asks for what waits.
func (m *model) compare(t *testing.T, p *Pending) {
	t.Helper()
	last := map[int64]uint32{}
	names := map[string]uint32{}
	for i := range m.waiting {
		w := &m.waiting[i].Message
		last[w.Chat] = w.ID
		if len(w.ClientID) > 0 {
			names[Name(w.Chat, w.From, w.ClientID)] = w.ID
		}
	}
	if rows, _ := p.Len(); rows != len(m.waiting) || p.Has(All) != (rows > 0) || p.Has(None) {
		t.Fatalf("%d messages, want %d", rows, len(m.waiting))
	}
	for from := uint32(1); from < 5; from++ {
		for to := uint32(5); to < 8; to++ {
			chat := int64(from*10 + to)
			got, ok := p.Last(chat)
			_, pair, _ := p.Pair(im.ConversationKey(to, from))
			if got != last[chat] || ok != (got != 0) || pair != got ||
				p.Has(Pair(from, to)) != ok || p.Has(Chat(chat)) != ok {
				t.Fatalf("conversation %d ends at %d, want %d", chat, got, last[chat])
			}
			if got, _ := p.Last(-int64(to)); got != last[-int64(to)] ||
				p.Has(Groups(to)) != (got != 0) {
				t.Fatalf("group %d ends at %d, want %d", to, got, last[-int64(to)])
			}
		}
	}
	for name, id := range names {
		if got, ok := p.Named(name); !ok || got.ID != id {
			t.Fatalf("%q is message %d, want %d", name, got.ID, id)
		}
	}
	if len(p.ids) != len(names) {
		t.Fatalf("%d client_msg_ids, want %d", len(p.ids), len(names))
	}
}

// TestOwnBytes: messages that wait are not changed with the buffers of their senders.
func TestOwnBytes(t *testing.T) {
	data := []byte("text")
	b := Encode([]Message{{Chat: 1, ID: 1, Data: data}})
	data[0] = 'T'
	list, err := Decode(b)
	if err != nil || !bytes.Equal(list[0].Data, []byte("text")) {
		t.Errorf("%v %v", list, err)
	}
}
