package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// groupName is what a group is called in lines of text: its name as it is typed in commands.
func (b *book) groupName(id uint32) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.groupNameLocked(id)
}

// groupNameLocked is groupName; b.mu is held.
func (b *book) groupNameLocked(id uint32) string {
	if name := cleanLine(b.groups[id].Name); name != "" {
		return "#" + name
	}
	return fmt.Sprintf("#%d", id)
}

// group returns a group.
func (b *book) group(id uint32) (client.Group, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.groups[id]
	return g, ok
}

// findGroup returns the group that somebody means, of those that oneself is in: by number, by name, else by a beginning that only one has.
func (b *book) findGroup(name string) (client.Group, error) {
	name = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(name), "#"))
	if name == "" {
		return client.Group{}, fmt.Errorf("no group given")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	id, err := strconv.ParseUint(name, 10, 32)
	for _, match := range []func(g client.Group) bool{
		func(g client.Group) bool { return strings.ToLower(cleanLine(g.Name)) == name },
		func(g client.Group) bool { return err == nil && g.ID == uint32(id) },
		func(g client.Group) bool { return strings.HasPrefix(strings.ToLower(cleanLine(g.Name)), name) },
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
			names = append(names, fmt.Sprintf("#%d (%s)", g.ID, cleanLine(g.Name)))
		}
		return client.Group{}, fmt.Errorf("%q may be %s", cleanLine(name), strings.Join(names, ", "))
	}
	return client.Group{}, fmt.Errorf("you are in no group called %q", cleanLine(name))
}

// findPeer returns the conversation that somebody means: #NAME is a group, @NAME a user, anything else a user before a group.
func (b *book) findPeer(name string) (client.Peer, error) {
	name = strings.TrimSpace(name)
	if !strings.HasPrefix(name, "#") {
		u, err := b.find(name)
		if err == nil {
			return client.Peer{ID: u.ID}, nil
		}
		if strings.HasPrefix(name, "@") {
			return client.Peer{}, err
		}
		if g, gerr := b.findGroup(name); gerr == nil {
			return client.Peer{ID: g.ID, Group: true}, nil
		}
		return client.Peer{}, err
	}
	g, err := b.findGroup(name)
	if err != nil {
		return client.Peer{}, err
	}
	return client.Peer{ID: g.ID, Group: true}, nil
}

// findUsers returns the ids of the users that somebody means. Oneself may be among them.
func (b *book) findUsers(names []string) ([]uint32, error) {
	var ids []uint32
	for _, name := range names {
		if strings.EqualFold(strings.TrimPrefix(name, "@"), b.self.Name) {
			ids = append(ids, b.self.ID)
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

// listName is the names of users in one line, at most so many.
func (b *book) listNames(ids []uint32, most int) string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, b.name(id))
	}
	slices.Sort(names)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// myGroups returns the groups that oneself is in, by name.
func (b *book) myGroups() []client.Group {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []client.Group
	for _, g := range b.groups {
		if g.Has(b.self.ID) {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(x, y client.Group) int {
		return cmp.Or(cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)), cmp.Compare(x.ID, y.ID))
	})
	return list
}

// groupNames are the names of one's groups as they are typed; two of the same name have their numbers.
func (b *book) groupNames() []string {
	count := make(map[string]int)
	list := b.myGroups()
	for _, g := range list {
		count[strings.ToLower(cleanLine(g.Name))]++
	}
	out := make([]string, 0, len(list))
	for _, g := range list {
		name := cleanLine(g.Name)
		if name == "" || count[strings.ToLower(name)] > 1 {
			name = strconv.FormatUint(uint64(g.ID), 10)
		}
		out = append(out, "#"+name)
	}
	return out
}

// talk is a line of the list of conversations.
type talk struct {
	peer   client.Peer
	name   string
	unread uint32
	recent uint32
	online bool // of a user
	muted  bool // of a group
}

// talks returns the conversations: those with unread messages, then the latest. Groups without a message yet are in it.
func (b *book) talks() []talk {
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
	var out []talk
	for p := range peers {
		t := talk{peer: p, unread: b.unread[p].count, recent: b.recent[p]}
		if p.Group {
			t.name, t.muted = b.groupNameLocked(p.ID), b.groups[p.ID].Shield
		} else {
			stat := b.online[p.ID]
			t.name = b.nameLocked(p.ID)
			t.online = stat == pb.UserStatType_USER_STATUS_ONLINE || stat == pb.UserStatType_USER_STATUS_LEAVE
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y talk) int {
		return cmp.Or(cmp.Compare(min(y.unread, 1), min(x.unread, 1)), cmp.Compare(y.recent, x.recent), cmp.Compare(x.name, y.name))
	})
	return out
}

// departNode is a department, or a user in one, in the order of a tree.
type departNode struct {
	depth  int
	depart im.Depart
	user   *contact // nil: the department itself
	people int      // in the department, not in those below
	on     int      // of them
}

