package login

import (
	"slices"
	"sync"
)

// table lists the message servers in the order of their announcements, and those that are
// registered. They are few, so that choose reads the whole list.
type table struct {
	mu         sync.Mutex // held for a walk through the list
	entries    []*entry
	registered *registered // nil: there is no registry
}

// entry is one message server. Its addresses do not change; a new announcement makes a
// new entry.
type entry struct {
	link       uint64 // id of the session that announced it; 0 of a registered one
	registered bool
	late       bool // it may have ended
	ip1, ip2   string
	port       uint32
	hostName   string
	limit      uint32 // clients that it accepts at most

	current uint32 // clients that it reports
	// handed is the clients told its address since current last changed, and breaks ties. Of a
	// registered one it is those that current may lack, and adds to it.
	handed uint32
}

// load returns the clients that count when servers are compared.
func (e *entry) load() uint32 {
	if e.registered {
		return e.current + e.handed
	}
	return e.current
}

// chosen holds the parts of an entry that a client needs.
type chosen struct {
	ip1, ip2 string
	port     uint32
}

func newTable(r *registered) *table { return &table{registered: r} }

// all returns the servers that have announced themselves, and the registered ones that have not:
// a server that does both reports each client at once. With mu held.
func (t *table) all() []*entry {
	list := slices.Clip(t.entries)
	for _, e := range t.registered.entries() {
		if !slices.ContainsFunc(t.entries, func(o *entry) bool {
			return o.port == e.port && o.ip1 == e.ip1
		}) {
			list = append(list, e)
		}
	}
	return list
}

// put adds e in place of the entry that its link announced before. When another link
// announced the same address, put removes that entry too and returns true: only one
// server can listen on an address, and the newer link is the one that works. The older
// one belongs to a connection whose end was not detected yet.
func (t *table) put(e *entry) (replaced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.entries[:0]
	for _, old := range t.entries {
		same := old.port == e.port && old.ip1 == e.ip1
		if old.link != e.link && same {
			replaced = true
		}
		if old.link != e.link && !same {
			kept = append(kept, old)
		}
	}
	clear(t.entries[len(kept):])
	t.entries = append(kept, e)
	return replaced
}

// remove deletes and returns the entry that link announced; nil when there is none, or
// when another link replaced it.
func (t *table) remove(link uint64) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, e := range t.entries {
		if e.link == link {
			t.entries = append(t.entries[:i], t.entries[i+1:]...)
			return e
		}
	}
	return nil
}

// count adds one client to the entry of link, or subtracts one. It returns false when
// link has no entry.
func (t *table) count(link uint64, more bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.link != link {
			continue
		}
		e.handed = 0
		// A restarted server may report disconnects of clients that it never counted, so
		// that the count could fall below 0.
		if more {
			e.current++
		} else if e.current > 0 {
			e.current--
		}
		return true
	}
	return false
}

// better reports whether e is named before o: a server that may have ended comes after the others.
func (e *entry) better(o *entry) bool {
	switch {
	case o == nil || e.late != o.late:
		return o == nil || o.late
	case e.load() != o.load():
		return e.load() < o.load()
	}
	return e.handed < o.handed
}

// choose returns the server with the fewest clients among those below their limit. One that has
// not renewed its lease in time is named only when no other is left. Among equals it returns the
// one whose address was given to the fewest clients since its count last changed: so a crowd that
// asks before any of its clients has logged in is spread evenly.
func (t *table) choose() (chosen, result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.all()
	if len(all) == 0 {
		return chosen{}, resultNone
	}
	var best *entry
	for _, e := range all {
		if e.current >= e.limit {
			continue
		}
		if e.better(best) {
			best = e
		}
	}
	if best == nil {
		return chosen{}, resultFull
	}
	if best.handed++; best.registered {
		t.registered.sent(best)
	}
	return chosen{ip1: best.ip1, ip2: best.ip2, port: best.port}, resultOK
}

// totals returns the number of servers and of their clients.
func (t *table) totals() (servers int, clients uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.all()
	for _, e := range all {
		clients += uint64(e.current)
	}
	return len(all), clients
}
