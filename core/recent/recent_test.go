package recent

import (
	"testing"
	"time"
)

func TestMapRemembersForAge(t *testing.T) {
	m := Map[string, int]{Age: 10 * time.Second, Max: 100}
	now := time.Now()
	wants := func(key string, want int) {
		t.Helper()
		if v, ok := m.Get(key); v != want || ok != (want != 0) {
			t.Fatalf("%s is %d, %v, want %d", key, v, ok, want)
		}
	}
	wants("a", 0)
	m.Put("a", 1, now)
	m.Put("b", 2, now.Add(9*time.Second))
	m.Put("c", 3, now.Add(11*time.Second)) // begins a generation
	wants("a", 1)
	wants("b", 2)
	m.Put("a", 4, now.Add(12*time.Second))
	m.Put("d", 5, now.Add(22*time.Second)) // begins another one
	wants("a", 4)
	wants("b", 0)
	m.Put("e", 6, now.Add(99*time.Second))
	wants("a", 0)
	wants("d", 0)
	wants("e", 6)
}

func TestTouchRemembersAnew(t *testing.T) {
	m := Map[string, int]{Age: 10 * time.Second, Max: 100}
	now := time.Now()
	m.Put("used", 1, now)
	m.Put("unused", 2, now)
	for range 20 {
		now = now.Add(4 * time.Second)
		if v, ok := m.Touch("used", now); v != 1 || !ok {
			t.Fatalf("the value is %d, %v", v, ok)
		}
	}
	if _, ok := m.Touch("unused", now); ok {
		t.Error("a value that was not used is remembered for ever")
	}
}

func TestMapIsBounded(t *testing.T) {
	m := Map[int, int]{Age: time.Hour, Max: 100}
	now := time.Now()
	for i := range 1000 {
		m.Put(i, i+1, now)
		if m.Len() > 2*m.Max {
			t.Fatalf("%d values in memory", m.Len())
		}
		if v, _ := m.Get(max(i-m.Max, 0)); v == 0 {
			t.Fatalf("value %d is forgotten", i-m.Max)
		}
	}
}
