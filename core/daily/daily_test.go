package daily

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, s := range []string{"1:00-6:00", "01:00", "01:00-24:00", "01:00-06:60", "01:00/06:00",
		"-1:00-06:00", "01:00-06:00 ", "03:00-03:00", "always"} {
		if h, err := Parse(s); err == nil {
			t.Errorf("%q is %+v, want an error", s, h)
		}
	}
	if h, err := Parse(""); err != nil || !h.Whole() {
		t.Errorf("no hours: %+v, %v", h, err)
	}
}

// TestHours looks at hours from before their begin to after their end, also over midnight, and on
// days of 23 and 25 hours.
func TestHours(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("this machine has no data of time zones:", err)
	}
	for _, c := range []struct{ hours, now, begin, end, next string }{
		{"01:00-06:00", "2026-05-10 00:59:59", "2026-05-09 01:00:00", "2026-05-09 06:00:00",
			"2026-05-10 01:00:00"},
		{"01:00-06:00", "2026-05-10 01:00:00", "2026-05-10 01:00:00", "2026-05-10 06:00:00",
			"2026-05-11 01:00:00"},
		{"01:00-06:00", "2026-05-10 06:00:00", "2026-05-10 01:00:00", "2026-05-10 06:00:00",
			"2026-05-11 01:00:00"},
		{"22:30-05:00", "2026-03-01 04:00:00", "2026-02-28 22:30:00", "2026-03-01 05:00:00",
			"2026-03-01 22:30:00"},
		{"22:30-05:00", "2026-12-31 23:00:00", "2026-12-31 22:30:00", "2027-01-01 05:00:00",
			"2027-01-01 22:30:00"},
		// The clock is set from 02:00 to 03:00, and back from 03:00 to 02:00.
		{"01:00-06:00", "2026-03-29 05:30:00", "2026-03-29 01:00:00", "2026-03-29 07:00:00",
			"2026-03-30 01:00:00"},
		{"01:00-06:00", "2026-10-25 04:00:00", "2026-10-25 01:00:00", "2026-10-25 05:00:00",
			"2026-10-26 01:00:00"},
	} {
		h, err := Parse(c.hours)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.ParseInLocation(time.DateTime, c.now, berlin)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := h.Latest(now)
		for _, p := range []struct {
			what, want string
			got        time.Time
		}{{"began", c.begin, begin}, {"end", c.end, end}, {"begin next", c.next, h.Next(now)}} {
			if got := p.got.Format(time.DateTime); got != p.want {
				t.Errorf("at %s the hours %s %s %s, want %s", c.now, c.hours, p.what, got, p.want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("01:00-06:00")
	f.Add("22:30-05:00")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Parse(s)
		if err != nil || h.Whole() {
			return
		}
		now := time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)
		begin, end := h.Latest(now)
		if begin.After(now) || now.Sub(begin) >= 24*time.Hour || !end.After(begin) ||
			!h.Next(now).Equal(begin.AddDate(0, 0, 1)) {
			t.Errorf("%q: from %s to %s", s, begin, end)
		}
	})
}
