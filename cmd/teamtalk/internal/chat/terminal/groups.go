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
func (cm *commands) groupCommand(arg string) {
	action, rest := cutWord(arg)
	words := splitWords(rest)
	var err error
	switch strings.ToLower(action) {
	case "create", "new":
		err = cm.createGroup(words)
	case "add", "remove", "leave":
		err = cm.changeGroup(strings.ToLower(action), words)
	case "show", "members":
		err = cm.showGroup(words)
	default:
		cm.locked(func() {
			for _, line := range groupHelp() {
				cm.print(runewidth.Truncate("  "+line, cm.columns()-1, "…"))
			}
		})
	}
	cm.report(err)
}

// asking returns a context with the time that a command may take.
func (cm *commands) asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(cm.ctx, 10*time.Second)
}

// createGroup makes a group and opens it.
func (cm *commands) createGroup(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("name the group and its users: /group create NAME USERS…")
	}
	users, err := cm.s.FindUsers(words[1:])
	if err != nil {
		return err
	}
	ctx, cancel := cm.asking()
	defer cancel()
	g, err := cm.s.CreateGroup(ctx, strings.TrimPrefix(words[0], "#"), users)
	if err != nil {
		return fmt.Errorf("the group was not made: %w", err)
	}
	cm.open("#" + strconv.FormatUint(uint64(g.ID), 10))
	return nil
}

// takeGroup removes #GROUP from the front of the words, and returns the group; without
// #GROUP the open one.
func (cm *commands) takeGroup(words []string) (client.Group, []string, error) {
	if len(words) > 0 && strings.HasPrefix(words[0], "#") {
		g, err := cm.s.Book.FindGroup(words[0])
		return g, words[1:], err
	}
	cm.mu.Lock()
	peer := cm.peer
	cm.mu.Unlock()
	if peer == nil || !peer.Group {
		return client.Group{}, nil, fmt.Errorf("no group is open: open one, or name one with #NAME")
	}
	g, ok := cm.s.Book.Group(peer.ID)
	if !ok {
		return client.Group{}, nil, fmt.Errorf("the server sent nothing about %s",
			cm.s.Book.PeerName(*peer))
	}
	return g, words, nil
}

// changeGroup adds users, removes users, or leaves.
func (cm *commands) changeGroup(action string, words []string) error {
	g, words, err := cm.takeGroup(words)
	if err != nil {
		return err
	}
	t, users := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, []uint32{cm.s.Book.SelfID()}
	switch {
	case action == "leave" && len(words) > 0:
		return fmt.Errorf("/group leave takes no users: /group remove USERS… removes them")
	case action != "leave" && len(words) == 0:
		return fmt.Errorf("name the users: /group %s USERS…", action)
	case action != "leave":
		if users, err = cm.s.FindUsers(words); err != nil {
			return err
		}
	}
	if action == "add" {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	}
	ctx, cancel := cm.asking()
	defer cancel()
	change, err := cm.s.Client.Groups.ChangeMembers(ctx, g.ID, t, users)
	switch {
	case im.KindOf(err) == im.Denied && action == "remove":
		return fmt.Errorf("only the creator of %s may remove other users",
			cm.s.Book.GroupName(g.ID))
	case im.KindOf(err) == im.Denied:
		return fmt.Errorf("the server refused: you may not change %s",
			cm.s.Book.GroupName(g.ID))
	case err != nil:
		return err
	case len(change.Changed) == 0:
		cm.locked(func() { cm.say("no member of " + cm.s.Book.GroupName(g.ID) + " was changed") })
	}
	return nil // the event shows the change
}

// showGroup lists the members of a group.
func (cm *commands) showGroup(words []string) error {
	g, _, err := cm.takeGroup(words)
	if err != nil {
		return err
	}
	cm.mu.Lock()
	defer cm.mu.Unlock()
	cm.print(cm.paint(bold, runewidth.Truncate(cm.groupLine(g.ID), cm.columns()-1, "…")))
	const most = 100
	for _, id := range g.Members[:min(most, len(g.Members))] {
		mark, color := "○", dim
		if id == cm.s.Book.SelfID() || cm.s.Book.IsOnline(id) {
			mark, color = "●", green
		}
		line := cm.s.Book.Name(id)
		if id == g.Creator {
			line += " (creator)"
		}
		cm.print("  " + cm.paint(color, mark) + " " + runewidth.Truncate(line, cm.columns()-5, "…"))
	}
	if len(g.Members) > most {
		cm.say(fmt.Sprintf("and %d more", len(g.Members)-most))
	}
	return nil
}

// groups lists the user's groups.
func (cm *commands) groups(string) {
	if cm.s.Client.Online() {
		ctx, cancel := cm.asking()
		if err := cm.s.RefreshGroups(ctx); err != nil {
			cm.report(fmt.Errorf("the list may be out of date: %w", err))
		}
		cancel()
	}
	list := cm.s.Book.MyGroups()
	cm.mu.Lock()
	defer cm.mu.Unlock()
	for _, g := range list {
		line := fmt.Sprintf("%s  number %d", cm.groupLine(g.ID), g.ID)
		if u := cm.s.Book.UnreadOf(client.Peer{ID: g.ID, Group: true}).Count; u > 0 {
			line += fmt.Sprintf("  %d unread", u)
		}
		cm.print("  " + runewidth.Truncate(line, cm.columns()-3, "…"))
	}
	if len(list) == 0 {
		cm.say("you are in no group; /group create NAME USERS… makes one")
	}
}
