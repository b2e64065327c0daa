package jsonio

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// say writes a line.
func (f *Frontend) say(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(e)
}

// done writes the event of a command that succeeded, or returns the error of one that
// failed.
func (f *Frontend) done(cmd Command, e Event, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", cmd.Cmd, err)
	}
	e.Event, e.Cmd, e.Ref = "done", cmd.Cmd, cmd.Ref
	f.say(e)
	return nil
}

// peerEvent returns an event about a conversation.
func (f *Frontend) peerEvent(p client.Peer) Event {
	e := Event{Peer: f.s.Book.PeerName(p)}
	if p.Group {
		e.Group = p.ID
	}
	return e
}

// groupOf returns the group of a command.
func (f *Frontend) groupOf(cmd Command) (client.Peer, error) {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err == nil && !p.Group {
		err = fmt.Errorf("%s is a user, not a group", f.s.Book.PeerName(p))
	}
	return p, err
}

// logins returns the login names of users.
func (f *Frontend) logins(ids []uint32) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, f.s.Book.PlainName(id))
	}
	return out
}

// list writes the conversations.
func (f *Frontend) list(context.Context, Command) error {
	list := []Talk{}
	for _, t := range f.s.Book.Talks() {
		j := Talk{Peer: t.Name, Unread: t.Unread, Latest: t.Recent, Online: t.Online,
			Muted: t.Muted}
		if t.Peer.Group {
			j.Group = t.Peer.ID
		}
		list = append(list, j)
	}
	f.say(Event{Event: "list", List: &list})
	return nil
}

// groups writes the user's groups.
func (f *Frontend) groups(ctx context.Context, _ Command) error {
	if err := f.s.RefreshGroups(ctx); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	list := []Group{}
	for _, g := range f.s.Book.MyGroups() {
		kind := "temporary"
		if g.Type == pb.GroupType_GROUP_TYPE_NORMAL {
			kind = "normal"
		}
		list = append(list, Group{
			Peer: f.s.Book.GroupName(g.ID), Group: g.ID, Name: g.Name, Type: kind,
			Creator: f.s.Book.PlainName(g.Creator), Members: f.logins(g.Members),
			Muted: g.Shield, Unread: f.s.Book.UnreadOf(client.Peer{ID: g.ID, Group: true}).Count,
		})
	}
	f.say(Event{Event: "groups", Groups: &list})
	return nil
}

// departs writes the departments and their users.
func (f *Frontend) departs(ctx context.Context, cmd Command) error {
	if err := f.s.Book.LoadDeparts(ctx, f.s.Client); err != nil {
		return fmt.Errorf("departs: %w", err)
	}
	list := []Depart{}
	for _, n := range f.s.Book.Departs(cmd.Text) {
		if n.User == nil {
			list = append(list, Depart{ID: n.Depart.ID, Name: n.Depart.Name,
				Parent: n.Depart.Parent, Depth: n.Depth, Users: []Contact{}})
			continue
		}
		d := &list[len(list)-1]
		d.Users = append(d.Users, Contact{Name: n.User.Name, Nick: n.User.Nick, ID: n.User.ID,
			Status: statusWord(*n.User), Sign: n.User.SignInfo})
	}
	f.say(Event{Event: "departs", Departs: &list})
	return nil
}

// status asks the server for the presence of users. contacts writes the last known
// presence.
func (f *Frontend) status(ctx context.Context, cmd Command) error {
	ids, err := f.s.FindUsers(cmd.Users)
	if len(cmd.Users) == 0 {
		for _, c := range f.s.Book.List("") {
			ids = append(ids, c.ID)
		}
	}
	if err != nil {
		return err
	}
	stats, err := client.Statuses(ctx, f.s.Client, ids)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	e := Event{Event: "status", Contacts: []Contact{}}
	for _, id := range ids {
		u := f.s.Book.User(id)
		e.Contacts = append(e.Contacts, Contact{
			Name: u.Name, Nick: u.Nick, ID: id, Status: statWord(stats[id]), Sign: u.SignInfo,
			Unread: f.s.Book.UnreadOf(client.Peer{ID: id}).Count,
		})
	}
	f.say(e)
	return nil
}

// voice sends a voice message.
func (f *Frontend) voice(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.To)
	if err != nil {
		return err
	}
	sound, err := chat.ReadSound(cmd.File)
	if err != nil {
		return fmt.Errorf("voice: %w", err)
	}
	return f.queue(ctx, p, cmd, func() (uint64,
		error) {
		return f.s.Client.SendAudio(p, cmd.Seconds, sound)
	})
}

