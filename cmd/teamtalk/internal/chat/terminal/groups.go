package terminal

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// groupHelp lists the forms of /group.
func groupHelp() []string {
	return []string{
		"/group create NAME USERS…        make a group with you and USERS",
		"/group add [#GROUP] USERS…       add users",
		"/group remove [#GROUP] USERS…    remove users, if you made the group",
		"/group leave [#GROUP]            leave the group",
		"/group show [#GROUP]             list the members and their presence",
		"#GROUP is the open group by default. A name with spaces: #\"the team\" or #the\\ team.",
	}
}

// groupCommand executes /group.
func (f *Frontend) groupCommand(arg string) {
	action, rest := cutWord(arg)
	words := splitWords(rest)
	var err error
	switch strings.ToLower(action) {
	case "create", "new":
		err = f.createGroup(words)
	case "add", "remove", "leave":
		err = f.changeGroup(strings.ToLower(action), words)
	case "show", "members":
		err = f.showGroup(words)
	default:
		f.locked(func() {
			for _, line := range groupHelp() {
				f.print(runewidth.Truncate("  "+line, f.columns()-1, "…"))
			}
		})
	}
	f.report(err)
}

// report writes the error of a command that failed.
func (f *Frontend) report(err error) {
	if err != nil {
		f.locked(func() { f.complain(err.Error()) })
	}
}

// asking returns a context with the time that a command may take.
func (f *Frontend) asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.ctx, 10*time.Second)
}

// createGroup makes a group and opens it.
func (f *Frontend) createGroup(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("name the group and its users: /group create NAME USERS…")
	}
	users, err := f.s.Book.FindUsers(words[1:])
	if err != nil {
		return err
	}
	ctx, cancel := f.asking()
	defer cancel()
	g, err := f.s.CreateGroup(ctx, strings.TrimPrefix(words[0], "#"), users)
	if err != nil {
		return fmt.Errorf("the group was not made: %w", err)
	}
	f.open("#" + strconv.FormatUint(uint64(g.ID), 10))
	return nil
}

// takeGroup removes #GROUP from the front of the words, and returns the group; without
// #GROUP the open one.
func (f *Frontend) takeGroup(words []string) (client.Group, []string, error) {
	if len(words) > 0 && strings.HasPrefix(words[0], "#") {
		g, err := f.s.Book.FindGroup(words[0])
		return g, words[1:], err
	}
	f.mu.Lock()
	peer := f.peer
	f.mu.Unlock()
	if peer == nil || !peer.Group {
		return client.Group{}, nil, fmt.Errorf("no group is open: open one, or name one with #NAME")
	}
	g, ok := f.s.Book.Group(peer.ID)
	if !ok {
		return client.Group{}, nil, fmt.Errorf("the server sent nothing about %s",
			f.s.Book.PeerName(*peer))
	}
	return g, words, nil
}

// changeGroup adds users, removes users, or leaves.
func (f *Frontend) changeGroup(action string, words []string) error {
	g, words, err := f.takeGroup(words)
	if err != nil {
		return err
	}
	t, users := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, []uint32{f.s.Book.SelfID()}
	switch {
	case action == "leave" && len(words) > 0:
		return fmt.Errorf("/group leave takes no users: /group remove USERS… removes them")
	case action != "leave" && len(words) == 0:
		return fmt.Errorf("name the users: /group %s USERS…", action)
	case action != "leave":
		if users, err = f.s.Book.FindUsers(words); err != nil {
			return err
		}
	}
	if action == "add" {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	}
	ctx, cancel := f.asking()
	defer cancel()
	change, err := f.s.Client.Groups.ChangeMembers(ctx, g.ID, t, users)
	switch {
	case im.KindOf(err) == im.Denied && action == "remove":
		return fmt.Errorf("only the creator of %s may remove other users", f.s.Book.GroupName(g.ID))
	case im.KindOf(err) == im.Denied:
		return fmt.Errorf("the server refused: you may not change %s", f.s.Book.GroupName(g.ID))
	case err != nil:
		return err
	case len(change.Changed) == 0:
		f.locked(func() { f.say("no member of " + f.s.Book.GroupName(g.ID) + " was changed") })
	}
	return nil // the event shows the change
}

// groupLine describes a group in one line.
func (f *Frontend) groupLine(id uint32) string {
	line := f.s.Book.GroupName(id)
	g, ok := f.s.Book.Group(id)
	if !ok {
		return line
	}
	on := 0
	for _, m := range g.Members {
		if m == f.s.Book.SelfID() || f.s.Book.IsOnline(m) {
			on++
		}
	}
	line += fmt.Sprintf(" · %d members, %d online", len(g.Members), on)
	if g.Shield {
		line += " · muted"
	}
	return line
}

// showGroup lists the members of a group.
func (f *Frontend) showGroup(words []string) error {
	g, _, err := f.takeGroup(words)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.print(f.paint(bold, runewidth.Truncate(f.groupLine(g.ID), f.columns()-1, "…")))
	const most = 100
	for _, id := range g.Members[:min(most, len(g.Members))] {
		mark, color := "○", dim
		if id == f.s.Book.SelfID() || f.s.Book.IsOnline(id) {
			mark, color = "●", green
		}
		line := f.s.Book.Name(id)
		if id == g.Creator {
			line += " (creator)"
		}
		f.print("  " + f.paint(color, mark) + " " + runewidth.Truncate(line, f.columns()-5, "…"))
	}
	if len(g.Members) > most {
		f.say(fmt.Sprintf("and %d more", len(g.Members)-most))
	}
	return nil
}

// groups lists the user's groups.
func (f *Frontend) groups(string) {
	if f.s.Client.Online() {
		ctx, cancel := f.asking()
		if err := f.s.RefreshGroups(ctx); err != nil {
			f.report(fmt.Errorf("the list may be out of date: %w", err))
		}
		cancel()
	}
	list := f.s.Book.MyGroups()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range list {
		line := fmt.Sprintf("%s  number %d", f.groupLine(g.ID), g.ID)
		if u := f.s.Book.UnreadOf(client.Peer{ID: g.ID, Group: true}).Count; u > 0 {
			line += fmt.Sprintf("  %d unread", u)
		}
		f.print("  " + runewidth.Truncate(line, f.columns()-3, "…"))
	}
	if len(list) == 0 {
		f.say("you are in no group; /group create NAME USERS… makes one")
	}
}
