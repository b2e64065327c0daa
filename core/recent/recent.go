// Package recent remembers values for a short time, in bounded memory.
package recent

import "time"

// Map maps keys to values that were put within the last Age. It holds two generations:
// when the younger one is older than Age, or full, the older one is dropped. So a value is
// remembered for Age to twice Age, or less when more than Max values are put within Age.
//
// The caller serialises all calls.
type Map[K comparable, V any] struct {
	// Age is the least time that a value is remembered. Max bounds each of the two
	// generations. Both must be set before the first call.
	Age time.Duration
	Max int

	young, old map[K]V
	born       time.Time // when young began
	since      time.Time // see Since
}

// Get returns the value of a key, and whether it is remembered.
func (m *Map[K, V]) Get(key K) (V, bool) {
	if v, ok := m.young[key]; ok {
		return v, true
	}
	v, ok := m.old[key]
	return v, ok
}

// Put remembers a value. now must not decrease.
func (m *Map[K, V]) Put(key K, v V, now time.Time) {
	if m.young == nil || now.Sub(m.born) > m.Age {
		m.turn(now)
	} else if _, there := m.young[key]; !there && len(m.young) >= m.Max {
		m.turn(now)
	}
	m.young[key] = v
}

// Touch is Get, and remembers the value anew, as Put does. now must not decrease.
func (m *Map[K, V]) Touch(key K, now time.Time) (v V, ok bool) {
	v, young := m.young[key]
	if young && now.Sub(m.born) <= m.Age {
		return v, true
	}
	if !young {
		if v, ok = m.old[key]; !ok {
			return v, false
		}
	}
	m.Put(key, v, now)
	return v, true
}

// Since returns the time from which on every value is remembered that was put: none that was
// put later was dropped. It is zero when none was dropped at all.
func (m *Map[K, V]) Since() time.Time { return m.since }

// turn begins a generation. One whose time is over when it becomes the older one holds
// nothing that must be remembered.
func (m *Map[K, V]) turn(now time.Time) {
	if len(m.old) > 0 {
		m.since = m.born
	}
	if now.Sub(m.born) > 2*m.Age {
		if len(m.young) > 0 {
			m.since = now
		}
		clear(m.young)
	}
	clear(m.old)
	m.young, m.old, m.born = m.old, m.young, now
	if m.young == nil {
		m.young = map[K]V{}
	}
}

// Len returns the number of values in memory. A key with a value in each generation counts
// twice.
func (m *Map[K, V]) Len() int { return len(m.young) + len(m.old) }
