package numbering

import "testing"

// TestMemoryIsBounded fills the memory of many conversations.
func TestMemoryIsBounded(t *testing.T) {
	const conversations = maxTotal / 1000
	m, err := New(2 * conversations)
	if err != nil {
		t.Fatal(err)
	}
	stored := func(c int64, id uint32) { m.Note(c, id, Key{1, id}, id) }
	ask := func(l *List) {
		for id := range l.Find(Key{2, 1}, 0) {
			t.Fatalf("message %d is numbered like one that nobody sent", id)
		}
	}
	for c := range int64(conversations) {
		m.Put(c, NewList(1))
		for id := uint32(1); id <= 1500; id++ {
			if l := m.Get(c, id-1); l != nil {
				ask(l)
			}
			stored(c, id)
		}
	}
	if m.total > maxTotal || m.total < maxTotal-2*LookBack {
		t.Errorf("%d messages are remembered, the bound is %d", m.total, maxTotal)
	}
	last := int64(conversations - 1)
	l := m.Get(last, 1500)
	if l == nil {
		t.Fatal("the last conversation is forgotten")
	}
	for id := uint32(1501); id <= 20_000; id++ {
		ask(l)
		stored(last, id)
	}
	if len(l.list) >= 2*LookBack || len(l.newest) != len(l.list) || l.Last() != 20_000 {
		t.Errorf("%d messages with %d numbers up to %d", len(l.list), len(l.newest), l.Last())
	}
	for id := uint32(20_001); id <= 20_001+LookBack; id++ {
		stored(last, id) // nobody asks
	}
	if m.Get(last, 20_001+LookBack) != nil {
		t.Error("a conversation is remembered that nobody asks for")
	}
	m.Clear()
	if m.total != 0 {
		t.Errorf("nothing is remembered, and %d messages are counted", m.total)
	}
}