// departs returns the tree of departments with the people in them, oneself too; those whose department is unknown come last, under a department without id.
// filter keeps departments whose name contains it, with all that is below them.
func (b *book) departs(filter string) []departNode {
	b.mu.Lock()
	defer b.mu.Unlock()
	below := make(map[uint32][]im.Depart)
	for _, d := range b.depart {
		parent := d.Parent
		if _, ok := b.depart[parent]; !ok || parent == d.ID {
			parent = 0
		}
		below[parent] = append(below[parent], d)
	}
	people := make(map[uint32][]contact)
	for _, u := range b.users {
		id := u.DepartID
		if _, ok := b.depart[id]; !ok {
			id = 0
		}
		stat := b.online[u.ID]
		people[id] = append(people[id], contact{
			User: u, online: stat == pb.UserStatType_USER_STATUS_ONLINE || stat == pb.UserStatType_USER_STATUS_LEAVE || u.ID == b.self.ID,
			away: stat == pb.UserStatType_USER_STATUS_LEAVE,
		})
	}
	w := departWalk{below: below, people: people, filter: strings.ToLower(filter), seen: make(map[uint32]bool)}
	w.walk(0, 0, filter == "")
	for _, d := range sortedDeparts(b.depart) { // in a circle that hangs on nothing
		if !w.seen[d.ID] {
			w.depart(d, 0, filter == "")
		}
	}
	if rest := people[0]; len(rest) > 0 && filter == "" {
		w.add(im.Depart{}, 0, rest)
	}
	return w.out
}

// sortedDeparts returns departments by id.
func sortedDeparts(m map[uint32]im.Depart) []im.Depart {
	var list []im.Depart
	for _, d := range m {
		list = append(list, d)
	}
	slices.SortFunc(list, func(x, y im.Depart) int { return cmp.Compare(x.ID, y.ID) })
	return list
}

// departWalk writes a tree down.
type departWalk struct {
	below  map[uint32][]im.Depart
	people map[uint32][]contact
	filter string
	seen   map[uint32]bool
	out    []departNode
}

// walk writes what is below a department.
func (w *departWalk) walk(parent uint32, depth int, all bool) {
	list := w.below[parent]
	slices.SortFunc(list, func(x, y im.Depart) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	for _, d := range list {
		w.depart(d, depth, all)
	}
}

// depart writes a department, its people and what is below it.
func (w *departWalk) depart(d im.Depart, depth int, all bool) {
	if w.seen[d.ID] {
		return
	}
	w.seen[d.ID] = true
	all = all || strings.Contains(strings.ToLower(d.Name), w.filter)
	if all {
		w.add(d, depth, w.people[d.ID])
		depth++
	}
	w.walk(d.ID, depth, all)
}

// add writes a department and its people, those online first.
func (w *departWalk) add(d im.Depart, depth int, people []contact) {
	slices.SortFunc(people, func(x, y contact) int {
		if x.online != y.online {
			if x.online {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.Name, y.Name)
	})
	node := departNode{depth: depth, depart: d, people: len(people)}
	for i := range people {
		if people[i].online {
			node.on++
		}
	}
	w.out = append(w.out, node)
	for i := range people {
		w.out = append(w.out, departNode{depth: depth + 1, depart: d, user: &people[i]})
	}
}

// splitWords cuts an argument at spaces; what stands between quotation marks is one word, and a space behind a backslash is a part of one. The mark # or @ may
// stand before one.
func splitWords(s string) []string {
	var words []string
	for {
		var word string
		if word, s = cutWord(s); word == "" && s == "" {
			return words
		}
		if word != "" {
			words = append(words, word)
		}
	}
}

// cutWord takes the first word off an argument.
func cutWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " ")
	mark := ""
	if strings.HasPrefix(s, "#\"") || strings.HasPrefix(s, "@\"") {
		mark, s = s[:1], s[1:]
	}
	if strings.HasPrefix(s, "\"") {
		if word, rest, ok := strings.Cut(s[1:], "\""); ok {
			return mark + word, strings.TrimLeft(rest, " ")
		}
	}
	end := 0
	for end < len(s) && (s[end] != ' ' || end > 0 && s[end-1] == '\\') {
		end++
	}
	return mark + strings.ReplaceAll(s[:end], `\ `, " "), strings.TrimLeft(s[end:], " ")
}

// quoteWord is a name as splitWords takes it for one word, with marks or backslashes.
func quoteWord(name string, marks bool) string {
	switch {
	case !strings.Contains(name, " "):
		return name
	case !marks:
		return strings.ReplaceAll(name, " ", `\ `)
	case strings.HasPrefix(name, "#"), strings.HasPrefix(name, "@"):
		return name[:1] + "\"" + name[1:] + "\""
	}
	return "\"" + name + "\""
}
