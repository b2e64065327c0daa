// Package daily holds the hours of the day in which work of the night may run.
package daily

import (
	"fmt"
	"time"
)

// Hours are a part of each day, in local time. The zero value is the whole day.
type Hours struct {
	start  time.Duration // from midnight
	length time.Duration // 0: the whole day
}

// Parse parses hours such as "01:00-06:00", or "22:30-05:00", which end on the next day. "" is the
// whole day. The begin and the end differ.
func Parse(s string) (Hours, error) {
	if s == "" {
		return Hours{}, nil
	}
	fault := fmt.Errorf(`want two times of the day such as "01:00-06:00", not %q`, s)
	const form = "15:04"
	if len(s) != len("01:00-06:00") || s[len(form)] != '-' {
		return Hours{}, fault
	}
	from, err := time.Parse(form, s[:len(form)])
	if err != nil {
		return Hours{}, fault
	}
	to, err := time.Parse(form, s[len(form)+1:])
	if err != nil {
		return Hours{}, fault
	}
	length := to.Sub(from)
	if length == 0 {
		return Hours{}, fmt.Errorf("%q begins when it ends", s)
	}
	if length < 0 {
		length += 24 * time.Hour
	}
	return Hours{start: time.Duration(from.Hour())*time.Hour +
		time.Duration(from.Minute())*time.Minute, length: length}, nil
}

// Whole reports whether the hours are the whole day.
func (h Hours) Whole() bool { return h.length == 0 }

// Latest returns the last time at or before now at which the hours began, and when they end or
// ended. For the whole day these are now and a day later.
func (h Hours) Latest(now time.Time) (begin, end time.Time) {
	if h.Whole() {
		return now, now.Add(24 * time.Hour)
	}
	begin = h.on(now, 0)
	if begin.After(now) {
		begin = h.on(now, -1)
	}
	return begin, begin.Add(h.length)
}

// Next returns the first time after now at which the hours begin. For the whole day it is now.
func (h Hours) Next(now time.Time) time.Time {
	if h.Whole() {
		return now
	}
	begin := h.on(now, 0)
	if !begin.After(now) {
		begin = h.on(now, 1)
	}
	return begin
}

// on returns the begin on the day of now, or some days later.
func (h Hours) on(now time.Time, days int) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+days, int(h.start/time.Hour), int(h.start%time.Hour/time.Minute), 0, 0,
		now.Location())
}
