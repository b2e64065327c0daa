package presence

import (
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// With the mode Contacts a PC client hears only of users that it has a conversation with:
// those in its list when it logged in, asked of db_proxy, those that it has exchanged a
// message with since, and its own user. Until db_proxy has answered it hears of all
// users: too much for a moment is better than a status missed for as long as it is
// connected.
//
// A contact costs some 12 to 24 bytes per connection: an id in the client's list, and a
// pointer in the loop's index. With the 100 conversations that db_proxy returns that is
// about 2 KB, at most three times as much.

const (
	// maxContacts is how many contacts of one connection are kept, itself included. The
	// client does not hear of further ones.
	maxContacts = 300
	// maxContactQueries is how many lists of conversations each loop asks for at a time,
	// so that logins are not delayed.
	maxContactQueries = 8
)

// contactList is the users that a client hears of.
type contactList struct {
	users []uint32 // in increasing order
	known bool     // the list was answered; until then the client hears of all users
}

// contactIndex is the contacts of a loop's clients, in the other direction.
type contactIndex struct {
	of      map[uint32][]*session.Client // the sessions that hear of a user
	unknown int                          // clients whose list was not answered yet
	waiting []*session.Client            // those among them not asked about yet
	asking  int                          // those asked about
}

// findContacts asks for the conversations of the user of s, which has just logged in.
// Loop only.
func (h *Handler) findContacts(s *session.Client) {
	if h.opt.Mode != Contacts || s.ClientType.IsMobile() {
		return
	}
	x := &h.opt.Loop(s.Loop()).contacts
	x.unknown++
	x.waiting = append(x.waiting, s)
	h.AskContacts(s.Loop())
}

// AskContacts asks for the conversations of clients that wait, as far as
// maxContactQueries allows. It is also called about once a second, to repeat queries that
// failed. Loop only.
func (h *Handler) AskContacts(l *session.Loop) {
	x := &h.opt.Loop(l).contacts
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
		req := pb.IMRecentContactSessionReq_builder{UserId: proto.Uint32(s.User),
			LatestUpdateTime: proto.Uint32(0)}.Build()
		h.store.Call(l, uint64(s.User), 0, req, func(rsp pb.Message, err error) {
			x.asking--
			h.contactsCame(s, rsp, err)
		})
	}
}

// Asks reports whether clients wait for the next AskContacts. Loop only.
func (h *Handler) Asks(l *session.Loop) bool { return len(h.opt.Loop(l).contacts.waiting) > 0 }

// contactsCame takes the answer. A query that failed is repeated by the next AskContacts,
// not at once. It is not repeated when the answer is longer than servers carry: the next one
// would be as well.
func (h *Handler) contactsCame(s *session.Client, rsp pb.Message, err error) {
	x := &h.opt.Loop(s.Loop()).contacts
	list, err := link.Answer[*pb.IMRecentContactSessionRsp](rsp, err)
	if err != nil {
		h.opt.QueriesFailed.WithLabelValues("contacts").Inc()
		h.often.Warn(h.log, h.opt.Now(),
			"conversations not answered, the client hears of everybody",
			"conn", s.ID(), "user", s.User, "err", err)
		if !errors.Is(err, link.ErrTooLong) {
			x.waiting = append(x.waiting, s)
		}
		return
	}
	if c := h.opt.Client(s); !s.IsClosed() && c.seat > 0 {
		c.contacts.known = true
		x.unknown--
		h.AddContact(s, s.User)
		for _, info := range list.GetContactSessionList() {
			if info.GetSessionType() == pb.SessionType_SESSION_TYPE_SINGLE {
				h.AddContact(s, info.GetSessionId())
			}
		}
	}
	h.AskContacts(s.Loop())
}

// AddContact makes the client of s hear of user from now on. Loop only.
func (h *Handler) AddContact(s *session.Client, user uint32) {
	if h.opt.Mode != Contacts || s.ClientType.IsMobile() || s.IsClosed() {
		return
	}
	c, x := h.opt.Client(s), &h.opt.Loop(s.Loop()).contacts
	i, there := slices.BinarySearch(c.contacts.users, user)
	if there || len(c.contacts.users) >= maxContacts {
		return
	}
	c.contacts.users = slices.Insert(c.contacts.users, i, user)
	if x.of == nil {
		x.of = map[uint32][]*session.Client{}
	}
	x.of[user] = append(x.of[user], s)
}

// forgetContacts removes s, which has ended, from the index. Loop only.
func (h *Handler) forgetContacts(s *session.Client) {
	if h.opt.Mode != Contacts || s.ClientType.IsMobile() {
		return
	}
	c, x := h.opt.Client(s), &h.opt.Loop(s.Loop()).contacts
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
