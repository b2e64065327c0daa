package bench

import (
	"strings"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	now := time.UnixMicro(time.Now().UnixMicro())
	text := []byte(strings.Repeat("x", 40))
	for _, n := range []uint64{0, 1, 1 << 40} {
		encodeStamp(text, n, now)
		got, due, ok := decodeStamp(text)
		if !ok || got != n || !due.Equal(now) || string(text[32:]) != "xxxxxxxx" {
			t.Errorf("%d at %v came back as %d at %v (%v): %s", n, now, got, due, ok, text)
		}
	}
	for _, bad := range []string{"", strings.Repeat("a", 31), strings.Repeat("q", 32), strings.Repeat("A", 32), strings.Repeat("\xff", 32)} {
		if _, _, ok := decodeStamp([]byte(bad)); ok {
			t.Errorf("%q is taken for a stamp", bad)
		}
	}
}

// What is lost, doubled or out of order must show in the report.
func TestReport(t *testing.T) {
	r := &run{opt: SingleOptions{Duration: time.Second, Pairs: 1}}
	for _, c := range []struct {
		name string
		p    *pair
		want SingleReport
	}{
		{"clean", &pair{sent: 3, delivered: 3, acked: 3}, SingleReport{}},
		{"lost", &pair{sent: 3, delivered: 2, acked: 3}, SingleReport{Lost: 1}},
		{"unacked", &pair{sent: 3, delivered: 2, acked: 2, waiting: map[uint16]time.Time{4: {}}}, SingleReport{Unacked: 1}},
		{"doubled", &pair{sent: 3, delivered: 3, acked: 3, dups: 1}, SingleReport{Duplicates: 1}},
		{"reordered", &pair{sent: 3, delivered: 3, acked: 3, reordered: 2}, SingleReport{Reordered: 2}},
	} {
		c.p.ack, c.p.del = newHistogram(), newHistogram()
		got := r.report([]*pair{c.p})
		if got.Lost != c.want.Lost || got.Unacked != c.want.Unacked || got.Duplicates != c.want.Duplicates || got.Reordered != c.want.Reordered {
			t.Errorf("%s: %+v", c.name, got)
		}
		if got.Bad() != (c.name != "clean") {
			t.Errorf("%s: Bad() is %v", c.name, got.Bad())
		}
		var out strings.Builder
		got.Print(&out)
		if strings.Contains(out.String(), "NOT CLEAN") != got.Bad() {
			t.Errorf("%s: printed %s", c.name, out.String())
		}
	}
}
