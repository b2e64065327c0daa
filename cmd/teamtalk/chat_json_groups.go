package main

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// jsonGroup is a group.
type jsonGroup struct {
	Peer    string   `json:"peer"`
	Group   uint32   `json:"group"`
	Name    string   `json:"name"`
	Type    string   `json:"type"` // normal or temporary
	Creator string   `json:"creator"`
	Members []string `json:"members"`
	Muted   bool     `json:"muted"`
	Unread  uint32   `json:"unread"`
}

// jsonTalk is a conversation in the list.
type jsonTalk struct {
	Peer   string `json:"peer"`
	Group  uint32 `json:"group,omitempty"`
	Unread uint32 `json:"unread"`
	Latest uint32 `json:"updated,omitempty"` // unix seconds
	Online bool   `json:"online"`
	Muted  bool   `json:"muted,omitempty"`
}

// jsonDepart is a department with the people in it; the one without id holds those who are in none.
type jsonDepart struct {
	ID     uint32        `json:"id"`
	Name   string        `json:"name"`
	Parent uint32        `json:"parent,omitempty"`
	Depth  int           `json:"depth"`
	Users  []jsonContact `json:"users"`
}

// jsonCommands are the commands beyond those about messages.
func jsonCommands() map[string]func(f *jsonFrontend, ctx context.Context, cmd jsonCommand) error {
	return map[string]func(f *jsonFrontend, ctx context.Context, cmd jsonCommand) error{
		"list":           (*jsonFrontend).list,
		"groups":         (*jsonFrontend).groups,
		"departs":        (*jsonFrontend).departs,
		"status":         (*jsonFrontend).status,
		"voice":          (*jsonFrontend).voice,
		"typing":         (*jsonFrontend).typing,
		"create_group":   (*jsonFrontend).createGroup,
		"add_members":    (*jsonFrontend).changeGroup,
		"remove_members": (*jsonFrontend).changeGroup,
		"leave_group":    (*jsonFrontend).changeGroup,
		"mute":           (*jsonFrontend).mute,
		"unmute":         (*jsonFrontend).mute,
		"files":          (*jsonFrontend).listFiles,
		"send_file":      (*jsonFrontend).fileCommand,
		"get_file":       (*jsonFrontend).fileCommand,
		"refuse_file":    (*jsonFrontend).fileCommand,
		"cancel_file":    (*jsonFrontend).fileCommand,
		"remove_session": (*jsonFrontend).removeSession,
		"push_shield":    (*jsonFrontend).pushShield,
		"sign": func(f *jsonFrontend, ctx context.Context, cmd jsonCommand) error {
			return f.done(cmd, jsonEvent{}, client.SetSignInfo(ctx, f.s.client, cmd.Text))
		},
		"avatar": func(f *jsonFrontend, ctx context.Context, cmd jsonCommand) error {
			return f.done(cmd, jsonEvent{}, client.SetAvatar(ctx, f.s.client, cmd.Text))
		},
		"kick_pc": func(f *jsonFrontend, ctx context.Context, cmd jsonCommand) error {
			if !f.s.opts.mobile {
				return errors.New("only a mobile client may do that: --mobile")
			}
			return f.done(cmd, jsonEvent{}, client.KickPC(ctx, f.s.client))
		},
	}
}

// say writes a line.
func (f *jsonFrontend) say(e jsonEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(e)
}

// done says that a command was done, if it was.
func (f *jsonFrontend) done(cmd jsonCommand, e jsonEvent, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", cmd.Cmd, err)
	}
	e.Event, e.Cmd, e.Ref = "done", cmd.Cmd, cmd.Ref
	f.say(e)
	return nil
}

// peerEvent is an event about a conversation.
func (f *jsonFrontend) peerEvent(p client.Peer) jsonEvent {
	e := jsonEvent{Peer: f.s.book.peerName(p)}
	if p.Group {
		e.Group = p.ID
	}
	return e
}

