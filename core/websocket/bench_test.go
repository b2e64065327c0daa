package websocket

import (
	"testing"
)

// BenchmarkText reads a masked message of 128 bytes, and writes one of the same length.
func BenchmarkText(b *testing.B) {
	in := frame(binaryFin, pdus(128))
	var r Reader
	var w Writer
	out := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		f, err := r.Next(in, limit) // unmasks and masks again, in turn
		if err != nil || f.Kind != Message {
			b.Fatal(f, err)
		}
		copy(f.Payload, []byte{0, 0, 0, 128})
		out = framed(&w, out[:0], f.Payload)
	}
}

// TestAllocations: a message in one frame, and one that leaves, take no memory.
func TestAllocations(t *testing.T) {
	in := frame(binaryFin, pdus(128))
	stream := pdus(128)
	var r Reader
	var w Writer
	out := make([]byte, 0, 256)
	n := testing.AllocsPerRun(100, func() {
		if f, err := r.Next(in, limit); err != nil || f.Kind != Message {
			t.Fatal(f, err)
		}
		out = framed(&w, out[:0], stream)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
