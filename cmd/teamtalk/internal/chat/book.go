package chat

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Book holds the users, groups and departments that the session knows, with presence and
// unread counts. Any goroutine may use it.
type Book struct {
	mu     sync.Mutex
	self   im.User // the id and the name do not change
	users  map[uint32]im.User
	online map[uint32]pb.UserStatType
	unread map[client.Peer]Unread
	recent map[client.Peer]uint32 // see Talk.Recent
	groups map[uint32]client.Group
	depart map[uint32]im.Depart
	since  uint32 // time of the newest department, for the next request
}

// Unread counts the unread messages of a conversation.
type Unread struct {
	Count  uint32
	Latest uint32 // id of the newest of them
}

// NewBook returns an empty book for a user.
func NewBook(self im.User) *Book {
	return &Book{
		self:   self,
		users:  make(map[uint32]im.User),
		online: make(map[uint32]pb.UserStatType),
		unread: make(map[client.Peer]Unread),
		recent: make(map[client.Peer]uint32),
		groups: make(map[uint32]client.Group),
		depart: make(map[uint32]im.Depart),
	}
}

// Self returns the user of the session.
func (b *Book) Self() im.User {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.self
}

// SelfID returns the id of the session's user.
func (b *Book) SelfID() uint32 { return b.Self().ID }

// Load asks the server for the users and their presence. Without an answer about
// presence, the book keeps what it knew.
func (b *Book) Load(ctx context.Context, c client.Caller) error {
	users, _, err := client.Contacts(ctx, c, 0)
	if err != nil {
		return err
	}
	ids := make([]uint32, 0, len(users))
	for _, u := range users {
		ids = append(ids, u.ID)
	}
	stats, err := client.Statuses(ctx, c, ids)
	b.SetUsers(users)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.online = stats
	}
	return nil
}

// SetUsers replaces the users. Departed users are left out.
func (b *Book) SetUsers(users []im.User) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.users)
	for _, u := range users {
		if u.Status != im.StatusDeparted {
			b.users[u.ID] = u
		}
	}
}

// LoadDeparts asks the server for the departments that have changed since the last call.
func (b *Book) LoadDeparts(ctx context.Context, c client.Caller) error {
	b.mu.Lock()
	since := b.since
	b.mu.Unlock()
	list, since, err := client.Departs(ctx, c, since)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = since
	for _, d := range list {
		if d.Status == pb.DepartmentStatusType_DEPT_STATUS_DELETE {
			delete(b.depart, d.ID)
		} else {
			b.depart[d.ID] = d
		}
	}
	return nil
}

// Event updates the book with an event of the client.
func (b *Book) Event(e client.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := e.(type) {
	case client.Ready:
		b.setConversations(e)
	case client.GroupChanged:
		b.groups[e.Group.ID] = e.Group
		p := client.Peer{ID: e.Group.ID, Group: true}
		if !e.Group.Has(b.self.ID) {
			delete(b.unread, p)
		} else if slices.Contains(e.Added, b.self.ID) {
			b.recent[p] = max(b.recent[p], uint32(time.Now().Unix()))
		}
	case client.SessionRemoved:
		delete(b.unread, e.Peer)
		delete(b.recent, e.Peer)
	case client.SignChanged:
		b.change(e.User, func(u *im.User) { u.SignInfo = e.Text })
	case client.AvatarChanged:
		b.change(e.User, func(u *im.User) { u.Avatar = e.URL })
	case client.Acked:
		b.recent[e.Peer] = max(b.recent[e.Peer], uint32(time.Now().Unix()))
	case client.Presence:
		b.online[e.User] = e.Status
	case client.ReadElsewhere:
		delete(b.unread, e.Peer)
	case client.Received:
		b.recent[e.Peer] = e.Message.Created
		if e.Message.From == b.self.ID {
			break
		}
		if u := b.unread[e.Peer]; e.Message.ID > u.Latest { // client.Ready has counted older ones
			b.unread[e.Peer] = Unread{u.Count + 1, e.Message.ID}
		}
	}
}

// setConversations replaces the unread counts, and adds the recent conversations and the
// groups. b.mu is held.
func (b *Book) setConversations(e client.Ready) {
	peer := func(id uint32, t pb.SessionType) client.Peer {
		return client.Peer{ID: id, Group: t == pb.SessionType_SESSION_TYPE_GROUP}
	}
	clear(b.unread)
	for _, u := range e.Unread {
		b.unread[peer(u.Peer, u.Type)] = Unread{u.Count, u.Latest.ID}
	}
	for _, r := range e.Recent {
		b.recent[peer(r.Peer, r.Type)] = r.Updated
	}
	for _, g := range e.Groups {
		b.groups[g.ID] = g
	}
}

// change changes a user's entry. b.mu is held.
func (b *Book) change(id uint32, do func(u *im.User)) {
	if id == b.self.ID {
		do(&b.self)
	}
	if u, ok := b.users[id]; ok {
		do(&u)
		b.users[id] = u
	}
}

// Forget removes a conversation from the list.
func (b *Book) Forget(p client.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unread, p)
	delete(b.recent, p)
}

