package chat

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestBookFind finds users by login name, shown name and a beginning that only one has.
func TestBookFind(t *testing.T) {
	b := NewBook(im.User{ID: 9, Name: "me"})
	for id, name := range map[uint32]string{1: "bob", 2: "bobby", 3: "carol", 4: "carla"} {
		b.users[id] = im.User{ID: id, Name: name,
			Nick: strings.ToUpper(name[:1]) + name[1:] + " Smith"}
	}
	for in, want := range map[string]uint32{"bob": 1, "BOB": 1, "@bobb": 2, "caro": 3,
		"Carla Smith": 4, "ca": 0, "x": 0, "": 0, "me": 0} {
		u, err := b.find(in)
		if u.ID != want || (err == nil) != (want != 0) {
			t.Errorf("find(%q) = %d, %v; want %d", in, u.ID, err, want)
		}
	}
	if _, err := b.find("ca"); err == nil || !strings.Contains(err.Error(), "carla, carol") {
		t.Errorf("find(ca): %v", err)
	}
}

// testBook returns a book of user 9 with three other users and five groups.
func testBook() *Book {
	b := NewBook(im.User{ID: 9, Name: "me"})
	for id, name := range map[uint32]string{1: "bob", 2: "dev", 3: "carol"} {
		b.users[id] = im.User{ID: id, Name: name, Nick: name, DepartID: id}
	}
	add := func(id uint32, name string, members ...uint32) {
		b.groups[id] = client.Group{Group: im.Group{ID: id, Name: name,
			Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: members}}
	}
	add(10, "Dev", 1, 9)
	add(11, "The team", 1, 9)
	add(12, "theatre", 1, 9)
	add(13, "past", 1)
	add(14, "theatre", 9)
	return b
}

// TestBookFindPeer finds users and groups by name, and groups by number.
func TestBookFindPeer(t *testing.T) {
	b := testBook()
	for in, want := range map[string]client.Peer{
		"dev": {ID: 2}, "#dev": {ID: 10, Group: true}, "@dev": {ID: 2},
		"#10": {ID: 10, Group: true}, "the team": {ID: 11, Group: true},
		"#the t": {ID: 11, Group: true}, "#the": {}, "#theatre": {}, "#14": {ID: 14, Group: true},
		"#past": {}, "@the team": {}, "": {}, "#": {}, "nobody": {},
	} {
		if p, err := b.FindPeer(in); p != want || (err == nil) != (want != client.Peer{}) {
			t.Errorf("FindPeer(%q) = %v, %v; want %v", in, p, err, want)
		}
	}
	if _, err := b.FindPeer("#theatre"); err == nil || !strings.Contains(err.Error(),
		"#12 (theatre), #14 (theatre)") {
		t.Errorf("two of a name: %v", err)
	}
	if got := b.GroupNames(); !slices.Equal(got, []string{"#Dev", "#The team", "#12", "#14"}) {
		t.Errorf("names %q", got)
	}
	if ids, err := b.FindUsers([]string{"bob", "@ME"}); err != nil || !slices.Equal(ids,
		[]uint32{1, 9}) {
		t.Errorf("users %v, %v", ids, err)
	}
}

// TestBookDeparts: departments arrive in any order, one inside itself, two inside each
// other, and one inside a department that does not exist.
func TestBookDeparts(t *testing.T) {
	b := testBook()
	for _, d := range []im.Depart{
		{ID: 1, Name: "Kitchen", Parent: 5, Priority: 2}, {ID: 5, Name: "Company"},
		{ID: 2, Name: "Office", Parent: 5, Priority: 1},
		{ID: 6, Name: "Self", Parent: 6, Priority: 9},
		{ID: 7, Name: "Hen", Parent: 8}, {ID: 8, Name: "Egg", Parent: 7},
		{ID: 4, Name: "Lost", Parent: 99, Priority: 8},
	} {
		b.depart[d.ID] = d
	}
	lines := func(filter string) string {
		var out []string
		for _, n := range b.Departs(filter) {
			name := n.Depart.Name
			if n.User != nil {
				name = n.User.Name
			}
			out = append(out, fmt.Sprint(n.Depth, " ", name))
		}
		return strings.Join(out, ", ")
	}
	const all = "0 Company, 1 Office, 2 dev, 1 Kitchen, 2 bob, 0 Lost, 0 Self, 0 Hen, 1 Egg, " +
		"0 , 1 carol"
	if got, want := lines(""), all; got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
	if got, want := lines("KIT"), "0 Kitchen, 1 bob"; got != want {
		t.Errorf("part %s, want %s", got, want)
	}
}

// TestGroupNews describes each kind of change in words.
func TestGroupNews(t *testing.T) {
	b := testBook()
	g := b.groups[10]
	for want, e := range map[string]client.GroupChanged{
		"#Dev has 2 members: bob, you":  {Group: g},
		"you made #Dev with bob":        {Group: g, By: 9, Added: []uint32{1, 9}},
		"bob added you to #Dev":         {Group: g, By: 1, Added: []uint32{9}},
		"carol left #Dev":               {Group: g, By: 3, Removed: []uint32{3}},
		"you are not in #past any more": {Group: b.groups[13]},
		"bob took carol out of #Dev":    {Group: g, By: 1, Removed: []uint32{3}},
		"#Dev is not muted":             {Group: g, By: 9},
	} {
		if got := GroupNews(b, e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNewGroupListed lists a group from the moment when the user made it or was added, and until
// it is removed.
func TestNewGroupListed(t *testing.T) {
	b := NewBook(im.User{ID: 1, Name: "alice"})
	event := func(added, removed []uint32, members ...uint32) {
		b.Event(client.GroupChanged{By: 2, Added: added, Removed: removed, Group: client.Group{
			Group: im.Group{ID: 7, Name: "dev", Type: pb.GroupType_GROUP_TYPE_TMP,
				Members: members}}})
	}
	listed := func(when string, want bool) {
		t.Helper()
		list := b.Talks()
		if (len(list) == 1 && list[0].Peer == client.Peer{ID: 7, Group: true}) != want {
			t.Errorf("%s: the list is %+v", when, list)
		}
	}
	event(nil, nil, 1, 2) // known from an earlier login
	listed("known", false)
	event([]uint32{3}, nil, 1, 2, 3)
	listed("another user was added", false)
	event(nil, []uint32{1}, 2, 3)
	event([]uint32{1}, nil, 1, 2, 3)
	listed("added", true)
	event(nil, []uint32{1}, 2, 3)
	listed("removed", false)
	event([]uint32{1, 2}, nil, 1, 2)
	listed("made", true)
}
