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

// chatCommand is something one can type behind a slash.
type chatCommand struct {
	names []string // the first is shown
	arg   string   // shown
	help  string
	name  bool // takes names
	run   func(f *Frontend, arg string)
}

// chatCommands lists them in the order of /help. One without run leaves.
func chatCommands() []chatCommand {
	return []chatCommand{
		{[]string{"to", "t", "open"}, "NAME", "open the conversation with NAME or #GROUP (or the beginning of it)", true, (*Frontend).open},
		{[]string{"list", "l", "chats"}, "", "conversations, groups too: unread ones first, then the latest", false, (*Frontend).list},
		{[]string{"who", "w", "contacts"}, "[TEXT]", "everybody, or whose name contains TEXT; ● online ○ offline", false, (*Frontend).who},
		{[]string{"departs", "d"}, "[TEXT]", "the departments and who is in them, or those whose name contains TEXT", false, (*Frontend).departs},
		{[]string{"msg", "m"}, "NAME TEXT", "send to NAME without opening the conversation", true, (*Frontend).msg},
		{[]string{"voice"}, "SECONDS FILE", "send a recorded sound to the open conversation", false, (*Frontend).voice},
		{[]string{"send"}, "FILE", "send a file to the open conversation; it may be dragged into the terminal", false, (*Frontend).sendFile},
		{[]string{"drop"}, "FILE", "the same, but leave it with the server, also if the other side is there", false, (*Frontend).dropFile},
		{[]string{"files"}, "", "files that wait for you, and those under way", false, (*Frontend).files},
		{[]string{"get"}, "N", "fetch a file, into the folder of --downloads", false, (*Frontend).getFile},
		{[]string{"refuse"}, "N", "do not take a file", false, (*Frontend).refuseFile},
		{[]string{"cancel"}, "N", "stop sending or fetching a file", false, (*Frontend).cancelFile},
		{[]string{"groups"}, "", "the groups you are in", false, (*Frontend).groups},
		{[]string{"group", "g"}, "WHAT …", "make a group, see or change who is in it: /group says how", true, (*Frontend).groupCommand},
		{[]string{"mute"}, "[#GROUP]", "no pushes from a group to your phone; /unmute turns them on again", true, mute(true)},
		{[]string{"unmute"}, "[#GROUP]", "pushes from a group again", true, mute(false)},
		{[]string{"unread", "u"}, "", "conversations with unread messages", false, (*Frontend).unreadCommand},
		{[]string{"history", "h"}, "[N]", "the last N messages of this conversation", false, (*Frontend).historyCommand},
		{[]string{"more"}, "[N]", "N older ones", false, (*Frontend).more},
		{[]string{"remove"}, "[NAME]", "take a conversation out of the list, until its next message", true, (*Frontend).removeSession},
		{[]string{"sign"}, "[TEXT]", "what everybody sees beside your name; without TEXT: nothing", false, (*Frontend).sign},
		{[]string{"night"}, "[on|off]", "no pushes to your phone from 22:00 to 07:00", false, (*Frontend).night},
		{[]string{"retry"}, "", "send again what failed", false, (*Frontend).retry},
		{[]string{"status"}, "", "connection, and what waits to be sent", false, (*Frontend).status},
		{[]string{"close"}, "", "leave the conversation", false, (*Frontend).closeConversation},
		{[]string{"help", "?"}, "", "this", false, (*Frontend).help},
		{[]string{"quit", "q", "exit"}, "", "log out (or Ctrl-D)", false, nil},
	}
}

// commandNames are the names that are shown, with their slash.
func commandNames() []string {
	var out []string
	for _, c := range chatCommands() {
		out = append(out, "/"+c.names[0])
	}
	slices.Sort(out)
	return out
}

// findCommand returns the command of a name.
func findCommand(name string) (chatCommand, bool) {
	for _, c := range chatCommands() {
		if slices.Contains(c.names, name) {
			return c, true
		}
	}
	return chatCommand{}, false
}

// takesName reports whether a command's argument has names in it.
func takesName(command string) bool {
	c, ok := findCommand(strings.ToLower(command))
	return ok && c.name
}

// command runs a command; true means leave. f.mu is not held.
func (f *Frontend) command(name, arg string) bool {
	c, ok := findCommand(name)
	switch {
	case !ok:
		f.mu.Lock()
		f.complain("there is no /" + chat.CleanLine(name) + "; /help lists what there is")
		f.mu.Unlock()
	case c.run == nil:
		return true
	default:
		c.run(f, arg)
	}
	return false
}