// Name returns the name of a user in lines of text: "you", or the login name, which
// commands take.
func (b *Book) Name(id uint32) string {
	if id == b.SelfID() {
		return "you"
	}
	return b.PlainName(id)
}

// PlainName returns the login name of a user, also of the session's own.
func (b *Book) PlainName(id uint32) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nameLocked(id)
}

// nameLocked is PlainName; b.mu is held.
func (b *Book) nameLocked(id uint32) string {
	u, ok := b.users[id]
	if id == b.self.ID {
		u, ok = b.self, true
	}
	switch name := CleanLine(u.Name); {
	case ok && name != "":
		return name
	case ok && CleanLine(u.Nick) != "":
		return CleanLine(u.Nick)
	}
	return fmt.Sprintf("user %d", id)
}

// PeerName returns the name of a conversation in lines of text.
func (b *Book) PeerName(p client.Peer) string {
	if p.Group {
		return b.GroupName(p.ID)
	}
	return b.Name(p.ID)
}

// User returns the entry of a user; the zero User when there is none.
func (b *Book) User(id uint32) im.User {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id == b.self.ID {
		return b.self
	}
	return b.users[id]
}

// Knows reports whether a user is in the book.
func (b *Book) Knows(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.users[id]
	return ok || id == b.self.ID
}

// find returns the user with a login name, else with a shown name, else the only user
// with a login name or shown name that begins with name. Upper and lower case are equal.
func (b *Book) find(name string) (im.User, error) {
	name = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(name), "@"))
	if name == "" {
		return im.User{}, fmt.Errorf("no name given")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []im.User
	for _, match := range []func(u im.User) bool{
		func(u im.User) bool { return strings.ToLower(u.Name) == name },
		func(u im.User) bool { return strings.ToLower(u.Nick) == name },
		func(u im.User) bool {
			return strings.HasPrefix(strings.ToLower(u.Name), name) ||
				strings.HasPrefix(strings.ToLower(u.Nick), name)
		},
	} {
		for _, u := range b.users {
			if u.ID != b.self.ID && match(u) {
				found = append(found, u)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		slices.SortFunc(found, func(a, b im.User) int { return cmp.Compare(a.Name, b.Name) })
		names := make([]string, 0, 5)
		for _, u := range found[:min(5, len(found))] {
			names = append(names, CleanLine(u.Name))
		}
		return im.User{}, fmt.Errorf("%q may be %s", CleanLine(name), strings.Join(names, ", "))
	}
	if strings.ToLower(b.self.Name) == name {
		return im.User{}, fmt.Errorf("that is you")
	}
	return im.User{}, fmt.Errorf("no user is called %q", CleanLine(name))
}

// Contact is a line of the contact list.
type Contact struct {
	im.User
	Online bool
	Away   bool
	Unread uint32
	recent uint32
}

// List returns the other users whose login name or shown name contains filter: first
// those with unread messages, then those online, then those of the latest conversations,
// then by name.
func (b *Book) List(filter string) []Contact {
	filter = strings.ToLower(filter)
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Contact
	for id, u := range b.users {
		if id == b.self.ID || !strings.Contains(strings.ToLower(u.Name+" "+u.Nick), filter) {
			continue
		}
		out = append(out, Contact{
			User: u, Online: isOnline(b.online[id]), Away: isAway(b.online[id]),
			Unread: b.unread[client.Peer{ID: id}].Count, recent: b.recent[client.Peer{ID: id}],
		})
	}
	slices.SortFunc(out, func(x, y Contact) int {
		return cmp.Or(trueFirst(x.Unread > 0, y.Unread > 0), trueFirst(x.Online, y.Online),
			cmp.Compare(y.recent, x.recent), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// isOnline reports whether a presence counts as online, away included.
func isOnline(s pb.UserStatType) bool {
	return s == pb.UserStatType_USER_STATUS_ONLINE || isAway(s)
}

// isAway reports whether a presence is away.
func isAway(s pb.UserStatType) bool { return s == pb.UserStatType_USER_STATUS_LEAVE }

// trueFirst compares for a sort that puts true before false.
func trueFirst(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// Names returns the login names of the other users, sorted.
func (b *Book) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.users))
	for id, u := range b.users {
		if id != b.self.ID {
			out = append(out, CleanLine(u.Name))
		}
	}
	slices.Sort(out)
	return out
}

// IsOnline reports whether a user is online or away, by the last report.
func (b *Book) IsOnline(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return isOnline(b.online[id])
}

// UnreadOf returns the unread messages of a conversation.
func (b *Book) UnreadOf(p client.Peer) Unread {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unread[p]
}

// ClearUnread sets the unread count of a conversation to zero.
func (b *Book) ClearUnread(p client.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unread, p)
}

// UnreadPeer is a conversation with unread messages.
type UnreadPeer struct {
	Peer client.Peer
	Unread
}

// AllUnread returns the conversations with unread messages, those with most first.
func (b *Book) AllUnread() []UnreadPeer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []UnreadPeer
	for p, u := range b.unread {
		if u.Count > 0 {
			out = append(out, UnreadPeer{p, u})
		}
	}
	slices.SortFunc(out, func(x, y UnreadPeer) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Peer.ID, y.Peer.ID))
	})
	return out
}
