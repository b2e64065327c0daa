package axis

import (
	"math"
	"strings"
	"testing"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{{0, 2, "0.0 0.5 1.0 1.5 2.0"}, {0, 20400, "0 5,000 10,000 15,000 20,000 25,000"},
		{0, 0, "0.0 0.2 0.4 0.6 0.8 1.0"}, {-3, 12, "-5 0 5 10 15"},
		{0, 0.12, "0.000 0.025 0.050 0.075 0.100 0.125"}} {
		var got []string
		for _, tick := range Linear(c.lo, c.hi, 5) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%v … %v: %s", c.lo, c.hi, s)
		}
	}
	for _, c := range []struct {
		lo, hi float64 // in ms
		want   string
	}{{2.2, 30, "2 5 10 20 50"}, {0.04, 800, "0.01 0.1 1 10 100 1,000"}, {5, 5, "5 10"}} {
		var got []string
		for _, tick := range Log(math.Log10(c.lo), math.Log10(c.hi)) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%v … %v: %s", c.lo, c.hi, s)
		}
	}
}
