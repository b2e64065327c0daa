package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// done waits until a command was done.
func (c *chatting) doneWith(cmd string) jsonEvent {
	c.t.Helper()
	e := c.until("done")
	if e.Cmd != cmd {
		c.t.Errorf("done %+v, want %s", e, cmd)
	}
	return e
}

// Everything a program can do with groups.
func TestChatJSONGroups(t *testing.T) {
	s := chatServer(t)
	s.AddUser(3, "carol")
	s.AddGroup(40, "The Company", pb.GroupType_GROUP_TYPE_NORMAL, 1, 2, 3)
	s.StoreGroup(3, 40, crypt(t, "welcome"))
	alice := startChat(t, s, "alice", "--json", "--password", "alice")
	ready := alice.until("ready")
	if len(ready.Unread) != 1 || ready.Unread[0] != (jsonUnread{Peer: "#The Company", Group: 40, Count: 1, Latest: 1}) {
		t.Errorf("ready %+v", ready)
	}
	bob := startChat(t, s, "bob", "#the comp", "--json", "--password", "bob")
	bob.until("ready")
	alice.say(`{"cmd":"create_group","name":"dev team","users":["bob"],"ref":5}`)
	made := alice.doneWith("create_group")
	if made.Peer != "#dev team" || made.Group == 0 || fmt.Sprint(made.Ref) != "5" {
		t.Errorf("created %+v", made)
	}
	alice.say(`{"to":"#dev team","text":"hello"}`)
	if ack := alice.until("ack"); ack.To != "#dev team" || ack.ID != 1 {
		t.Errorf("ack %+v", ack)
	}
	if e := bob.until("group"); e.Peer != "#dev team" || e.By != "" || !slices.Equal(e.Members, []string{"alice", "bob"}) {
		t.Errorf("new group %+v", e)
	}
	if m := bob.until("message"); m.Peer != "#dev team" || m.Group != made.Group || m.From != "alice" || *m.Text != "hello" {
		t.Errorf("message %+v", m)
	}
	bob.say(`a plain line to the company`)
	if m := alice.until("message"); m.Group != 40 || m.From != "bob" {
		t.Errorf("message %+v", m)
	}
	bob.say(`{"cmd":"add_members","peer":"#dev","users":["carol","alice"]}`)
	if e := bob.doneWith("add_members"); !slices.Equal(e.Added, []string{"carol"}) {
		t.Errorf("added %+v", e)
	}
	if e := alice.until("group"); e.By != "bob" || !slices.Equal(e.Added, []string{"carol"}) || len(e.Members) != 3 {
		t.Errorf("change %+v", e)
	}
	bob.say(fmt.Sprintf(`{"cmd":"remove_members","group":%d,"users":["alice"]}`, made.Group))
	if e := bob.until("error"); !strings.Contains(e.Error, "refused") {
		t.Errorf("error %+v", e)
	}
	bob.say(`{"cmd":"mute","peer":"#dev team"}`)
	bob.doneWith("mute")
	bob.say(`{"cmd":"groups"}`)
	groups := *bob.until("groups").Groups
	if len(groups) != 2 || groups[0].Name != "dev team" || !groups[0].Muted || groups[0].Type != "temporary" || groups[0].Creator != "alice" ||
		groups[0].Unread != 1 || groups[1].Group != 40 || groups[1].Type != "normal" {
		t.Errorf("groups %+v", groups)
	}
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	if h := bob.until("history"); h.Peer != "#dev team" || len(h.Messages) != 1 || h.Messages[0].Group != made.Group {
		t.Errorf("history %+v", h)
	}
	bob.say(`{"cmd":"leave_group","peer":"#dev team"}`)
	bob.doneWith("leave_group")
	if e := alice.until("group"); e.By != "bob" || !slices.Equal(e.Removed, []string{"bob"}) || e.Left {
		t.Errorf("change %+v", e)
	}
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	bob.until("error")
	alice.say(`{"cmd":"list"}`)
	list := *alice.until("list").List
	if len(list) != 2 || list[0].Peer != "#The Company" || list[0].Unread != 2 || list[1].Group != made.Group {
		t.Errorf("list %+v", list)
	}
	equalInt(t, "stored", len(s.StoredGroup(40)), 2)
}

