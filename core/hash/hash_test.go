package hash

import "testing"

// TestNextGivesTheKnownSequence compares with the published outputs of splitmix64 for the
// seed 1234567.
func TestNextGivesTheKnownSequence(t *testing.T) {
	state := uint64(1234567)
	for i, want := range []uint64{
		6457827717110365317, 3203168211198807973, 9817491932198370423,
		4593380528125082431, 16408922859458223821,
	} {
		if got := Next(state); got != want {
			t.Errorf("output %d: %d, want %d", i, got, want)
		}
		state += step
	}
}

func TestMixKeepsZero(t *testing.T) {
	if got := Mix(0); got != 0 {
		t.Errorf("Mix(0): %d, want 0", got)
	}
	if a, b := Mix(1), Mix(2); a == b {
		t.Errorf("Mix(1) and Mix(2) are both %d", a)
	}
}
