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
		Down: 8, Beyond: 50}}, Notes: []string{"crash"}, Stopped: true}); !r.Stopped {
		t.Error("not stopped")
	}
	want := []Row{{Fault: "a", Rounds: 3, Silence: 6, Down: 9, Beyond: 50}, {Fault: "b", Rounds: 4}}
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

// TestBeyond measures the silence after the servers were ready.
func TestBeyond(t *testing.T) {
	now := time.Now()
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	l := NewLedger("")
	s := make([]*Sent, 4)
	for i := range s {
		s[i] = &Sent{Client: "c", Text: string(rune('a' + i))}
	}
	l.Send(s[0], at(0))
	l.Ready(at(100)) // 100 ms of silence were the fault's
	l.Ack(s[0], 1, at(130))
	if got := l.Beyond(at(5000)); got != 30*time.Millisecond {
		t.Errorf("%v beyond, want 30 ms", got)
	}
	l.Send(s[1], at(1000)) // after an ack since the servers were ready
	l.Ack(s[1], 2, at(2000))
	if got := l.Beyond(at(5000)); got != 30*time.Millisecond {
		t.Errorf("%v beyond although there was no fault, want 30 ms", got)
	}
	l.Ready(at(2000))
	l.Send(s[2], at(3000))
	l.Ack(s[2], 3, at(3050))
	if got := l.Beyond(at(5000)); got != 50*time.Millisecond {
		t.Errorf("%v beyond, want 50 ms", got)
	}
	l.Ready(at(6000))
	l.Send(s[3], at(6000)) // never acked
	if got := l.Beyond(at(7000)); got != time.Second {
		t.Errorf("%v beyond, want 1 s", got)
	}
}
