package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/cmd/teamtalk/internal/chat/jsonio"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// doneWith reads events up to the success of a command, which must be cmd.
func (c *chatting) doneWith(cmd string) jsonio.Event {
	c.t.Helper()
	e := c.until("done")
	if e.Cmd != cmd {
		c.t.Errorf("done %+v, want %s", e, cmd)
	}
	return e
}

// TestChatJSONGroups runs the commands about groups: alice creates a group with bob, bob changes
// it and leaves it, and both read their lists meanwhile.
func TestChatJSONGroups(t *testing.T) {
	s := chatServer(t)
	s.AddUser(3, "carol")
	s.AddGroup(40, "The Company", pb.GroupType_GROUP_TYPE_NORMAL, 1, 2, 3)
	s.StoreGroup(3, 40, crypt(t, "welcome"))
	alice := startChat(t, s, "alice", "--json", "--password", "alice")
	equal(t, "unread at login", alice.until("ready").Unread,
		[]jsonio.Unread{{Peer: "#The Company", Group: 40, Count: 1, Latest: 1}})
	bob := startChat(t, s, "bob", "#the comp", "--json", "--password", "bob")
	bob.until("ready")

	dev := createGroupJSON(t, alice, bob)
	bob.say(`a plain line to the company`)
	text := "a plain line to the company"
	alice.expect(jsonio.Event{Event: "message", Peer: "#The Company", Group: 40, From: "bob", ID: 2,
		Text: &text})
	changeMembersJSON(t, alice, bob, dev)
	listGroupsJSON(t, bob, dev)
	leaveGroupJSON(t, alice, bob, dev)

	alice.say(`{"cmd":"list"}`)
	list := *alice.until("list").List
	if len(list) != 2 || list[0].Peer != "#The Company" || list[0].Unread != 2 ||
		list[1].Group != dev {
		t.Errorf("list %+v", list)
	}
	equal(t, "stored messages", len(s.StoredGroup(40)), 2)
}

// createGroupJSON lets alice create the group dev team with bob and write to it. It returns the
// id of the group.
func createGroupJSON(t *testing.T, alice, bob *chatting) (dev uint32) {
	alice.say(`{"cmd":"create_group","name":"dev team","users":["bob"],"ref":5}`)
	made := alice.doneWith("create_group")
	if made.Peer != "#dev team" || made.Group == 0 || fmt.Sprint(made.Ref) != "5" {
		t.Errorf("created %+v", made)
	}
	alice.say(`{"to":"#dev team","text":"hello"}`)
	alice.expect(jsonio.Event{Event: "ack", To: "#dev team", ID: 1})
	bob.expect(jsonio.Event{Event: "group", Peer: "#dev team", Group: made.Group,
		Members: []string{"alice", "bob"}})
	text := "hello"
	bob.expect(jsonio.Event{Event: "message", Peer: "#dev team", Group: made.Group, From: "alice",
		ID: 1, Text: &text})
	return made.Group
}

// changeMembersJSON lets bob add carol, which alice sees, and remove alice, which is refused.
func changeMembersJSON(t *testing.T, alice, bob *chatting, dev uint32) {
	bob.say(`{"cmd":"add_members","peer":"#dev","users":["carol","alice"]}`)
	equal(t, "added", bob.doneWith("add_members").Added, []string{"carol"})
	alice.expect(jsonio.Event{Event: "group", Peer: "#dev team", Group: dev, By: "bob",
		Added: []string{"carol"}, Members: []string{"alice", "bob", "carol"}})
	bob.say(fmt.Sprintf(`{"cmd":"remove_members","group":%d,"users":["alice"]}`, dev))
	if e := bob.until("error"); !strings.Contains(e.Error, "refused") {
		t.Errorf("error %+v", e)
	}
}

// listGroupsJSON lets bob mute the new group, list the groups and read a history.
func listGroupsJSON(t *testing.T, bob *chatting, dev uint32) {
	bob.say(`{"cmd":"mute","peer":"#dev team"}`)
	bob.doneWith("mute")
	bob.say(`{"cmd":"groups"}`)
	equal(t, "groups", *bob.until("groups").Groups, []jsonio.Group{
		{Peer: "#dev team", Group: dev, Name: "dev team", Type: "temporary", Creator: "alice",
			Members: []string{"alice", "bob", "carol"}, Muted: true, Unread: 1},
		{Peer: "#The Company", Group: 40, Name: "The Company", Type: "normal", Creator: "alice",
			Members: []string{"alice", "bob", "carol"}, Unread: 1},
	})
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	if h := bob.until("history"); h.Peer != "#dev team" || len(h.Messages) != 1 ||
		h.Messages[0].Group != dev {
		t.Errorf("history %+v", h)
	}
}

// leaveGroupJSON lets bob leave the group: alice sees it, and bob cannot read the history.
func leaveGroupJSON(t *testing.T, alice, bob *chatting, dev uint32) {
	bob.say(`{"cmd":"leave_group","peer":"#dev team"}`)
	bob.doneWith("leave_group")
	alice.expect(jsonio.Event{Event: "group", Peer: "#dev team", Group: dev, By: "bob",
		Removed: []string{"bob"}, Members: []string{"alice", "carol"}})
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	bob.until("error")
}

