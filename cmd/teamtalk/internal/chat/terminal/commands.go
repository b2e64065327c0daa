package terminal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
)

// commands runs the commands that the user types. They show their results in the view.
type commands struct{ *view }

// chatCommand is a command that the user types behind a slash.
type chatCommand struct {
	names string // separated by spaces; help shows the first
	arg   string // for help
	help  string
	named bool // the argument holds names of users or groups
	run   func(cm *commands, arg string)
}

// chatCommands returns the commands in the order of /help. The one without run ends the
// session.
func chatCommands() []chatCommand {
	return []chatCommand{
		{"to t open", "NAME",
			"open the conversation with NAME or #GROUP; the beginning of a name is enough", true,
			(*commands).open},
		{"list l chats", "",
			"list conversations: unread ones first, then the latest", false, (*commands).list},
		{"who w contacts", "[TEXT]",
			"list users, or those whose name contains TEXT; ● online ○ offline", false,
			(*commands).contacts},
		{"departs d", "[TEXT]",
			"list departments and their users, or those whose name contains TEXT", false,
			(*commands).departs},
		{"msg m", "NAME TEXT", "send to NAME without opening the conversation", true,
			(*commands).msg},
		{"voice", "SECONDS FILE",
			"send a recorded voice message to the open conversation", false, (*commands).voice},
		{"send", "FILE",
			"send a file to the open conversation; drag it into the terminal to insert it", false,
			(*commands).sendFile},
		{"drop", "FILE", "leave a file at the server, also if the other user is online",
			false, (*commands).dropFile},
		{"files", "", "list files that wait for you, and running transfers", false,
			(*commands).files},
		{"get", "N", "fetch file number N into the folder of --downloads", false,
			(*commands).getFile},
		{"refuse", "N", "refuse file number N", false, (*commands).refuseFile},
		{"cancel", "N", "stop sending or fetching file number N", false,
			(*commands).cancelFile},
		{"groups", "", "list your groups", false, (*commands).groups},
		{"group g", "WHAT …",
			"make a group, list or change its members; /group shows the forms", true,
			(*commands).groupCommand},
		{"mute", "[#GROUP]", "turn pushes from a group to your phone off", true,
			mute(true)},
		{"unmute", "[#GROUP]", "turn pushes from a group on", true, mute(false)},
		{"unread u", "", "list conversations with unread messages", false,
			(*commands).unreadCommand},
		{"history h", "[N]", "show the last N messages of the open conversation",
			false, (*commands).historyCommand},
		{"more", "[N]", "show N older messages", false, (*commands).more},
		{"remove", "[NAME]",
			"remove a conversation from the list, until its next message", true,
			(*commands).removeSession},
		{"sign", "[TEXT]", "set the text beside your name; without TEXT: none", false,
			(*commands).sign},
		{"night", "[on|off]",
			"turn pushes to your phone from 22:00 to 07:00 off (on) or on (off)", false,
			(*commands).night},
		{"retry", "", "send failed messages again", false, (*commands).retry},
		{"status", "", "show the connection, and unsent messages", false,
			(*commands).status},
		{"close", "", "close the conversation", false, (*commands).closeConversation},
		{"help ?", "", "show this list", false, (*commands).help},
		{"quit q exit", "", "log out (or Ctrl-D)", false, nil},
	}
}

// name returns the name that help shows.
func (c chatCommand) name() string {
	name, _, _ := strings.Cut(c.names, " ")
	return name
}

// commandNames returns the first names of the commands, with a slash.
func commandNames() []string {
	var out []string
	for _, c := range chatCommands() {
		out = append(out, "/"+c.name())
	}
	slices.Sort(out)
	return out
}

// findCommand returns the command of a name.
func findCommand(name string) (chatCommand, bool) {
	for _, c := range chatCommands() {
		if slices.Contains(strings.Fields(c.names), name) {
			return c, true
		}
	}
	return chatCommand{}, false
}

// takesName reports whether the argument of a command holds names.
func takesName(command string) bool {
	c, ok := findCommand(strings.ToLower(command))
	return ok && c.named
}

// run runs a command, and reports whether the user leaves. cm.mu is not held.
func (cm *commands) run(name, arg string) bool {
	c, ok := findCommand(name)
	switch {
	case !ok:
		cm.mu.Lock()
		cm.complain("there is no command /" + chat.CleanLine(name) + "; /help lists the commands")
		cm.mu.Unlock()
	case c.run == nil:
		return true
	default:
		c.run(cm, arg)
	}
	return false
}

// open opens a conversation: it shows the title and the last messages, and marks them as
// read.
func (cm *commands) open(arg string) {
	if word, rest := cutWord(arg); rest == "" {
		arg = word
	}
	p, err := cm.s.FindPeer(arg)
	if err != nil {
		cm.locked(func() { cm.complain(err.Error()) })
		return
	}
	unread := int(cm.s.Book.UnreadOf(p).Count)
	cm.locked(func() {
		cm.peer, cm.shown, cm.oldest, cm.day = &p, 0, 0, ""
		cm.there, cm.writing = !p.Group && cm.s.Book.IsOnline(p.ID), false
		cm.setPrompt()
		cm.print(cm.paint(bold, cm.title(p)))
	})
	cm.show(p, 0, min(max(cm.opts.History, unread), 200))
}

