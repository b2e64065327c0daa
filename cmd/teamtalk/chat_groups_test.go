package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/cmd/teamtalk/internal/chat/jsonio"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// doneWith waits for the success of a command.
func (c *chatting) doneWith(cmd string) jsonio.Event {
	c.t.Helper()
	e := c.until("done")
	if e.Cmd != cmd {
		c.t.Errorf("done %+v, want %s", e, cmd)
	}
	return e
}

// TestChatJSONGroups runs the commands about groups.
func TestChatJSONGroups(t *testing.T) {
	s := chatServer(t)
	s.AddUser(3, "carol")
	s.AddGroup(40, "The Company", pb.GroupType_GROUP_TYPE_NORMAL, 1, 2, 3)
	s.StoreGroup(3, 40, crypt(t, "welcome"))
	alice := startChat(t, s, "alice", "--json", "--password", "alice")
	ready := alice.until("ready")
	if len(ready.Unread) != 1 || ready.Unread[0] != (jsonio.Unread{Peer: "#The Company", Group: 40,
		Count: 1, Latest: 1}) {
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
	if e := bob.until("group"); e.Peer != "#dev team" || e.By != "" || !slices.Equal(e.Members,
		[]string{"alice", "bob"}) {
		t.Errorf("new group %+v", e)
	}
	if m := bob.until("message"); m.Peer != "#dev team" || m.Group != made.Group ||
		m.From != "alice" || *m.Text != "hello" {
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
	if e := alice.until("group"); e.By != "bob" || !slices.Equal(e.Added,
		[]string{"carol"}) || len(e.Members) != 3 {
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
	if len(groups) != 2 || groups[0].Name != "dev team" || !groups[0].Muted ||
		groups[0].Type != "temporary" || groups[0].Creator != "alice" ||
		groups[0].Unread != 1 || groups[1].Group != 40 || groups[1].Type != "normal" {
		t.Errorf("groups %+v", groups)
	}
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	if h := bob.until("history"); h.Peer != "#dev team" || len(h.Messages) != 1 ||
		h.Messages[0].Group != made.Group {
		t.Errorf("history %+v", h)
	}
	bob.say(`{"cmd":"leave_group","peer":"#dev team"}`)
	bob.doneWith("leave_group")
	if e := alice.until("group"); e.By != "bob" || !slices.Equal(e.Removed,
		[]string{"bob"}) || e.Left {
		t.Errorf("change %+v", e)
	}
	bob.say(`{"cmd":"history","peer":"#dev team"}`)
	bob.until("error")
	alice.say(`{"cmd":"list"}`)
	list := *alice.until("list").List
	if len(list) != 2 || list[0].Peer != "#The Company" || list[0].Unread != 2 ||
		list[1].Group != made.Group {
		t.Errorf("list %+v", list)
	}
	equalInt(t, "stored", len(s.StoredGroup(40)), 2)
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
	if len(departs) != 3 || departs[1].Name != "Kitchen" || departs[1].Depth != 1 ||
		len(departs[1].Users) != 1 || departs[1].Users[0].Name != "bob" ||
		departs[1].Users[0].Status != "online" || departs[1].Users[0].Sign != "at lunch" ||
		departs[2].ID != 0 || departs[2].Users[0].Name != "carol" {
		t.Errorf("departments %+v", departs)
	}
	alice.say(`{"cmd":"status","users":["bob","carol"]}`)
	if e := alice.until("status"); len(e.Contacts) != 2 || e.Contacts[0].Status != "online" ||
		e.Contacts[1].Status != "offline" {
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
	phone.say(`{"cmd":"kick_pc"}`)
	phone.doneWith("kick_pc")
	alice.until("kicked")
	equalInt(t, "exit code", alice.end(), chat.ExitEnded)
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
	equalInt(t, "exit code", alice.end(), 0)
	if !bob.out.Scan() || !strings.HasSuffix(bob.out.Text(), " #The Company, alice: hello") {
		t.Errorf("line %q", bob.out.Text())
	}
	_ = bob.in.Close()
	equalInt(t, "exit code", bob.end(), 0)
	nothing := startChat(t, s, "alice", "#nothing", "--password", "alice")
	equalInt(t, "unknown group", nothing.end(), 1)
}
