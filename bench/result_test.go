package bench

import "testing"

func TestBound(t *testing.T) {
	c := Ceiling{Of: "acked", Rate: 1000}
	c.Bound(&Result{Seconds: 10, Totals: map[string]int64{"acked": 2500}})
	if c.Percent != 25 {
		t.Errorf("%v percent", c.Percent)
	}
	none := Ceiling{Of: "acked"}
	if none.Bound(&Result{Seconds: 10, Totals: map[string]int64{"acked": 1}}); none.Percent != 0 {
		t.Errorf("%v percent of nothing", none.Percent)
	}
}