// locked runs do with the screen's lock.
func (f *Frontend) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// open opens a conversation: its name, its last messages, and it is read.
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

// title is the headline of a conversation.
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

// show shows n messages with ids at most begin (0: the newest), and then what came in meanwhile.
func (f *Frontend) show(p client.Peer, begin uint32, n int) {
	f.locked(func() { f.opening = true })
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	list, err := chat.History(ctx, f.s.Client, p, begin, n)
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
		f.read(p, f.shown)
	}
	if begin == 0 {
		for _, l := range f.sent { // not in the history yet
			if l.peer == p {
				f.say("still being sent: " + snippet(l.text))
			}
		}
	}
}

// number reads a count of messages.
func (f *Frontend) number(arg string) (int, bool) {
	if arg == "" {
		return f.opts.History, true
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > 10000 {
		f.locked(func() { f.complain("how many? A number from 1 to 10000") })
		return 0, false
	}
	return n, true
}

// current returns the open conversation, or says that there is none.
func (f *Frontend) current() (p client.Peer, oldest uint32, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peer == nil {
		f.complain("no conversation is open: /to NAME")
		return client.Peer{}, 0, false
	}
	return *f.peer, f.oldest, true
}

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

func (f *Frontend) more(arg string) {
	n, ok := f.number(arg)
	if !ok {
		return
	}
	p, oldest, ok := f.current()
	switch {
	case !ok:
	case oldest <= 1:
		f.locked(func() { f.say("that is where it began") })
	default:
		f.locked(func() { f.day = "" })
		f.show(p, oldest-1, n)
		f.locked(func() { f.say("older messages end here") })
	}
}

// who lists contacts.
func (f *Frontend) who(arg string) {
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
		f.say("nobody whose name contains " + snippet(arg))
	case len(list) == 0:
		f.say("nobody else is here yet")
	case len(list) > most:
		f.say(fmt.Sprintf("and %d more: /who TEXT finds them", len(list)-most))
	}
}

// msg sends to somebody else than the open conversation.
func (f *Frontend) msg(arg string) {
	name, text := cutWord(arg)
	p, err := f.s.FindPeer(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch text = strings.TrimSpace(text); {
	case err != nil:
		f.complain(err.Error())
	case text == "":
		f.complain("and what? /msg NAME TEXT")
	default:
		f.post(p, text)
	}
}

func (f *Frontend) unreadCommand(string) {
	f.locked(func() {
		if !f.sayUnread() {
			f.say("nothing unread")
		}
	})
}

// sayUnread lists conversations with unread messages; false when there are none. f.mu is held.
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

// retry sends again what failed.
func (f *Frontend) retry(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := f.failed
	f.failed = nil
	if len(again) == 0 {
		f.say("nothing has failed")
	}
	for _, t := range again {
		if t.sound != nil {
			f.postSound(t.peer, t.seconds, t.sound)
		} else {
			f.post(t.peer, t.text)
		}
	}
}

func (f *Frontend) status(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := "connected to " + f.s.Client.Server()
	if f.offline {
		state = "not connected; trying again by itself"
	}
	f.say(fmt.Sprintf("%s as %s; %d messages wait for the server, %d failed",
		state, chat.CleanLine(f.s.Book.Self.Name), f.s.Client.Pending(), len(f.failed)))
}

func (f *Frontend) closeConversation(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peer, f.shown, f.oldest = nil, 0, 0
	f.setPrompt()
}

func (f *Frontend) help(string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range chatCommands() {
		f.print(runewidth.Truncate(fmt.Sprintf("  %-20s %s", "/"+strings.TrimSpace(c.names[0]+" "+c.arg), c.help), f.columns()-1, "…"))
	}
	for _, line := range []string{
		"  Anything else is sent to the open conversation; //text sends /text.",
		"  Tab completes commands and names, up and down bring back what was typed,",
		"  A name with spaces stands between quotation marks where more follows it: #\"the team\",",
		"  or has backslashes before them, as Tab writes it: #the\\ team.",
		"  Somebody new: teamtalk chat NAME --register, where the server lets people register.",
		"  Ctrl-O breaks the line. " + markSending + " sending  " + markStored + " stored by the server  " + markFailed + " failed",
	} {
		f.print(runewidth.Truncate(line, f.columns()-1, "…"))
	}
}
