// Package elsewhere remembers on which other message servers users have a PC, in little memory.
package elsewhere

import (
	"slices"

	"teamtalk/core/whereabouts"
)

// Max bounds the users that are remembered. A user takes 10 to 20 bytes, see BenchmarkMap.
const Max = 1 << 20

// Map remembers on which other message server each user has a PC. A user is kept with the number of
// a node, since there are few nodes. The zero value is ready. The caller serialises all calls.
type Map struct {
	of    map[uint32]uint16 // by user: index in nodes, and knownBit
	nodes []placed
}

// knownBit says that all clients here were told that the user is online.
const knownBit = 1 << 15

// placed is a message server with the number of its users. One without users is replaced by the
// next one that is new.
type placed struct {
	node  whereabouts.Node
	users int
}

// maxPlaces bounds the message servers that are remembered at a time.
const maxPlaces = knownBit

// Get returns where a user has a PC, and whether all clients here were told. A node without a name:
// nowhere.
func (e *Map) Get(user uint32) (n whereabouts.Node, told bool) {
	if i, ok := e.of[user]; ok {
		n, told = e.nodes[i&^knownBit].node, i&knownBit != 0
	}
	return n, told
}

// Set records where a user has a PC. told says that all clients here are told that it is online.
// They still know it if they were told before. It reports false when there is no room.
func (e *Map) Set(user uint32, n whereabouts.Node, told bool) bool {
	was, known := e.of[user]
	bit := was & knownBit
	was &^= knownBit
	if told {
		bit = knownBit
	}
	if known && e.nodes[was].node == n {
		e.of[user] = was | bit
		return true
	}
	at, ok := e.place(n)
	if !ok || !known && len(e.of) >= Max {
		return false
	}
	if known {
		e.nodes[was].users--
	}
	if e.of == nil {
		e.of = map[uint32]uint16{}
	}
	e.of[user] = at | bit
	e.nodes[at].users++
	return true
}

// place returns the index of a node.
func (e *Map) place(n whereabouts.Node) (at uint16, ok bool) {
	free := -1
	for i := range e.nodes {
		switch {
		case e.nodes[i].node == n:
			return uint16(i), true
		case e.nodes[i].users == 0 && free < 0:
			free = i
		}
	}
	if free < 0 {
		if len(e.nodes) == maxPlaces {
			return 0, false
		}
		free, e.nodes = len(e.nodes), append(e.nodes, placed{})
	}
	e.nodes[free].node = n
	return uint16(free), true
}

// Remove forgets where a user has a PC.
func (e *Map) Remove(user uint32) {
	if at, ok := e.of[user]; ok {
		e.nodes[at&^knownBit].users--
		if delete(e.of, user); len(e.of) == 0 {
			*e = Map{} // release what has grown
		}
	}
}

// At returns the users that have a PC on a node, sorted.
func (e *Map) At(n whereabouts.Node) (users []uint32) {
	for i := range e.nodes {
		if e.nodes[i].node != n || e.nodes[i].users == 0 {
			continue
		}
		users = make([]uint32, 0, e.nodes[i].users)
		for user, at := range e.of {
			if int(at&^knownBit) == i {
				users = append(users, user)
			}
		}
	}
	slices.Sort(users)
	return users
}

// Len returns the number of users.
func (e *Map) Len() int { return len(e.of) }
