package batch

import (
	"slices"
	"testing"
)

func TestTakeReturnsWaitingElementsOnce(t *testing.T) {
	var b Buffer[int]
	for round := range 4 {
		want := []int{round, round + 1}
		b.Waiting = append(b.Waiting, want...)
		got := b.Take(100)
		b.Waiting = append(b.Waiting, -1) // a producer during the work on the batch
		if !slices.Equal(got, want) {
			t.Errorf("round %d: took %v, want %v", round, got, want)
		}
		if got := b.Take(100); !slices.Equal(got, []int{-1}) {
			t.Errorf("round %d: took %v, want [-1]", round, got)
		}
	}
	if got := b.Take(100); len(got) != 0 {
		t.Errorf("took %v from an empty buffer", got)
	}
}

func TestTakeReusesMemory(t *testing.T) {
	var b Buffer[byte]
	if n := testing.AllocsPerRun(100, func() {
		b.Waiting = append(b.Waiting, "ten bytes!"...)
		b.Take(100)
	}); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
}

func TestTakeReleasesMemoryOfAFlood(t *testing.T) {
	var b Buffer[byte]
	b.Waiting = make([]byte, 101)
	b.Take(100)
	b.Take(100)
	if n := cap(b.Waiting); n > 100 {
		t.Errorf("kept room for %d elements, want at most 100", n)
	}
}
