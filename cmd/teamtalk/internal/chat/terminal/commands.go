package terminal

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
)

// chatCommand is a command that the user types behind a slash.
type chatCommand struct {
	names string // separated by spaces; help shows the first
	arg   string // for help
	help  string
	named bool // the argument holds names of users or groups
	run   func(f *Frontend, arg string)
}

// chatCommands returns the commands in the order of /help. The one without run ends the
// session.
func chatCommands() []chatCommand {
	return []chatCommand{
		{"to t open", "NAME",
			"open the conversation with NAME or #GROUP; the beginning of a name is enough", true,
			(*Frontend).open},
		{"list l chats", "",
			"list conversations: unread ones first, then the latest", false, (*Frontend).list},
		{"who w contacts", "[TEXT]",
			"list users, or those whose name contains TEXT; ● online ○ offline", false,
			(*Frontend).contacts},
		{"departs d", "[TEXT]",
			"list departments and their users, or those whose name contains TEXT", false,
			(*Frontend).departs},
		{"msg m", "NAME TEXT", "send to NAME without opening the conversation", true,
			(*Frontend).msg},
		{"voice", "SECONDS FILE",
			"send a recorded voice message to the open conversation", false, (*Frontend).voice},
		{"send", "FILE",
			"send a file to the open conversation; drag it into the terminal to insert it", false,
			(*Frontend).sendFile},
		{"drop", "FILE", "leave a file at the server, also if the other user is online",
			false, (*Frontend).dropFile},
		{"files", "", "list files that wait for you, and running transfers", false,
			(*Frontend).files},
		{"get", "N", "fetch file number N into the folder of --downloads", false,
			(*Frontend).getFile},
		{"refuse", "N", "refuse file number N", false, (*Frontend).refuseFile},
		{"cancel", "N", "stop sending or fetching file number N", false,
			(*Frontend).cancelFile},
		{"groups", "", "list your groups", false, (*Frontend).groups},
		{"group g", "WHAT …",
			"make a group, list or change its members; /group shows the forms", true,
			(*Frontend).groupCommand},
		{"mute", "[#GROUP]", "turn pushes from a group to your phone off", true,
			mute(true)},
		{"unmute", "[#GROUP]", "turn pushes from a group on", true, mute(false)},
		{"unread u", "", "list conversations with unread messages", false,
			(*Frontend).unreadCommand},
		{"history h", "[N]", "show the last N messages of the open conversation",
			false, (*Frontend).historyCommand},
		{"more", "[N]", "show N older messages", false, (*Frontend).more},
		{"remove", "[NAME]",
			"remove a conversation from the list, until its next message", true,
			(*Frontend).removeSession},
		{"sign", "[TEXT]", "set the text beside your name; without TEXT: none", false,
			(*Frontend).sign},
		{"night", "[on|off]",
			"turn pushes to your phone from 22:00 to 07:00 off (on) or on (off)", false,
			(*Frontend).night},
		{"retry", "", "send failed messages again", false, (*Frontend).retry},
		{"status", "", "show the connection, and unsent messages", false,
			(*Frontend).status},
		{"close", "", "close the conversation", false, (*Frontend).closeConversation},
		{"help ?", "", "show this list", false, (*Frontend).help},
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

// command runs a command, and reports whether the user leaves. f.mu is not held.
func (f *Frontend) command(name, arg string) bool {
	c, ok := findCommand(name)
	switch {
	case !ok:
		f.mu.Lock()
		f.complain("there is no command /" + chat.CleanLine(name) + "; /help lists the commands")
		f.mu.Unlock()
	case c.run == nil:
		return true
	default:
		c.run(f, arg)
	}
	return false
}

// locked runs do with the screen's lock held.
func (f *Frontend) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// open opens a conversation: it shows the title and the last messages, and marks them as
// read.
func (f *Frontend) open(arg string) {
	if word, rest := cutWord(arg); rest == "" {
		arg = word
	}
	p, err := f.s.FindPeer(arg)
	if err != nil {
		f.locked(func() { f.complain(err.Error()) })
		return
	}
	unread := int(f.s.Book.UnreadOf(p).Count)
	f.locked(func() {
		f.peer, f.shown, f.oldest, f.day = &p, 0, 0, ""
		f.there, f.writing = !p.Group && f.s.Book.IsOnline(p.ID), false
		f.setPrompt()
		f.print(f.paint(bold, f.title(p)))
	})
	f.show(p, 0, min(max(f.opts.History, unread), 200))
}

// title returns the headline of a conversation.
func (f *Frontend) title(p client.Peer) string {
	if p.Group {
		return runewidth.Truncate("── "+f.groupLine(p.ID)+" ──", f.columns()-1, "…")
	}
	u := f.s.Book.User(p.ID)
	title := "── " + f.s.Book.PlainName(p.ID)
	if nick := chat.CleanLine(u.Nick); nick != "" && nick != chat.CleanLine(u.Name) {
		title += " (" + nick + ")"
	}
	if f.there {
		title += " ● online"
	} else {
		title += " ○ offline"
	}
	if sign := chat.CleanLine(u.SignInfo); sign != "" {
		title += " · " + sign
	}
	return runewidth.Truncate(title+" ──", f.columns()-1, "…")
}

// show shows n messages with ids at most begin, or the newest with begin 0, and then the
// messages that arrived in the meantime.
func (f *Frontend) show(p client.Peer, begin uint32, n int) {
	f.locked(func() { f.opening = true })
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	list, err := f.s.History(ctx, p, begin, n)
	cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = false
	if err != nil {
		f.complain("no history: " + err.Error())
	}
	newest := uint32(0)
	for _, m := range list {
		f.message(p, m)
		newest = max(newest, m.ID)
	}
	if len(list) > 0 && (f.oldest == 0 || list[0].ID < f.oldest) {
		f.oldest = list[0].ID
	}
	f.shown = max(f.shown, newest)
	for _, e := range f.loading {
		if e.Message.ID > newest {
			f.message(e.Peer, e.Message)
			f.shown = max(f.shown, e.Message.ID)
		}
	}
	f.loading = nil
	if f.shown > 0 && begin == 0 {
		f.s.MarkRead(p, f.shown)
	}
	if begin == 0 {
		for _, l := range f.sent { // the history does not hold unsent messages
			if l.peer == p {
				f.say("still being sent: " + snippet(l.text))
			}
		}
	}
}

// number parses a count of messages.
func (f *Frontend) number(arg string) (int, bool) {
	if arg == "" {
		return f.opts.History, true
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > 10000 {
		f.locked(func() { f.complain("want a number from 1 to 10000") })
		return 0, false
	}
	return n, true
}

// current returns the open conversation, or writes that none is open.
func (f *Frontend) current() (p client.Peer, oldest uint32, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peer == nil {
		f.complain("no conversation is open: /to NAME")
		return client.Peer{}, 0, false
	}
	return *f.peer, f.oldest, true
}

// historyCommand shows the last messages of the open conversation.
func (f *Frontend) historyCommand(arg string) {
	n, ok := f.number(arg)
	if !ok {
		return
	}
	if p, _, ok := f.current(); ok {
		f.locked(func() { f.day = "" })
		f.show(p, 0, n)
	}
}

// more shows messages before the oldest one shown.
func (f *Frontend) more(arg string) {
	n, ok := f.number(arg)
	if !ok {
		return
	}
	p, oldest, ok := f.current()
	switch {
	case !ok:
	case oldest <= 1:
		f.locked(func() { f.say("the conversation began here") })
	default:
		f.locked(func() { f.day = "" })
		f.show(p, oldest-1, n)
		f.locked(func() { f.say("older messages end here") })
	}
}

// contacts lists users.
func (f *Frontend) contacts(arg string) {
	if f.s.Client.Online() {
		f.reload()
	}
	list := f.s.Book.List(arg)
	f.mu.Lock()
	defer f.mu.Unlock()
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
		f.print("  " + f.paint(color, mark) + " " + runewidth.Truncate(line, f.columns()-5, "…"))
	}
	switch {
	case len(list) == 0 && arg != "":
		f.say("no user has a name with " + snippet(arg))
	case len(list) == 0:
		f.say("there are no other users yet")
	case len(list) > most:
		f.say(fmt.Sprintf("and %d more: /contacts TEXT finds them", len(list)-most))
	}
}

// msg sends a text to a conversation that stays closed.
func (f *Frontend) msg(arg string) {
	name, text := cutWord(arg)
	p, err := f.s.FindPeer(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch text = strings.TrimSpace(text); {
	case err != nil:
		f.complain(err.Error())
	case text == "":
		f.complain("want a text: /msg NAME TEXT")
	default:
		f.post(p, text)
	}
}

// unreadCommand lists conversations with unread messages.
func (f *Frontend) unreadCommand(string) {
	f.locked(func() {
		if !f.sayUnread() {
			f.say("no unread messages")
		}
	})
}

// sayUnread lists conversations with unread messages; false when there are none. f.mu is
// held.
func (f *Frontend) sayUnread() bool {
	list := f.s.Book.AllUnread()
	for i, u := range list {
		if i == 20 {
			f.say(fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		f.say(fmt.Sprintf("%d unread from %s", u.Count, f.s.Book.PeerName(u.Peer)))
	}
	return len(list) > 0
}

// retry sends failed messages again.
func (f *Frontend) retry(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := f.failed
	f.failed = nil
	if len(again) == 0 {
		f.say("no message has failed")
	}
	for _, t := range again {
		if t.sound != nil {
			f.postSound(t.peer, t.seconds, t.sound)
		} else {
			f.post(t.peer, t.text)
		}
	}
}

// status shows the connection and the number of unsent messages.
func (f *Frontend) status(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := "connected to " + f.s.Client.Server()
	if f.offline {
		state = "not connected; reconnecting"
	}
	f.say(fmt.Sprintf("%s as %s; %d messages wait for the server, %d failed",
		state, chat.CleanLine(f.s.Book.Self().Name), f.s.Client.Pending(), len(f.failed)))
}

// closeConversation closes the open conversation.
func (f *Frontend) closeConversation(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peer, f.shown, f.oldest = nil, 0, 0
	f.setPrompt()
}

// help lists the commands.
func (f *Frontend) help(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range chatCommands() {
		form := "/" + strings.TrimSpace(c.name()+" "+c.arg)
		f.print(runewidth.Truncate(fmt.Sprintf("  %-20s %s", form, c.help), f.columns()-1, "…"))
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
		f.print(runewidth.Truncate(line, f.columns()-1, "…"))
	}
}
