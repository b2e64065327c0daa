package audit

import (
	"cmp"
	"slices"
	"sync"
)

// recent keeps the last lines of three classes: the sessions of users, refused callers that nobody
// knows, and everything else. So neither the logins of users nor strangers displace what
// administrators and other systems did.
type recent struct {
	keep int // lines of a class

	mu      sync.Mutex
	count   uint64 // of all lines
	classes [3]ring
}

// ring holds the last lines of a class.
type ring struct {
	lines []numbered
	next  int // the place of the oldest line, once the ring is full
}

// numbered is a line with its number: times may be equal.
type numbered struct {
	n uint64
	Line
}

// add keeps a line.
func (r *recent) add(l Line) {
	if r.keep <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.classes[1]
	switch l.Kind {
	case Login, LoginRefused, Logout, Kick:
		c = &r.classes[0]
	case Call, AdminCall, Register:
		if l.By == "" && l.Result != OK {
			c = &r.classes[2]
		}
	}
	r.count++
	if len(c.lines) < r.keep {
		c.lines = append(c.lines, numbered{r.count, l})
		return
	}
	c.lines[c.next] = numbered{r.count, l}
	c.next = (c.next + 1) % r.keep
}

// Recent returns the last events of this process, the newest first: up to Options.Keep about the
// sessions of users, as many of refused callers that nobody knows, and as many others.
func (l *Log) Recent() []Line {
	if l == nil {
		return nil
	}
	r := &l.recent
	r.mu.Lock()
	all := slices.Concat(r.classes[0].lines, r.classes[1].lines, r.classes[2].lines)
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(b.n, a.n) })
	lines := make([]Line, len(all))
	for i, one := range all {
		lines[i] = one.Line
	}
	return lines
}
