package session

import "slices"

// OnLoop holds clients of one loop. The slice must not be changed, only replaced.
type OnLoop struct {
	Loop    *Loop
	Clients []*Client
}

// ByLoop returns the sessions of users, grouped by loop. When users names a user twice,
// the result holds the sessions of that user twice. Any goroutine.
func (r *Registry) ByLoop(users []uint32) []OnLoop {
	var lists []OnLoop
	for _, user := range users {
		for _, s := range r.Of(user) {
			i := slices.IndexFunc(lists, func(l OnLoop) bool { return l.Loop == s.Loop() })
			if i < 0 {
				i = len(lists)
				lists = append(lists, OnLoop{Loop: s.Loop()})
			}
			lists[i].Clients = append(lists[i].Clients, s)
		}
	}
	return lists
}

// HasPC reports whether user has a session of a PC client. Any goroutine.
func (r *Registry) HasPC(user uint32) bool {
	return slices.ContainsFunc(r.Of(user), func(s *Client) bool { return !s.ClientType.IsMobile() })
}