// Everything a program can do with people and its own settings.
func TestChatJSONSettings(t *testing.T) {
	s := chatServer(t)
	s.AddUser(3, "carol")
	s.AddDepart(im.Depart{ID: 1, Name: "Company", Updated: 1})
	s.AddDepart(im.Depart{ID: 2, Name: "Kitchen", Parent: 1, Updated: 2})
	s.SetDepart(2, 2)
	s.SetDepart(1, 1)
	alice, bob := startChat(t, s, "alice", "--json", "--password", "alice"), startChat(t, s, "bob", "--json", "--password", "bob")
	alice.until("ready")
	bob.until("ready")
	phone := startChat(t, s, "alice", "--json", "--mobile", "--password", "alice")
	phone.until("ready")
	bob.say(`{"cmd":"sign","text":"at lunch"}`)
	bob.doneWith("sign")
	if e := alice.until("sign"); e.User != "bob" || *e.Text != "at lunch" {
		t.Errorf("sign %+v", e)
	}
	bob.say(`{"cmd":"avatar","text":"http://x/a.png"}`)
	if e := alice.until("avatar"); e.User != "bob" || *e.Text != "http://x/a.png" {
		t.Errorf("avatar %+v", e)
	}
	alice.say(`{"cmd":"departs"}`)
	departs := *alice.until("departs").Departs
	if len(departs) != 3 || departs[1].Name != "Kitchen" || departs[1].Depth != 1 || len(departs[1].Users) != 1 || departs[1].Users[0].Name != "bob" ||
		departs[1].Users[0].Status != "online" || departs[1].Users[0].Sign != "at lunch" || departs[2].ID != 0 || departs[2].Users[0].Name != "carol" {
		t.Errorf("departments %+v", departs)
	}
	alice.say(`{"cmd":"status","users":["bob","carol"]}`)
	if e := alice.until("status"); len(e.Contacts) != 2 || e.Contacts[0].Status != "online" || e.Contacts[1].Status != "offline" {
		t.Errorf("status %+v", e)
	}
	bob.say(`{"cmd":"typing","peer":"alice"}`)
	bob.say(`{"cmd":"typing","peer":"alice","off":true}`)
	for _, want := range []string{"typing", "stopped"} {
		if e := alice.until("typing"); e.User != "bob" || e.Status != want {
			t.Errorf("typing %+v", e)
		}
	}
	file := filepath.Join(t.TempDir(), "a.amr")
	if err := os.WriteFile(file, []byte("sound"), 0o600); err != nil {
		t.Fatal(err)
	}
	bob.say(fmt.Sprintf(`{"cmd":"voice","to":"alice","file":%q,"seconds":3}`, file))
	if m := alice.until("message"); m.Kind != "audio" || m.Seconds != 3 || m.Bytes != 5 {
		t.Errorf("sound %+v", m)
	}
	alice.say(`{"cmd":"remove_session","peer":"bob"}`)
	alice.doneWith("remove_session")
	if e := phone.until("session_removed"); e.Peer != "bob" {
		t.Errorf("removed %+v", e)
	}
	for _, line := range []string{`{"cmd":"push_shield","on":true}`, `{"cmd":"push_shield"}`} {
		alice.say(line)
		if e := alice.doneWith("push_shield"); e.On == nil || !*e.On {
			t.Errorf("%s: %+v", line, e)
		}
	}
	for _, line := range []string{
		`{"cmd":"kick_pc"}`, `{"cmd":"remove_session","peer":"bob"}`, `{"cmd":"typing","group":3}`, `{"cmd":"voice","to":"bob","file":"/nowhere"}`,
		`{"cmd":"create_group","name":"x","users":["nobody"]}`, `{"cmd":"create_group","users":["bob"]}`, `{"cmd":"mute","peer":"bob"}`,
		`{"cmd":"add_members","group":3}`, `{"cmd":"leave_group"}`, `{"cmd":"status","users":["nobody"]}`,
	} {
		alice.say(line)
		if e := alice.until("error"); e.Error == "" {
			t.Errorf("%s: %+v", line, e)
		}
	}
	phone.say(`{"cmd":"kick_pc"}`)
	phone.doneWith("kick_pc")
	alice.until("kicked")
	equalInt(t, "exit code", alice.end(), exitEnded)
}

