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

// Book is who there is: names, presence, unread counts. It may be used by many goroutines at once.
type Book struct {
	Self im.User // set before anything else; its SignInfo and Avatar change under mu

	mu     sync.Mutex
	users  map[uint32]im.User
	online map[uint32]pb.UserStatType
	unread map[client.Peer]unreadCount
	recent map[client.Peer]uint32 // time of the last message, unix seconds
	groups map[uint32]client.Group
	depart map[uint32]im.Depart
	since  uint32 // of depart, for the next question
}

// unreadCount is how many messages of a conversation are unread, and the newest id.
type unreadCount struct{ Count, Latest uint32 }

// NewBook makes an empty book for a user.
func NewBook(self im.User) *Book {
	return &Book{
		Self:  self,
		users: make(map[uint32]im.User), online: make(map[uint32]pb.UserStatType), unread: make(map[client.Peer]unreadCount),
		recent: make(map[client.Peer]uint32), groups: make(map[uint32]client.Group), depart: make(map[uint32]im.Depart),
	}
}

// Load asks the server who there is and who is online. A server that does not tell the latter is no reason to fail.
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

// LoadDeparts asks for the departments that are new or changed since it last did.
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

// Event follows presence and unread counts.
func (b *Book) Event(e client.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := e.(type) {
	case client.Ready:
		clear(b.unread)
		for _, u := range e.Unread {
			b.unread[client.Peer{ID: u.Peer, Group: u.Type == pb.SessionType_SESSION_TYPE_GROUP}] = unreadCount{u.Count, u.Latest.ID}
		}
		for _, r := range e.Recent {
			b.recent[client.Peer{ID: r.Peer, Group: r.Type == pb.SessionType_SESSION_TYPE_GROUP}] = r.Updated
		}
		for _, g := range e.Groups {
			b.groups[g.ID] = g
		}
	case client.GroupChanged:
		b.groups[e.Group.ID] = e.Group
		if !e.Group.Has(b.Self.ID) {
			delete(b.unread, client.Peer{ID: e.Group.ID, Group: true})
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
		if e.Message.From == b.Self.ID {
			break
		}
		if u := b.unread[e.Peer]; e.Message.ID > u.Latest { // else it is among those that Ready counted
			b.unread[e.Peer] = unreadCount{u.Count + 1, e.Message.ID}
		}
	}
}

// change changes a user's entry; b.mu is held.
func (b *Book) change(id uint32, do func(u *im.User)) {
	if id == b.Self.ID {
		do(&b.Self)
	}
	if u, ok := b.users[id]; ok {
		do(&u)
		b.users[id] = u
	}
}

// Forget takes a conversation out of the list.
func (b *Book) Forget(p client.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unread, p)
	delete(b.recent, p)
}

// Name is what a user is called in lines of text: the login name, as it is typed in commands.
func (b *Book) Name(id uint32) string {
	if id == b.Self.ID {
		return "you"
	}
	return b.PlainName(id)
}

// PlainName is a user's login name, one's own too.
func (b *Book) PlainName(id uint32) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nameLocked(id)
}

// nameLocked is plainName; b.mu is held.
func (b *Book) nameLocked(id uint32) string {
	u, ok := b.users[id]
	if id == b.Self.ID {
		u, ok = b.Self, true
	}
	switch name := CleanLine(u.Name); {
	case ok && name != "":
		return name
	case ok && CleanLine(u.Nick) != "":
		return CleanLine(u.Nick)
	}
	return fmt.Sprintf("user %d", id)
}

// PeerName is what a conversation is called.
func (b *Book) PeerName(p client.Peer) string {
	if p.Group {
		return b.GroupName(p.ID)
	}
	return b.Name(p.ID)
}

// User returns a user's entry, empty when there is none.
func (b *Book) User(id uint32) im.User {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id == b.Self.ID {
		return b.Self
	}
	return b.users[id]
}

// Knows reports whether a user is in the directory.
func (b *Book) Knows(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.users[id]
	return ok || id == b.Self.ID
}

// find returns the user that somebody means: by login name, else by shown name, else by a beginning that only one has. Without regard to case.
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
			return strings.HasPrefix(strings.ToLower(u.Name), name) || strings.HasPrefix(strings.ToLower(u.Nick), name)
		},
	} {
		for _, u := range b.users {
			if u.ID != b.Self.ID && match(u) {
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
	if strings.ToLower(b.Self.Name) == name {
		return im.User{}, fmt.Errorf("that is you")
	}
	return im.User{}, fmt.Errorf("nobody is called %q", CleanLine(name))
}

// Contact is a line of the contact list.
type Contact struct {
	im.User
	Online bool
	Away   bool
	Unread uint32
	recent uint32
}

// List returns everybody but oneself: those with unread messages, then those online, then those talked to last, then the others by name.
func (b *Book) List(filter string) []Contact {
	filter = strings.ToLower(filter)
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Contact
	for id, u := range b.users {
		if id == b.Self.ID || !strings.Contains(strings.ToLower(u.Name+" "+u.Nick), filter) {
			continue
		}
		stat := b.online[id]
		out = append(out, Contact{
			User: u, Online: stat == pb.UserStatType_USER_STATUS_ONLINE || stat == pb.UserStatType_USER_STATUS_LEAVE,
			Away: stat == pb.UserStatType_USER_STATUS_LEAVE, Unread: b.unread[client.Peer{ID: id}].Count, recent: b.recent[client.Peer{ID: id}],
		})
	}
	yes := func(v bool) int {
		if v {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(x, y Contact) int {
		return cmp.Or(cmp.Compare(yes(x.Unread > 0), yes(y.Unread > 0)), cmp.Compare(yes(x.Online), yes(y.Online)),
			cmp.Compare(y.recent, x.recent), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// Names are all login names but one's own, sorted.
func (b *Book) Names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.users))
	for id, u := range b.users {
		if id != b.Self.ID {
			out = append(out, CleanLine(u.Name))
		}
	}
	slices.Sort(out)
	return out
}

// IsOnline reports whether a user is online, as far as one knows.
func (b *Book) IsOnline(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.online[id]
	return s == pb.UserStatType_USER_STATUS_ONLINE || s == pb.UserStatType_USER_STATUS_LEAVE
}

// UnreadOf returns the unread count of a conversation and its newest id.
func (b *Book) UnreadOf(p client.Peer) unreadCount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unread[p]
}

// ClearUnread forgets the unread count of a conversation.
func (b *Book) ClearUnread(p client.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.unread, p)
}

// unreadPeer is a conversation with unread messages.
type unreadPeer struct {
	Peer client.Peer
	unreadCount
}

// AllUnread returns the conversations with unread messages, most first.
func (b *Book) AllUnread() []unreadPeer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []unreadPeer
	for p, u := range b.unread {
		if u.Count > 0 {
			out = append(out, unreadPeer{p, u})
		}
	}
	slices.SortFunc(out, func(x, y unreadPeer) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Peer.ID, y.Peer.ID))
	})
	return out
}
