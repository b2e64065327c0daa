package msg

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// With PresenceContacts a pc client hears only of users with whom it has a conversation: those in its list when it logged in, asked of db_proxy, those it
// exchanged a message with since, and its own user. Until db_proxy has answered it hears of everybody: too much for a moment, rather than missing something for
// as long as it is connected.
//
// A contact costs some 12 to 24 bytes per connection: an id in the client's list, and a pointer in the loop's index. With the 100 conversations that db_proxy returns
// that is about 2 KB, at most three times as much.

const (
	// maxContacts is how many contacts of one connection are kept, itself included; further ones are not heard of.
	maxContacts = 300
	// maxContactQueries is how many lists of conversations each loop asks for at a time; logins come first.
	maxContactQueries = 8
)

// contactList is the users of whom a client hears.
type contactList struct {
	users []uint32 // in increasing order
	known bool     // the list is there; until then the client hears of everybody
}

// contactIndex is the contacts of a loop's clients, the other way round.
type contactIndex struct {
	of      map[uint32][]*session.Session // who hears of a user
	unknown int                           // clients whose list is not there yet
	waiting []*session.Session            // those among them not asked about yet
	asking  int                           // those asked about
}

// findContacts has the conversations of the user of s asked for, who has just logged in. On the loop.
func (h *Server) findContacts(s *session.Session) {
	if h.opt.Presence != PresenceContacts || s.Client.IsMobile() {
		return
	}
	x := &stateOf(s.Loop()).contacts
	x.unknown++
	x.waiting = append(x.waiting, s)
	h.askContacts(s.Loop())
}

// askContacts asks about those that wait, as far as it may. On the loop.
func (h *Server) askContacts(l *session.Loop) {
	x := &stateOf(l).contacts
	for x.asking < maxContactQueries && len(x.waiting) > 0 {
		s := x.waiting[0]
		x.waiting[0] = nil
		if x.waiting = x.waiting[1:]; len(x.waiting) == 0 {
			x.waiting = nil
		}
		if s.IsClosed() {
			continue
		}
		x.asking++
		req := pb.IMRecentContactSessionReq_builder{UserId: proto.Uint32(s.User), LatestUpdateTime: proto.Uint32(0)}.Build()
		h.dbFirst.Call(l, uint64(s.User), 0, req, func(rsp pb.Message, err error) {
			x.asking--
			h.contactsCame(s, rsp, err)
		})
	}
}

// contactsCame takes the answer. One that failed is asked for again, not at once: Tick does it.
func (h *Server) contactsCame(s *session.Session, rsp pb.Message, err error) {
	x := &stateOf(s.Loop()).contacts
	list, ok := rsp.(*pb.IMRecentContactSessionRsp)
	if err != nil || !ok {
		h.metrics.queriesFailed.WithLabelValues("contacts").Inc()
		h.warn(&h.often.query, "conversations not answered, the client hears of everybody", "conn", s.ID(), "user", s.User, "err", err)
		x.waiting = append(x.waiting, s)
		return
	}
	if c := clientOf(s); !s.IsClosed() && c.seat > 0 {
		c.contacts.known = true
		x.unknown--
		h.addContact(s, s.User)
		for _, info := range list.GetContactSessionList() {
			if info.GetSessionType() == pb.SessionType_SESSION_TYPE_SINGLE {
				h.addContact(s, info.GetSessionId())
			}
		}
	}
	h.askContacts(s.Loop())
}

// addContact has s hear of user from now on. On the loop.
func (h *Server) addContact(s *session.Session, user uint32) {
	if h.opt.Presence != PresenceContacts || s.Client.IsMobile() || s.IsClosed() {
		return
	}
	c, x := clientOf(s), &stateOf(s.Loop()).contacts
	i, there := slices.BinarySearch(c.contacts.users, user)
	if there || len(c.contacts.users) >= maxContacts {
		return
	}
	c.contacts.users = slices.Insert(c.contacts.users, i, user)
	if x.of == nil {
		x.of = map[uint32][]*session.Session{}
	}
	x.of[user] = append(x.of[user], s)
}

// contactSpoke has s hear of the other side of a message that it is sent. On the loop.
func (h *Server) contactSpoke(s *session.Session, tag session.Tag) {
	if tag.Flags&tagGroup == 0 {
		h.addContact(s, tag.Peer)
	}
}

// forgetContacts takes s, which has ended, out of the index. On the loop.
func (h *Server) forgetContacts(s *session.Session) {
	if h.opt.Presence != PresenceContacts || s.Client.IsMobile() {
		return
	}
	c, x := clientOf(s), &stateOf(s.Loop()).contacts
	if !c.contacts.known {
		x.unknown--
	}
	for _, user := range c.contacts.users {
		list := x.of[user]
		i := slices.Index(list, s)
		last := len(list) - 1
		list[i] = list[last]
		list[last] = nil
		if last == 0 {
			delete(x.of, user)
			continue
		}
		x.of[user] = list[:last]
	}
	c.contacts.users = nil
}