// Tab completes names of groups with spaces, whichever way they are begun.
func TestCompleteGroups(t *testing.T) {
	f := &terminalFrontend{s: &chatSession{book: testBook()}}
	for line, want := range map[string]string{
		"/to bo": "/to bob ", "/to #the\\": "/to #the\\ team ", `/msg #"the t`: `/msg #"the team" `, "/group ad": "/group add ", "/group add #de": "/group add #Dev ",
		"/group add #The\\ team bo": "/group add #The\\ team bob ", "/mute bo": "",
	} {
		choices, n := completer{f}.Do([]rune(line), len([]rune(line)))
		got := ""
		if len(choices) == 1 {
			got = line + string(choices[0])
		}
		if !strings.EqualFold(got, want) {
			t.Errorf("%q becomes %q (%d, %q), want %q", line, got, n, choices, want)
		}
	}
}

// A pipe of lines can be one to a group.
func TestChatPlainGroup(t *testing.T) {
	s := chatServer(t)
	s.AddGroup(40, "The Company", pb.GroupType_GROUP_TYPE_NORMAL, 1, 2)
	bob := startChat(t, s, "bob", "--password", "bob")
	s.WaitFrames(pb.CmdGroupInfoListReq, 1)
	alice := startChat(t, s, "alice", "#The Company", "--password", "alice")
	alice.say("hello")
	_ = alice.in.Close()
	equalInt(t, "exit code", alice.end(), 0)
	if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), " #The Company, alice: hello") {
		t.Errorf("line %q", bob.out.Text())
	}
	_ = bob.in.Close()
	equalInt(t, "exit code", bob.end(), 0)
	nothing := startChat(t, s, "alice", "#nothing", "--password", "alice")
	equalInt(t, "unknown group", nothing.end(), 1)
}

func testBook() *book {
	b := newBook()
	b.self = im.User{ID: 9, Name: "me"}
	for id, name := range map[uint32]string{1: "bob", 2: "dev", 3: "carol"} {
		b.users[id] = im.User{ID: id, Name: name, Nick: name, DepartID: id}
	}
	add := func(id uint32, name string, members ...uint32) {
		b.groups[id] = client.Group{Group: im.Group{ID: id, Name: name, Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: members}}
	}
	add(10, "Dev", 1, 9)
	add(11, "The team", 1, 9)
	add(12, "theatre", 1, 9)
	add(13, "past", 1)
	add(14, "theatre", 9)
	return b
}

func TestBookFindPeer(t *testing.T) {
	b := testBook()
	for in, want := range map[string]client.Peer{
		"dev": {ID: 2}, "#dev": {ID: 10, Group: true}, "@dev": {ID: 2}, "#10": {ID: 10, Group: true}, "the team": {ID: 11, Group: true},
		"#the t": {ID: 11, Group: true}, "#the": {}, "#theatre": {}, "#14": {ID: 14, Group: true}, "#past": {}, "@the team": {}, "": {}, "#": {}, "nobody": {},
	} {
		if p, err := b.findPeer(in); p != want || (err == nil) != (want != client.Peer{}) {
			t.Errorf("findPeer(%q) = %v, %v; want %v", in, p, err, want)
		}
	}
	if _, err := b.findPeer("#theatre"); err == nil || !strings.Contains(err.Error(), "#12 (theatre), #14 (theatre)") {
		t.Errorf("two of a name: %v", err)
	}
	if got := b.groupNames(); !slices.Equal(got, []string{"#Dev", "#The team", "#12", "#14"}) {
		t.Errorf("names %q", got)
	}
	if ids, err := b.findUsers([]string{"bob", "@ME"}); err != nil || !slices.Equal(ids, []uint32{1, 9}) {
		t.Errorf("users %v, %v", ids, err)
	}
}

