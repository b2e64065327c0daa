package conversation

import "sync"

// Side is the cached state of one user's session row.
type Side struct {
	mu      sync.Mutex
	row     uint32 // IMRecentSession.id; 0: unknown
	second  uint32 // this process listed the row with this updated second or a later one
	removed uint32 // how often this process has removed the row
}

// Before returns the row's id and the number of its removals, and reports whether this process
// has not listed the row with second or a later one.
func (sd *Side) Before(second uint32) (row, removed uint32, older bool) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	return sd.row, sd.removed, second > sd.second
}

// SetRow records the row's id.
func (sd *Side) SetRow(row uint32) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	sd.row = row
}

// Wrote records that the row is listed with second, unless it was removed since Before returned
// this number of removals.
func (sd *Side) Wrote(second, removed uint32) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if sd.removed == removed {
		sd.second = max(sd.second, second)
	}
}

// Forget makes the next message write the row, whatever its second.
func (sd *Side) Forget() {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	sd.second = 0
	sd.removed++
}
