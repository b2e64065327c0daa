package mesh

import (
	"slices"

	"teamtalk/core/whereabouts"
)

// maxElsewhere bounds the users that have a PC on another message server and are followed, and
// those that are to be looked at. A user takes some 20 bytes, see BenchmarkElsewhere.
const maxElsewhere = 1 << 20

// elsewhere remembers on which other message server each user has a PC. A user is kept with the
// number of a node, since there are few nodes. The zero value is ready. With Server.mu held.
type elsewhere struct {
	of    map[uint32]uint16 // by user: index in nodes
	nodes []placed
}

// placed is a message server with the number of its users. One without users is replaced by the
// next one that is new.
type placed struct {
	node  whereabouts.Node
	users int
}

// maxPlaces bounds the message servers that are remembered at a time.
const maxPlaces = 1 << 16

// get returns where a user has a PC; a node without a name: nowhere.
func (e *elsewhere) get(user uint32) (n whereabouts.Node) {
	if i, ok := e.of[user]; ok {
		n = e.nodes[i].node
	}
	return n
}

// set records where a user has a PC. It reports false when there is no room.
func (e *elsewhere) set(user uint32, n whereabouts.Node) bool {
	was, known := e.of[user]
	if known && e.nodes[was].node == n {
		return true
	}
	at, ok := e.place(n)
	if !ok || !known && len(e.of) >= maxElsewhere {
		return false
	}
	if known {
		e.nodes[was].users--
	}
	if e.of == nil {
		e.of = map[uint32]uint16{}
	}
	e.of[user] = at
	e.nodes[at].users++
	return true
}

// place returns the index of a node.
func (e *elsewhere) place(n whereabouts.Node) (at uint16, ok bool) {
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

// remove forgets where a user has a PC.
func (e *elsewhere) remove(user uint32) {
	if at, ok := e.of[user]; ok {
		e.nodes[at].users--
		if delete(e.of, user); len(e.of) == 0 {
			*e = elsewhere{} // release what has grown
		}
	}
}

// at returns the users that have a PC on a node, sorted.
func (e *elsewhere) at(n whereabouts.Node) (users []uint32) {
	for i := range e.nodes {
		if e.nodes[i].node != n || e.nodes[i].users == 0 {
			continue
		}
		users = make([]uint32, 0, e.nodes[i].users)
		for user, at := range e.of {
			if int(at) == i {
				users = append(users, user)
			}
		}
	}
	slices.Sort(users)
	return users
}
