package services

import (
	"fmt"
	"testing"
	"time"
)

// TestCheckTimes counts texts that are stored or arrived twice.
func TestCheckTimes(t *testing.T) {
	c := &Counts{}
	checkTimes(c, map[string][]uint32{"a": {1}, "b": {2, 3}, "c": {4}, "d": {5}},
		map[string]int{"a": 1, "b": 1, "c": 2})
	if c.Delivered != 2 || c.Duplicated != 2 || c.Clean() {
		t.Errorf("%+v", c)
	}
}

// TestFetched counts files that are missing, doubled or changed.
func TestFetched(t *testing.T) {
	f := &fetched{}
	f.reset()
	f.times = map[string]int{"a": 1, "b": 2, "c": 1}
	f.wrong["c"] = true
	c := &Counts{}
	f.check([]string{"a", "b", "d"}, c)
	if c.Delivered != 3 || c.Lost != 1 || c.Duplicated != 1 || c.Other != 1 ||
		len(c.Examples) != 3 {
		t.Errorf("%+v", c)
	}
	if f.has([]string{"a", "d"}) || !f.has([]string{"a", "b"}) {
		t.Error("a file that is missing counts as there")
	}
}

// TestSenderOfFilesWaits: no file is begun while the receiver has many to fetch.
func TestSenderOfFilesWaits(t *testing.T) {
	f := &files{}
	f.begin(1)
	for i := range maxBehind {
		if f.behind() {
			t.Errorf("the sender waits with %d files on their way", i)
		}
		f.accept(fmt.Sprint(i))
	}
	if !f.behind() {
		t.Errorf("the sender does not wait with %d files on their way", maxBehind)
	}
	f.times["0"]++
	if f.behind() {
		t.Error("the sender waits after a file was fetched")
	}
}

// TestBeyond measures the part of a wait after all servers were ready.
func TestBeyond(t *testing.T) {
	now, w := time.Now(), &waits{}
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	if d := w.beyond(at(0), at(9)); d != 0 {
		t.Errorf("%v before the servers are ready", d)
	}
	w.ready = at(4)
	for _, c := range []struct{ begin, end, want int }{{0, 9, 5}, {6, 9, 3}} {
		if d := w.beyond(at(c.begin), at(c.end)); d != time.Duration(c.want)*time.Second {
			t.Errorf("from %d to %d: %v, want %d s", c.begin, c.end, d, c.want)
		}
	}
}

// TestAdd adds the counts of two deployments.
func TestAdd(t *testing.T) {
	a := Counts{Tried: 1, Accepted: 1, Failed: 2, Delivered: 1, Longest: 5, Beyond: 3}
	a.Add(&Counts{Tried: 2, Lost: 1, Duplicated: 1, Other: 1, Longest: 4, Beyond: 6,
		Examples: []string{"x"}})
	if a.Tried != 3 || a.Failed != 2 || a.Lost+a.Duplicated+a.Other != 3 || a.Longest != 5 ||
		a.Beyond != 6 || len(a.Examples) != 1 || a.Clean() {
		t.Errorf("%+v", a)
	}
}