// number parses a count of messages.
func (cm *commands) number(arg string) (int, bool) {
	if arg == "" {
		return cm.opts.History, true
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > 10000 {
		cm.locked(func() { cm.complain("want a number from 1 to 10000") })
		return 0, false
	}
	return n, true
}

// current returns the open conversation, or writes that none is open.
func (cm *commands) current() (p client.Peer, oldest uint32, ok bool) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	if cm.peer == nil {
		cm.complain("no conversation is open: /to NAME")
		return client.Peer{}, 0, false
	}
	return *cm.peer, cm.oldest, true
}

// historyCommand shows the last messages of the open conversation.
func (cm *commands) historyCommand(arg string) {
	n, ok := cm.number(arg)
	if !ok {
		return
	}
	if p, _, ok := cm.current(); ok {
		cm.locked(func() { cm.day = "" })
		cm.show(p, 0, n)
	}
}

// more shows messages before the oldest one shown.
func (cm *commands) more(arg string) {
	n, ok := cm.number(arg)
	if !ok {
		return
	}
	p, oldest, ok := cm.current()
	switch {
	case !ok:
	case oldest <= 1:
		cm.locked(func() { cm.say("the conversation began here") })
	default:
		cm.locked(func() { cm.day = "" })
		cm.show(p, oldest-1, n)
		cm.locked(func() { cm.say("older messages end here") })
	}
}

// contacts lists users.
func (cm *commands) contacts(arg string) {
	if cm.s.Client.Online() {
		cm.reload()
	}
	list := cm.s.Book.List(arg)
	cm.mu.Lock()
	defer cm.mu.Unlock()
	width := 4
	for _, c := range list {
		width = max(width, min(20, runewidth.StringWidth(chat.CleanLine(c.Name))))
	}
	const most = 50
	for _, c := range list[:min(most, len(list))] {
		name := chat.CleanLine(c.Name)
		mark, color := "○", dim
		if c.Online {
			mark, color = "●", green
		}
		line := runewidth.FillRight(name, width)
		if nick := chat.CleanLine(c.Nick); nick != name {
			line += "  " + nick
		}
		if c.Away {
			line += " (away)"
		}
		if sign := chat.CleanLine(c.SignInfo); sign != "" {
			line += " · " + sign
		}
		if c.Unread > 0 {
			line += fmt.Sprintf("  %d unread", c.Unread)
		}
		cm.print("  " + cm.paint(color, mark) + " " + runewidth.Truncate(line, cm.columns()-5, "…"))
	}
	switch {
	case len(list) == 0 && arg != "":
		cm.say("no user has a name with " + snippet(arg))
	case len(list) == 0:
		cm.say("there are no other users yet")
	case len(list) > most:
		cm.say(fmt.Sprintf("and %d more: /contacts TEXT finds them", len(list)-most))
	}
}

// msg sends a text to a conversation that stays closed.
func (cm *commands) msg(arg string) {
	name, text := cutWord(arg)
	p, err := cm.s.FindPeer(name)
	cm.mu.Lock()
	defer cm.mu.Unlock()
	switch text = strings.TrimSpace(text); {
	case err != nil:
		cm.complain(err.Error())
	case text == "":
		cm.complain("want a text: /msg NAME TEXT")
	default:
		cm.post(p, text)
	}
}

// unreadCommand lists conversations with unread messages.
func (cm *commands) unreadCommand(string) {
	cm.locked(func() {
		if !cm.sayUnread() {
			cm.say("no unread messages")
		}
	})
}

// retry sends failed messages again.
func (cm *commands) retry(string) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	again := cm.failed
	cm.failed = nil
	if len(again) == 0 {
		cm.say("no message has failed")
	}
	for _, t := range again {
		if t.sound != nil {
			cm.postSound(t.peer, t.seconds, t.sound)
		} else {
			cm.post(t.peer, t.text)
		}
	}
}

// status shows the connection and the number of unsent messages.
func (cm *commands) status(string) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	state := "connected to " + cm.s.Client.Server()
	if cm.offline {
		state = "not connected; reconnecting"
	}
	cm.say(fmt.Sprintf("%s as %s; %d messages wait for the server, %d failed",
		state, chat.CleanLine(cm.s.Book.Self().Name), cm.s.Client.Pending(), len(cm.failed)))
}

// closeConversation closes the open conversation.
func (cm *commands) closeConversation(string) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	cm.peer, cm.shown, cm.oldest = nil, 0, 0
	cm.setPrompt()
}

// help lists the commands.
func (cm *commands) help(string) {
	cm.mu.Lock()
	defer cm.mu.Unlock()
	for _, c := range chatCommands() {
		form := "/" + strings.TrimSpace(c.name()+" "+c.arg)
		cm.print(runewidth.Truncate(fmt.Sprintf("  %-20s %s", form, c.help), cm.columns()-1, "…"))
	}
	for _, line := range []string{
		"  Any other text is sent to the open conversation; //text sends /text.",
		"  Tab completes commands and names; up and down return to earlier lines.",
		"  A name with spaces before further words needs quotation marks: #\"the team\",",
		"  or backslashes, which Tab inserts: #the\\ team.",
		"  New users: teamtalk chat NAME --register, if the server registers users.",
		"  Ctrl-O inserts a line break. " + markSending + " sending  " + markStored +
			" stored by the server  " + markFailed + " failed",
	} {
		cm.print(runewidth.Truncate(line, cm.columns()-1, "…"))
	}
}
