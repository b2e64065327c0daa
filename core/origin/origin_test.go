package origin

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestKey(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3":            "10.1.2.3",
		"::ffff:10.1.2.3":     "10.1.2.3",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::",
		"2001:db8:1:2:ffff::": "2001:db8:1:2::",
		"fe80::1%eth0":        "fe80::",
	} {
		if got := Key(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("key of %s is %s, want %s", in, got, want)
		}
	}
	if got := Key(netip.Addr{}); got.IsValid() {
		t.Errorf("key of no address is %s", got)
	}
}

func TestNetworks(t *testing.T) {
	n, err := ParseNetworks("a.b", []string{"10.1.2.3/8", "fe80::/10"})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{
		"10.200.0.1": true, "::ffff:10.0.0.1": true, "fe80::1%eth0": true,
		"11.0.0.1": false, "::1": false,
	} {
		if n.Contains(netip.MustParseAddr(a)) != want {
			t.Errorf("contains %s: %v", a, !want)
		}
	}
	if n.Contains(netip.Addr{}) {
		t.Error("contains no address")
	}
	if _, err := ParseNetworks("a.b", []string{"10.0.0.1"}); err == nil {
		t.Error("an address was taken for a network")
	}
}

// TestAnAddressHasFewConnectionsInLowClasses opens and closes the connections of one address
// in random order.
func TestAnAddressHasFewConnectionsInLowClasses(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var open []int // classes
	for range 20_000 {
		if len(open) > 0 && random.IntN(100) < 48 {
			i := random.IntN(len(open))
			open[i] = open[len(open)-1]
			open = open[:len(open)-1]
			continue
		}
		open = append(open, Class(len(open)+1))
		var upTo [Classes]int
		for _, c := range open {
			for k := c; k < Classes; k++ {
				upTo[k]++
			}
		}
		for k, n := range upTo {
			if n >= 2<<k {
				t.Fatalf("%d connections in the classes up to %d", n, k)
			}
		}
	}
	if c := Class(1 << 40); c != Classes-1 {
		t.Errorf("class %d for very many", c)
	}
}