// TestChatJSONSettings runs the commands about users and about the user's own settings.
func TestChatJSONSettings(t *testing.T) {
	s := chatServer(t)
	s.AddUser(3, "carol")
	s.AddDepart(im.Depart{ID: 1, Name: "Company", Updated: 1})
	s.AddDepart(im.Depart{ID: 2, Name: "Kitchen", Parent: 1, Updated: 2})
	s.SetDepart(2, 2)
	s.SetDepart(1, 1)
	alice, bob := startChat(t, s, "alice", "--json", "--password", "alice"),
		startChat(t, s, "bob", "--json", "--password", "bob")
	alice.until("ready")
	bob.until("ready")
	phone := startChat(t, s, "alice", "--json", "--mobile", "--password", "alice")
	phone.until("ready")

	showUsersJSON(t, alice, bob)
	sendSignsJSON(t, alice, bob)
	syncDevicesJSON(t, alice, phone)
	refusedJSON(t, alice)

	phone.say(`{"cmd":"kick_pc"}`)
	phone.doneWith("kick_pc")
	alice.until("kicked")
	equal(t, "exit code", alice.end(), chat.ExitEnded)
}

// showUsersJSON lets bob change the sign info and the picture. alice sees the changes, the
// departments and the status of users.
func showUsersJSON(t *testing.T, alice, bob *chatting) {
	sign, avatar := "at lunch", "http://x/a.png"
	bob.say(`{"cmd":"sign","text":"at lunch"}`)
	bob.doneWith("sign")
	alice.expect(jsonio.Event{Event: "sign", User: "bob", Text: &sign})
	bob.say(`{"cmd":"avatar","text":"http://x/a.png"}`)
	alice.expect(jsonio.Event{Event: "avatar", User: "bob", Text: &avatar})
	alice.say(`{"cmd":"departs"}`)
	equal(t, "departments", *alice.until("departs").Departs, []jsonio.Depart{
		{ID: 1, Name: "Company", Users: []jsonio.Contact{
			{Name: "alice", Nick: "alice", ID: 1, Status: "online"}}},
		{ID: 2, Name: "Kitchen", Parent: 1, Depth: 1, Users: []jsonio.Contact{
			{Name: "bob", Nick: "bob", ID: 2, Status: "online", Sign: "at lunch"}}},
		{Users: []jsonio.Contact{{Name: "carol", Nick: "carol", ID: 3, Status: "offline"}}},
	})
	alice.say(`{"cmd":"status","users":["bob","carol"]}`)
	alice.expect(jsonio.Event{Event: "status", Contacts: []jsonio.Contact{
		{Name: "bob", Nick: "bob", ID: 2, Status: "online", Sign: "at lunch"},
		{Name: "carol", Nick: "carol", ID: 3, Status: "offline"},
	}})
}

// sendSignsJSON lets bob send the signs of typing, and a sound.
func sendSignsJSON(t *testing.T, alice, bob *chatting) {
	bob.say(`{"cmd":"typing","peer":"alice"}`)
	bob.say(`{"cmd":"typing","peer":"alice","off":true}`)
	alice.expect(jsonio.Event{Event: "typing", User: "bob", Status: "typing"})
	alice.expect(jsonio.Event{Event: "typing", User: "bob", Status: "stopped"})
	file := filepath.Join(t.TempDir(), "a.amr")
	if err := os.WriteFile(file, []byte("sound"), 0o600); err != nil {
		t.Fatal(err)
	}
	bob.say(fmt.Sprintf(`{"cmd":"voice","to":"alice","file":%q,"seconds":3}`, file))
	text := "[voice message, 3 s, 5 bytes]"
	alice.expect(jsonio.Event{Event: "message", Peer: "bob", From: "bob", ID: 1, Kind: "audio",
		Seconds: 3, Bytes: 5, Text: &text})
}

// syncDevicesJSON removes a session, which the user's phone sees, and mutes the pushes.
func syncDevicesJSON(t *testing.T, alice, phone *chatting) {
	alice.say(`{"cmd":"remove_session","peer":"bob"}`)
	alice.doneWith("remove_session")
	phone.expect(jsonio.Event{Event: "session_removed", Peer: "bob"})
	for _, line := range []string{`{"cmd":"push_shield","on":true}`, `{"cmd":"push_shield"}`} {
		alice.say(line)
		if e := alice.doneWith("push_shield"); e.On == nil || !*e.On {
			t.Errorf("%s: %+v", line, e)
		}
	}
}

// refusedJSON sends commands that fail, each with an error.
func refusedJSON(t *testing.T, alice *chatting) {
	for _, line := range []string{
		`{"cmd":"kick_pc"}`, `{"cmd":"remove_session","peer":"bob"}`, `{"cmd":"typing","group":3}`,
		`{"cmd":"voice","to":"bob","file":"/nowhere"}`,
		`{"cmd":"create_group","name":"x","users":["nobody"]}`,
		`{"cmd":"create_group","users":["bob"]}`, `{"cmd":"mute","peer":"bob"}`,
		`{"cmd":"add_members","group":3}`, `{"cmd":"leave_group"}`,
		`{"cmd":"status","users":["nobody"]}`,
	} {
		alice.say(line)
		if e := alice.until("error"); e.Error == "" {
			t.Errorf("%s: %+v", line, e)
		}
	}
}

// TestChatPlainGroup sends the lines of a pipe to a group.
func TestChatPlainGroup(t *testing.T) {
	s := chatServer(t)
	s.AddGroup(40, "The Company", pb.GroupType_GROUP_TYPE_NORMAL, 1, 2)
	bob := startChat(t, s, "bob", "--password", "bob")
	s.WaitFrames(pb.CmdGroupInfoListReq, 1)
	alice := startChat(t, s, "alice", "#The Company", "--password", "alice")
	alice.say("hello")
	_ = alice.in.Close()
	equal(t, "exit code", alice.end(), 0)
	if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), " #The Company, alice: hello") {
		t.Errorf("line %q", bob.out.Text())
	}
	_ = bob.in.Close()
	equal(t, "exit code", bob.end(), 0)
	nothing := startChat(t, s, "alice", "#nothing", "--password", "alice")
	equal(t, "unknown group", nothing.end(), 1)
}
