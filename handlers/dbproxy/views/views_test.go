package views

import (
	"testing"

	"teamtalk/core/im"
)

// TestPage: an answer full of the longest sounds is cut so that its frame fits the limit
// between servers.
func TestPage(t *testing.T) {
	long := &im.Audio{Size: im.MaxAudio}
	list := make([]im.Message, 100)
	for i := range list {
		list[i] = im.Message{ID: uint32(100 - i), Audio: long}
	}
	v := &Views{Bytes: 32 << 20}
	got := v.Page(list)
	if n := len(got); n == 0 || n*im.MaxAudio > v.Bytes || (n+1)*im.MaxAudio <= v.Bytes ||
		got[0].ID != 100 {
		t.Errorf("%d of 100 sounds of a megabyte", n)
	}
	if got := v.Page([]im.Message{{Audio: &im.Audio{Size: 1<<32 - 1}}, {}}); len(got) != 2 {
		t.Errorf("an impossible size: %d messages", len(got))
	}
	texts := []im.Message{{Data: make([]byte, v.Bytes)}, {Data: []byte("x")}}
	if got := v.Page(texts); len(got) != 1 {
		t.Errorf("one byte too many: %d messages", len(got))
	}
	if got := v.Page(texts[:1]); len(got) != 1 {
		t.Errorf("one message alone: %d", len(got))
	}
}
