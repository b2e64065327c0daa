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

// TestChoose: a candidate that is not usable loses its keys, and no other key moves. The choice
// does not depend on the order.
func TestChoose(t *testing.T) {
	names := []string{"a", "b", "c"}
	choose := func(key uint64, names []string, without string) string {
		i := Choose(key, len(names), func(i int) uint64 { return Name(names[i]) },
			func(i int) bool { return names[i] != without })
		if i < 0 {
			return ""
		}
		return names[i]
	}
	got := map[string]int{}
	for key := range uint64(300) {
		all := choose(key, names, "")
		got[all]++
		if n := choose(key, names, "b"); n == "b" || all != "b" && n != all {
			t.Errorf("key %d moved from %s to %s", key, all, n)
		}
		if n := choose(key, []string{"c", "a", "b"}, ""); n != all {
			t.Errorf("key %d: %s in another order, want %s", key, n, all)
		}
	}
	for _, n := range names {
		if got[n] < 60 {
			t.Errorf("%d keys of 300 are at %s", got[n], n)
		}
	}
	if n := choose(1, names[:1], "a"); n != "" {
		t.Errorf("%q of none", n)
	}
	if n := Name("db1"); n != 0xca896918f453f7d6 { // servers of all versions agree
		t.Errorf("the name's part is %#x", n)
	}
}
