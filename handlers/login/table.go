package login

import "sync"

// table is the list of message servers, in the order they announced themselves. There are few, so a choice looks at all of them.
type table struct {
	mu      sync.Mutex // held for a walk through the list
	entries []*entry
}

// entry is one message server. The addresses do not change; a new announcement makes a new entry.
type entry struct {
	link     uint64 // id of the session it came over
	ip1, ip2 string
	port     uint32
	hostName string
	limit    uint32 // clients it takes

	current uint32 // clients it has
	handed  uint32 // clients sent there since current last changed: breaks ties
}

// chosen is what a client needs to know of an entry.
type chosen struct {
	ip1, ip2 string
	port     uint32
}

func newTable() *table { return &table{} }

// put enters e in place of what its link announced before. When another link announced the same address, that entry goes too, and true
// is returned: there can be only one server behind an address, and the newer link is the one that works (the older one
// is what is left of a connection whose end nobody noticed yet).
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

// remove takes out what link announced; nil when that is nothing, or was replaced.
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

// count notes that one more client is at link's server, or one less. It returns false when the link has no entry.
func (t *table) count(link uint64, more bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if e.link != link {
			continue
		}
		e.handed = 0
		if more {
			e.current++
		} else if e.current > 0 { // a server that restarted may report leaving clients that it never counted
			e.current--
		}
		return true
	}
	return false
}

// choose picks the server with the fewest clients among those below their limit. Among equals it takes the one that
// was given the fewest clients since its count last changed, so that a crowd that asks before anyone has logged in is spread evenly.
func (t *table) choose() (chosen, result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.entries) == 0 {
		return chosen{}, resultNone
	}
	var best *entry
	for _, e := range t.entries {
		if e.current >= e.limit {
			continue
		}
		if best == nil || e.current < best.current || e.current == best.current && e.handed < best.handed {
			best = e
		}
	}
	if best == nil {
		return chosen{}, resultFull
	}
	best.handed++
	return chosen{ip1: best.ip1, ip2: best.ip2, port: best.port}, resultOK
}

// totals is the number of servers and of their clients.
func (t *table) totals() (servers int, clients uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		clients += uint64(e.current)
	}
	return len(t.entries), clients
}
