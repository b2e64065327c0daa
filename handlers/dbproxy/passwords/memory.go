package passwords

import (
	"sync"
	"time"
)

// memory is a bounded set of keys. A key stays for between half of life and life after it
// was added or found. Any goroutine.
type memory struct {
	max  int
	life time.Duration
	now  func() time.Time

	mu         sync.Mutex
	young, old map[Key]struct{}
	turned     time.Time // when young began
}

// newMemory returns a memory of up to max keys. life 0: it keeps nothing.
func newMemory(limit int, life time.Duration, now func() time.Time) *memory {
	return &memory{max: limit, life: life, now: now, young: map[Key]struct{}{}, turned: now()}
}

// add adds a key.
func (m *memory) add(k Key) {
	if m.life <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	m.young[k] = struct{}{}
}

// has reports whether the memory holds the key, and keeps it then.
func (m *memory) has(k Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	if _, ok := m.young[k]; ok {
		return true
	}
	if _, ok := m.old[k]; !ok {
		return false
	}
	m.young[k] = struct{}{}
	return true
}

// turn removes the old keys when their time is over, or when there are too many.
func (m *memory) turn() {
	age := m.now().Sub(m.turned)
	if age < m.life/2 && len(m.young) < m.max/2 {
		return
	}
	m.old = m.young
	if age >= m.life {
		m.old = nil
	}
	m.young, m.turned = map[Key]struct{}{}, m.now()
}
