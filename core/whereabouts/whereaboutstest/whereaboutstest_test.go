package whereaboutstest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"teamtalk/core/whereabouts"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) whereabouts.Store { return NewMemory() })
}

// TestFaultyPasses runs the suite through a Faulty without faults.
func TestFaultyPasses(t *testing.T) {
	Run(t, func(*testing.T) whereabouts.Store { return &Faulty{Store: NewMemory()} })
}

// TestFaults fails calls ahead of and behind the store.
func TestFaults(t *testing.T) {
	m := NewMemory()
	fault := errors.New("fault")
	var calls []Operation
	fail := func(_ context.Context, c Call) error {
		if c.Users[0] != 5 {
			t.Errorf("users %v", c.Users)
		}
		calls = append(calls, c.Operation)
		return fault
	}
	for _, s := range []whereabouts.Store{&Faulty{Store: m, Before: fail},
		&Faulty{Store: m, After: fail}} {
		r := s.Apply(t.Context(), node("a", 1), []whereabouts.Update{{User: 5,
			Devices: []whereabouts.Device{ios}}, {User: 6}})
		f := s.Lookup(t.Context(), []uint32{5, 6})
		if len(r) != 2 || len(f) != 2 || r[0].Err != fault || r[1].Err != fault ||
			f[0].Err != fault || f[1].Err != fault || r[0].Version != 0 || f[0].Entries != nil {
			t.Errorf("%+v, %+v", r, f)
		}
		if made := len(m.Users()) == 1; made != (s.(*Faulty).After != nil) {
			t.Errorf("users %v", m.Users())
		}
		if err := s.Remove(t.Context(), 5, []whereabouts.Node{node("a", 1)}); err != fault ||
			len(m.Users()) != 0 {
			t.Errorf("removal: %v, users %v", err, m.Users())
		}
	}
	if want := []Operation{Apply, Lookup, Remove}; !slices.Equal(calls, append(want, want...)) {
		t.Errorf("calls %v", calls)
	}
}

// TestLose tells each watch of a loss, and none that has ended.
func TestLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		var told [2]int
		for i := range told {
			go m.Watch(ctx, func() { told[i]++ })
		}
		for want := 1; want < 4; want++ {
			synctest.Wait() // the first call is at the begin
			if told != [2]int{want, want} || len(m.Users()) != 0 {
				t.Errorf("told %v times, want %d, users %v", told, want, m.Users())
			}
			apply(t, m, node("a", 1), 5, ios)
			m.Lose()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		m.Lose()
		synctest.Wait()
		if told != [2]int{4, 4} || len(m.watches) != 0 {
			t.Errorf("told %v times after the end", told)
		}
	})
}
