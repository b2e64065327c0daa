package ranks

import (
	"math"
	"testing"
)

// TestByChance compares with the tables of the test of Mann and Whitney.
func TestByChance(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3}, []float64{4, 5, 6}, 0.1},                    // U = 0 of 20 orders
		{[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70},         // U = 0 of 70
		{[]float64{1, 2, 3, 5}, []float64{4, 6, 7, 8}, 4.0 / 70},         // U = 1
		{[]float64{5, 6, 7, 8}, []float64{1, 2, 3, 4}, 2.0 / 70},         // the other direction
		{[]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 2.0 / 252}, // U = 0 of 252
		{[]float64{1, 4, 5, 8}, []float64{2, 3, 6, 7}, 1},                // in the middle
		{[]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}, 1},
	} {
		if got := ByChance(c.a, c.b); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
