package chat

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/client"
	"teamtalk/proto/pb"
)

// GroupName returns the name of a group in lines of text: #NAME, which commands take.
func (b *Book) GroupName(id uint32) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.groupNameLocked(id)
}

// groupNameLocked is GroupName; b.mu is held.
func (b *Book) groupNameLocked(id uint32) string {
	if name := CleanLine(b.groups[id].Name); name != "" {
		return "#" + name
	}
	return fmt.Sprintf("#%d", id)
}

// Group returns a group.
func (b *Book) Group(id uint32) (client.Group, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.groups[id]
	return g, ok
}

// FindGroup returns the user's group with a name, else with a number, else the only one
// whose name begins with name. Upper and lower case are equal, and a # before the name is
// ignored.
func (b *Book) FindGroup(name string) (client.Group, error) {
	name = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(name), "#"))
	if name == "" {
		return client.Group{}, fmt.Errorf("no group given")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	id, err := strconv.ParseUint(name, 10, 32)
	for _, match := range []func(g client.Group) bool{
		func(g client.Group) bool { return strings.ToLower(CleanLine(g.Name)) == name },
		func(g client.Group) bool { return err == nil && g.ID == uint32(id) },
		func(g client.Group) bool {
			return strings.HasPrefix(strings.ToLower(CleanLine(g.Name)),
				name)
		},
	} {
		var found []client.Group
		for _, g := range b.groups {
			if g.Has(b.self.ID) && match(g) {
				found = append(found, g)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		slices.SortFunc(found, func(x, y client.Group) int { return cmp.Compare(x.ID, y.ID) })
		names := make([]string, 0, 5)
		for _, g := range found[:min(5, len(found))] {
			names = append(names, fmt.Sprintf("#%d (%s)", g.ID, CleanLine(g.Name)))
		}
		return client.Group{}, fmt.Errorf("%q may be %s", CleanLine(name),
			strings.Join(names, ", "))
	}
	return client.Group{}, fmt.Errorf("you are in no group called %q", CleanLine(name))
}

// FindPeer returns the conversation of a name: #NAME is a group, @NAME a user, and any
// other name a user, else a group.
func (b *Book) FindPeer(name string) (client.Peer, error) {
	name = strings.TrimSpace(name)
	if !strings.HasPrefix(name, "#") {
		u, err := b.find(name)
		if err == nil {
			return client.Peer{ID: u.ID}, nil
		}
		if strings.HasPrefix(name, "@") {
			return client.Peer{}, err
		}
		if g, gerr := b.FindGroup(name); gerr == nil {
			return client.Peer{ID: g.ID, Group: true}, nil
		}
		return client.Peer{}, err
	}
	g, err := b.FindGroup(name)
	if err != nil {
		return client.Peer{}, err
	}
	return client.Peer{ID: g.ID, Group: true}, nil
}

// FindUsers returns the ids of the users with the names. The session's own user may be
// one of them.
func (b *Book) FindUsers(names []string) ([]uint32, error) {
	self := b.Self()
	var ids []uint32
	for _, name := range names {
		if strings.EqualFold(strings.TrimPrefix(name, "@"), self.Name) {
			ids = append(ids, self.ID)
			continue
		}
		u, err := b.find(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, u.ID)
	}
	return ids, nil
}

// listNames returns the names of users in one line, at most most of them.
func (b *Book) listNames(ids []uint32, most int) string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, b.Name(id))
	}
	slices.Sort(names)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// MyGroups returns the groups with the session's user, by name.
func (b *Book) MyGroups() []client.Group {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []client.Group
	for _, g := range b.groups {
		if g.Has(b.self.ID) {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(x, y client.Group) int {
		return cmp.Or(cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)),
			cmp.Compare(x.ID, y.ID))
	})
	return list
}

// GroupNames returns the names of the user's groups, as commands take them. Groups with
// the same name are named by number.
func (b *Book) GroupNames() []string {
	count := make(map[string]int)
	list := b.MyGroups()
	for _, g := range list {
		count[strings.ToLower(CleanLine(g.Name))]++
	}
	out := make([]string, 0, len(list))
	for _, g := range list {
		name := CleanLine(g.Name)
		if name == "" || count[strings.ToLower(name)] > 1 {
			name = strconv.FormatUint(uint64(g.ID), 10)
		}
		out = append(out, "#"+name)
	}
	return out
}

// Talk is a line of the list of conversations.
type Talk struct {
	Peer   client.Peer
	Name   string
	Unread uint32
	// Recent is the time of the last message, or of the user's addition to the group if that is
	// later, in unix seconds.
	Recent uint32
	Online bool // the other user
	Muted  bool // the group
}

// Talks returns the conversations: first those with unread messages, then the latest.
// Groups are listed without messages if they are normal, or if the user was added since the login.
func (b *Book) Talks() []Talk {
	b.mu.Lock()
	defer b.mu.Unlock()
	peers := make(map[client.Peer]struct{}, len(b.recent)+len(b.groups))
	for p := range b.recent {
		peers[p] = struct{}{}
	}
	for p := range b.unread {
		peers[p] = struct{}{}
	}
	for id, g := range b.groups {
		p := client.Peer{ID: id, Group: true}
		if !g.Has(b.self.ID) {
			delete(peers, p)
		} else if g.Type == pb.GroupType_GROUP_TYPE_NORMAL {
			peers[p] = struct{}{}
		}
	}
	var out []Talk
	for p := range peers {
		t := Talk{Peer: p, Unread: b.unread[p].Count, Recent: b.recent[p]}
		if p.Group {
			t.Name, t.Muted = b.groupNameLocked(p.ID), b.groups[p.ID].Shield
		} else {
			t.Name, t.Online = b.nameLocked(p.ID), isOnline(b.online[p.ID])
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y Talk) int {
		return cmp.Or(trueFirst(x.Unread > 0, y.Unread > 0), cmp.Compare(y.Recent, x.Recent),
			cmp.Compare(x.Name, y.Name))
	})
	return out
}