// typing tells a user that this one types.
func (f *Frontend) typing(_ context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	switch {
	case err != nil:
		return err
	case p.Group:
		return errors.New("typing is sent to single users, not to groups")
	}
	return f.done(cmd, f.peerEvent(p), f.s.Client.SendTyping(p.ID, !cmd.Off))
}

// createGroup makes a group.
func (f *Frontend) createGroup(ctx context.Context, cmd Command) error {
	users, err := f.s.FindUsers(cmd.Users)
	if err != nil {
		return err
	}
	g, err := f.s.CreateGroup(ctx, cmd.Name, users)
	return f.done(cmd, f.peerEvent(client.Peer{ID: g.ID, Group: true}), err)
}

// changeGroup adds members, removes members, or leaves a group.
func (f *Frontend) changeGroup(ctx context.Context, cmd Command) error {
	p, err := f.groupOf(cmd)
	if err != nil {
		return err
	}
	t, users := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, []uint32{f.s.Book.SelfID()}
	if cmd.Cmd == "add_members" {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	}
	if cmd.Cmd != "leave_group" {
		if users, err = f.s.FindUsers(cmd.Users); err != nil {
			return err
		}
		if len(users) == 0 {
			return errors.New("no users")
		}
	}
	e := f.peerEvent(p)
	var change im.MemberChange
	change, err = f.s.Client.Groups.ChangeMembers(ctx, p.ID, t, users)
	if t == pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD {
		e.Added = f.logins(change.Changed)
	} else {
		e.Removed = f.logins(change.Changed)
	}
	return f.done(cmd, e, err)
}

// mute turns pushes from a group off or on.
func (f *Frontend) mute(ctx context.Context, cmd Command) error {
	p, err := f.groupOf(cmd)
	if err != nil {
		return err
	}
	return f.done(cmd, f.peerEvent(p), f.s.Client.Groups.Shield(ctx, p.ID, cmd.Cmd == "mute"))
}

// removeSession removes a conversation from the list.
func (f *Frontend) removeSession(ctx context.Context, cmd Command) error {
	p, err := f.peer(cmd.Group, cmd.Peer)
	if err != nil {
		return err
	}
	if err = client.RemoveSession(ctx, f.s.Client, p); err == nil {
		f.s.Book.Forget(p)
	}
	return f.done(cmd, f.peerEvent(p), err)
}

// pushShield sets or asks whether pushes are off at night.
func (f *Frontend) pushShield(ctx context.Context, cmd Command) error {
	if cmd.On != nil {
		return f.done(cmd, Event{On: cmd.On}, client.SetPushShield(ctx, f.s.Client, *cmd.On))
	}
	on, err := client.PushShield(ctx, f.s.Client)
	return f.done(cmd, Event{On: &on}, err)
}

// happened writes an event about groups and users. f.mu is held.
func (f *Frontend) happened(e client.Event) {
	switch e := e.(type) {
	case client.GroupChanged:
		line := f.peerEvent(client.Peer{ID: e.Group.ID, Group: true})
		line.Event, line.Added, line.Removed, line.Members = "group", f.logins(e.Added),
			f.logins(e.Removed), f.logins(e.Group.Members)
		line.Left = !e.Group.Has(f.s.Book.SelfID())
		if e.By != 0 {
			line.By = f.s.Book.PlainName(e.By)
		}
		f.put(line)
	case client.SessionRemoved:
		line := f.peerEvent(e.Peer)
		line.Event = "session_removed"
		f.put(line)
	case client.SignChanged:
		f.put(Event{Event: "sign", User: f.s.Book.PlainName(e.User), Text: &e.Text})
	case client.AvatarChanged:
		f.put(Event{Event: "avatar", User: f.s.Book.PlainName(e.User), Text: &e.URL})
	case client.Typing:
		status := "stopped"
		if e.On {
			status = "typing"
		}
		f.put(Event{Event: "typing", User: f.s.Book.PlainName(e.User), Status: status})
	case client.PCLogin:
		f.put(Event{Event: "pc", Status: chat.OnlineWord(e.Online)})
	case client.Command:
		f.put(Event{Event: "command", From: f.s.Book.PlainName(e.From),
			To: f.s.Book.PlainName(e.To), Text: &e.Data})
	}
}