// groupOf is the group that a command is about.
func (f *jsonFrontend) groupOf(cmd jsonCommand) (client.Peer, error) {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err == nil && !p.Group {
		err = fmt.Errorf("%s is no group", f.s.book.peerName(p))
	}
	return p, err
}

// logins are the login names of users.
func (f *jsonFrontend) logins(ids []uint32) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, f.s.book.plainName(id))
	}
	return out
}

func (f *jsonFrontend) list(context.Context, jsonCommand) error {
	list := []jsonTalk{}
	for _, t := range f.s.book.talks() {
		j := jsonTalk{Peer: t.name, Unread: t.unread, Latest: t.recent, Online: t.online, Muted: t.muted}
		if t.peer.Group {
			j.Group = t.peer.ID
		}
		list = append(list, j)
	}
	f.say(jsonEvent{Event: "list", List: &list})
	return nil
}

func (f *jsonFrontend) groups(ctx context.Context, _ jsonCommand) error {
	if err := f.s.refreshGroups(ctx); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	list := []jsonGroup{}
	for _, g := range f.s.book.myGroups() {
		kind := "temporary"
		if g.Type == pb.GroupType_GROUP_TYPE_NORMAL {
			kind = "normal"
		}
		list = append(list, jsonGroup{
			Peer: f.s.book.groupName(g.ID), Group: g.ID, Name: g.Name, Type: kind, Creator: f.s.book.plainName(g.Creator), Members: f.logins(g.Members),
			Muted: g.Shield, Unread: f.s.book.unreadOf(client.Peer{ID: g.ID, Group: true}).count,
		})
	}
	f.say(jsonEvent{Event: "groups", Groups: &list})
	return nil
}

func (f *jsonFrontend) departs(ctx context.Context, cmd jsonCommand) error {
	if err := f.s.book.loadDeparts(ctx, f.s.client); err != nil {
		return fmt.Errorf("departs: %w", err)
	}
	list := []jsonDepart{}
	for _, n := range f.s.book.departs(cmd.Text) {
		if n.user == nil {
			list = append(list, jsonDepart{ID: n.depart.ID, Name: n.depart.Name, Parent: n.depart.Parent, Depth: n.depth, Users: []jsonContact{}})
			continue
		}
		d := &list[len(list)-1]
		d.Users = append(d.Users, jsonContact{Name: n.user.Name, Nick: n.user.Nick, ID: n.user.ID, Status: statusWord(*n.user), Sign: n.user.SignInfo})
	}
	f.say(jsonEvent{Event: "departs", Departs: &list})
	return nil
}

// status asks the server, where contacts tells what is known.
func (f *jsonFrontend) status(ctx context.Context, cmd jsonCommand) error {
	ids, err := f.s.book.findUsers(cmd.Users)
	if len(cmd.Users) == 0 {
		for _, c := range f.s.book.list("") {
			ids = append(ids, c.ID)
		}
	}
	if err != nil {
		return err
	}
	stats, err := client.Statuses(ctx, f.s.client, ids)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	e := jsonEvent{Event: "status", Contacts: []jsonContact{}}
	for _, id := range ids {
		u := f.s.book.user(id)
		e.Contacts = append(e.Contacts, jsonContact{
			Name: u.Name, Nick: u.Nick, ID: id, Status: statWord(stats[id]), Sign: u.SignInfo, Unread: f.s.book.unreadOf(client.Peer{ID: id}).count,
		})
	}
	f.say(e)
	return nil
}

func (f *jsonFrontend) voice(ctx context.Context, cmd jsonCommand) error {
	p, err := f.peer(cmd.Group, cmd.To)
	if err != nil {
		return err
	}
	sound, err := readSound(cmd.File)
	if err != nil {
		return fmt.Errorf("voice: %w", err)
	}
	return f.queue(ctx, p, cmd, func() (uint64, error) { return f.s.client.SendAudio(p, cmd.Seconds, sound) })
}

func (f *jsonFrontend) typing(_ context.Context, cmd jsonCommand) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	switch {
	case err != nil:
		return err
	case p.Group:
		return errors.New("typing is told to single users only")
	}
	return f.done(cmd, f.peerEvent(p), f.s.client.SendTyping(p.ID, !cmd.Off))
}