// Departments as they may come: in any order, one below itself, two below each other, one below nothing there is.
func TestBookDeparts(t *testing.T) {
	b := testBook()
	for _, d := range []im.Depart{
		{ID: 1, Name: "Kitchen", Parent: 5, Priority: 2}, {ID: 5, Name: "Company"}, {ID: 2, Name: "Office", Parent: 5, Priority: 1}, {ID: 6, Name: "Self", Parent: 6, Priority: 9},
		{ID: 7, Name: "Hen", Parent: 8}, {ID: 8, Name: "Egg", Parent: 7}, {ID: 4, Name: "Lost", Parent: 99, Priority: 8},
	} {
		b.depart[d.ID] = d
	}
	lines := func(filter string) string {
		var out []string
		for _, n := range b.departs(filter) {
			name := n.depart.Name
			if n.user != nil {
				name = n.user.Name
			}
			out = append(out, fmt.Sprint(n.depth, " ", name))
		}
		return strings.Join(out, ", ")
	}
	if got, want := lines(""), "0 Company, 1 Office, 2 dev, 1 Kitchen, 2 bob, 0 Lost, 0 Self, 0 Hen, 1 Egg, 0 , 1 carol"; got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
	if got, want := lines("KIT"), "0 Kitchen, 1 bob"; got != want {
		t.Errorf("part %s, want %s", got, want)
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  a  b ": {"a", "b"}, `#"the team" bob`: {"#the team", "bob"}, `"a b" c`: {"a b", "c"}, `"open end`: {`"open`, "end"}, `"" x`: {"x"}, `#dev`: {"#dev"}, `#the\ team b\ c\`: {"#the team", `b c\`},
	} {
		if got := splitWords(in); !slices.Equal(got, want) {
			t.Errorf("splitWords(%q) = %q, want %q", in, got, want)
		}
	}
	for _, name := range []string{"bob", "#the team", "a b", "@a b"} {
		for _, marks := range []bool{false, true} {
			if got := splitWords(quoteWord(name, marks) + " x"); !slices.Equal(got, []string{name, "x"}) {
				t.Errorf("%q comes back as %q", name, got)
			}
		}
	}
	for in, want := range map[string]string{"": "", "a": "a", "a b": "b", `a #"the te`: `#"the te`, `a #the\ te`: `#the\ te`, `#"the team" b`: "b"} {
		if got := lastWord(in); got != want {
			t.Errorf("lastWord(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`#"the team" bob "x`)
	f.Fuzz(func(t *testing.T, s string) {
		if words := splitWords(s); slices.Contains(words, "") {
			t.Errorf("splitWords(%q) = %q", s, words)
		}
	})
}

func TestGroupNews(t *testing.T) {
	b := testBook()
	g := b.groups[10]
	for want, e := range map[string]client.GroupChanged{
		"#Dev has 2 members: bob, you": {Group: g}, "you made #Dev with bob": {Group: g, By: 9, Added: []uint32{1, 9}},
		"bob added you to #Dev": {Group: g, By: 1, Added: []uint32{9}}, "carol left #Dev": {Group: g, By: 3, Removed: []uint32{3}},
		"you are not in #past any more": {Group: b.groups[13]},
		"bob took carol out of #Dev":    {Group: g, By: 1, Removed: []uint32{3}}, "#Dev is not muted": {Group: g, By: 9},
	} {
		if got := groupNews(b, e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
