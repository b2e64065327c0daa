package faults

import (
	"reflect"
	"testing"
	"time"
)

// TestCountsAdd adds counts whose fields are all different, so that a field that is
// forgotten or mixed up is noticed.
func TestCountsAdd(t *testing.T) {
	var a, b Counts
	for i, v := range []*Counts{&a, &b} {
		f := reflect.ValueOf(v).Elem()
		for j := range f.NumField() {
			if f.Field(j).Kind() == reflect.Int {
				f.Field(j).SetInt(int64((i + 1) * (j + 1)))
			}
		}
	}
	a.Examples, b.Examples = []string{"a"}, []string{"b"}
	a.add(&b)
	f := reflect.ValueOf(a)
	for j := range f.NumField() {
		if f.Field(j).Kind() == reflect.Int && f.Field(j).Int() != int64(3*(j+1)) {
			t.Errorf("%s is %d, want %d", f.Type().Field(j).Name, f.Field(j).Int(), 3*(j+1))
		}
	}
	if len(a.Examples) != 2 {
		t.Errorf("examples %q", a.Examples)
	}
}

// TestResultAdd adds the rows of two deployments.
func TestResultAdd(t *testing.T) {
	r := newResult(Options{Deployments: 2, MaxBeyond: 50 * time.Millisecond})
	r.add(&Result{Rows: []Row{{Fault: "a", Rounds: 2, Silence: 5, Down: 9, Beyond: 7},
		{Fault: "b", Rounds: 1}}})
	if r.add(&Result{Rows: []Row{{Fault: "b", Rounds: 3}, {Fault: "a", Rounds: 1, Silence: 6,
		Down: 8, Beyond: 50, Worst: "w"}}, Notes: []string{"crash"}, Stopped: true}); !r.Stopped {
		t.Error("not stopped")
	}
	want := []Row{{Fault: "a", Rounds: 3, Silence: 6, Down: 9, Beyond: 50,
		Worst: "w"}, {Fault: "b", Rounds: 4}}
	if !reflect.DeepEqual(r.Rows, want) {
		t.Errorf("rows %+v, want %+v", r.Rows, want)
	}
	if r.Clean() {
		t.Error("clean in spite of a crash")
	}
	if r.Notes = nil; !r.Clean() {
		t.Error("not clean")
	}
	if r.Rows[1].Beyond = 51; r.Clean() {
		t.Error("clean in spite of a silence that is too long")
	}
}

// TestBeyond measures the waits after all servers were ready.
func TestBeyond(t *testing.T) {
	now := time.Now()
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	l := NewLedger("")
	s := make([]*Sent, 6)
	for i := range s {
		s[i] = &Sent{Client: "c", Text: string(rune('a' + i))}
	}
	want := func(ms, until int, trace string) {
		t.Helper()
		got, worst := l.Beyond(at(until))
		if got != time.Duration(ms)*time.Millisecond || worst != trace {
			t.Errorf("%v beyond, %q, want %d ms, %q", got, worst, ms, trace)
		}
	}
	l.Send(s[0], at(0)) // before the first fault nothing is measured
	l.Ack(s[0], 1, at(900))
	want(0, 900, "")
	l.Send(s[1], at(950))
	l.Begin(at(1000))
	l.Connected("c", false, at(1010))
	l.Ready(at(1100)) // 150 ms of the wait were the fault's
	l.Ready(at(1110)) // is no second one
	l.Connected("c", true, at(1120))
	l.Repeat(s[1], at(1120))
	l.Ack(s[1], 2, at(1130))
	one := "c in {0 0 0}, begin of the fault -0.100 s, sent -0.150 s, offline -0.090 s, " +
		"online +0.020 s, repeated +0.020 s, acked +0.030 s"
	want(30, 5000, one)
	l.Send(s[2], at(2000)) // also after an ack
	l.Ack(s[2], 3, at(2050))
	want(50, 5000, "c in {0 0 0}, begin of the fault -0.100 s, sent +0.900 s, acked +0.950 s")
	l.Send(s[3], at(5000))
	l.Begin(at(5060)) // ends the wait
	l.Ack(s[3], 4, at(6000))
	want(60, 6000, "c in {0 0 0}, begin of the fault -0.100 s, sent +3.900 s")
	l.Connected("c", false, at(6100))
	l.Ready(at(7000))
	l.Connected("c", true, at(7100)) // without a text
	want(100, 7100, "c, begin of the fault -1.940 s: offline -0.900 s to +0.100 s")
	l.Send(s[4], at(8000)) // never acked
	want(1000, 9000, "c in {0 0 0}, begin of the fault -1.940 s, sent +1.000 s")
}