func (f *jsonFrontend) createGroup(ctx context.Context, cmd jsonCommand) error {
	users, err := f.s.book.findUsers(cmd.Users)
	if err != nil {
		return err
	}
	g, err := f.s.client.CreateGroup(ctx, cmd.Name, "", users)
	if err == nil {
		f.s.book.event(client.GroupChanged{Group: g}) // the Client's event may come a little later
	}
	return f.done(cmd, f.peerEvent(client.Peer{ID: g.ID, Group: true}), err)
}

// changeGroup adds members, takes them out, or leaves.
func (f *jsonFrontend) changeGroup(ctx context.Context, cmd jsonCommand) error {
	p, err := f.groupOf(cmd)
	if err != nil {
		return err
	}
	t, users := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, []uint32{f.s.book.self.ID}
	if cmd.Cmd == "add_members" {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	}
	if cmd.Cmd != "leave_group" {
		if users, err = f.s.book.findUsers(cmd.Users); err != nil {
			return err
		}
		if len(users) == 0 {
			return errors.New("no users")
		}
	}
	e := f.peerEvent(p)
	var change im.MemberChange
	change, err = f.s.client.ChangeMembers(ctx, p.ID, t, users)
	if t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		e.Added = f.logins(change.Changed)
	} else {
		e.Removed = f.logins(change.Changed)
	}
	return f.done(cmd, e, err)
}

func (f *jsonFrontend) mute(ctx context.Context, cmd jsonCommand) error {
	p, err := f.groupOf(cmd)
	if err != nil {
		return err
	}
	return f.done(cmd, f.peerEvent(p), f.s.client.ShieldGroup(ctx, p.ID, cmd.Cmd == "mute"))
}

func (f *jsonFrontend) removeSession(ctx context.Context, cmd jsonCommand) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err != nil {
		return err
	}
	if err = client.RemoveSession(ctx, f.s.client, p); err == nil {
		f.s.book.forget(p)
	}
	return f.done(cmd, f.peerEvent(p), err)
}

func (f *jsonFrontend) pushShield(ctx context.Context, cmd jsonCommand) error {
	if cmd.On != nil {
		return f.done(cmd, jsonEvent{On: cmd.On}, client.SetPushShield(ctx, f.s.client, *cmd.On))
	}
	on, err := client.PushShield(ctx, f.s.client)
	return f.done(cmd, jsonEvent{On: &on}, err)
}

// happened writes an event about groups and people; f.mu is held.
func (f *jsonFrontend) happened(e client.Event) {
	switch e := e.(type) {
	case client.GroupChanged:
		line := f.peerEvent(client.Peer{ID: e.Group.ID, Group: true})
		line.Event, line.Added, line.Removed, line.Members = "group", f.logins(e.Added), f.logins(e.Removed), f.logins(e.Group.Members)
		line.Left = !e.Group.Has(f.s.book.self.ID)
		if e.By != 0 {
			line.By = f.s.book.plainName(e.By)
		}
		f.put(line)
	case client.SessionRemoved:
		line := f.peerEvent(e.Peer)
		line.Event = "session_removed"
		f.put(line)
	case client.SignChanged:
		f.put(jsonEvent{Event: "sign", User: f.s.book.plainName(e.User), Text: &e.Text})
	case client.AvatarChanged:
		f.put(jsonEvent{Event: "avatar", User: f.s.book.plainName(e.User), Text: &e.URL})
	case client.Typing:
		status := "stopped"
		if e.On {
			status = "typing"
		}
		f.put(jsonEvent{Event: "typing", User: f.s.book.plainName(e.User), Status: status})
	case client.PCLogin:
		f.put(jsonEvent{Event: "pc", Status: onlineWord(e.Online)})
	case client.Command:
		f.put(jsonEvent{Event: "command", From: f.s.book.plainName(e.From), To: f.s.book.plainName(e.To), Text: &e.Data})
	}
}
