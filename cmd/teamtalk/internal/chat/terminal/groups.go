package terminal

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// groupHelp says what /group can do.
func groupHelp() []string {
	return []string{
		"/group create NAME USERS…        make a group; you are in it",
		"/group add [#GROUP] USERS…       add people",
		"/group remove [#GROUP] USERS…    take people out, if you made it",
		"/group leave [#GROUP]            leave it",
		"/group show [#GROUP]             who is in it, and who is online",
		"Without #GROUP it is the open one. A name with spaces: #\"the team\", or #the\\ team.",
	}
}

// groupCommand makes, shows and changes groups.
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

// report says why a command could not be done, if it could not.
func (f *Frontend) report(err error) {
	if err != nil {
		f.locked(func() { f.complain(err.Error()) })
	}
}

// asking is the time a command may take.
func (f *Frontend) asking() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.ctx, 10*time.Second)
}

// createGroup makes a group and opens it.
func (f *Frontend) createGroup(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("whom with? /group create NAME USERS…")
	}
	users, err := f.s.Book.FindUsers(words[1:])
	if err != nil {
		return err
	}
	ctx, cancel := f.asking()
	defer cancel()
	g, err := f.s.Client.CreateGroup(ctx, strings.TrimPrefix(words[0], "#"), "", users)
	if err != nil {
		return fmt.Errorf("no group made: %w", err)
	}
	f.s.Book.Event(client.GroupChanged{Group: g}) // the Client's event may come a little later
	f.open("#" + strconv.FormatUint(uint64(g.ID), 10))
	return nil
}

// takeGroup takes #GROUP off the front of the words; without it, it is the open one.
func (f *Frontend) takeGroup(words []string) (client.Group, []string, error) {
	if len(words) > 0 && strings.HasPrefix(words[0], "#") {
		g, err := f.s.Book.FindGroup(words[0])
		return g, words[1:], err
	}
	f.mu.Lock()
	peer := f.peer
	f.mu.Unlock()
	if peer == nil || !peer.Group {
		return client.Group{}, nil, fmt.Errorf("which group? Open one, or say #NAME")
	}
	g, ok := f.s.Book.Group(peer.ID)
	if !ok {
		return client.Group{}, nil, fmt.Errorf("the server says nothing of %s", f.s.Book.PeerName(*peer))
	}
	return g, words, nil
}

// changeGroup adds people, takes them out, or leaves.
func (f *Frontend) changeGroup(action string, words []string) error {
	g, words, err := f.takeGroup(words)
	if err != nil {
		return err
	}
	t, users := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, []uint32{f.s.Book.Self.ID}
	switch {
	case action == "leave" && len(words) > 0:
		return fmt.Errorf("/group leave takes nobody else out: /group remove USERS…")
	case action != "leave" && len(words) == 0:
		return fmt.Errorf("whom? /group %s USERS…", action)
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
	change, err := f.s.Client.ChangeMembers(ctx, g.ID, t, users)
	switch {
	case im.KindOf(err) == im.Denied && action == "remove":
		return fmt.Errorf("only who made %s may take others out", f.s.Book.GroupName(g.ID))
	case im.KindOf(err) == im.Denied:
		return fmt.Errorf("the server refused: %s may not be changed by you", f.s.Book.GroupName(g.ID))
	case err != nil:
		return err
	case len(change.Changed) == 0:
		f.locked(func() { f.say("nobody was changed in " + f.s.Book.GroupName(g.ID)) })
	}
	return nil // the event says the rest
}

// groupLine is a group in one line.
func (f *Frontend) groupLine(id uint32) string {
	line := f.s.Book.GroupName(id)
	g, ok := f.s.Book.Group(id)
	if !ok {
		return line
	}
	on := 0
	for _, m := range g.Members {
		if m == f.s.Book.Self.ID || f.s.Book.IsOnline(m) {
			on++
		}
	}
	line += fmt.Sprintf(" · %d members, %d online", len(g.Members), on)
	if g.Shield {
		line += " · muted"
	}
	return line
}

// showGroup lists who is in a group.
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
		if id == f.s.Book.Self.ID || f.s.Book.IsOnline(id) {
			mark, color = "●", green
		}
		line := f.s.Book.Name(id)
		if id == g.Creator {
			line += " (made it)"
		}
		f.print("  " + f.paint(color, mark) + " " + runewidth.Truncate(line, f.columns()-5, "…"))
	}
	if len(g.Members) > most {
		f.say(fmt.Sprintf("and %d more", len(g.Members)-most))
	}
	return nil
}

// groups lists one's groups.
func (f *Frontend) groups(string) {
	if f.s.Client.Online() {
		ctx, cancel := f.asking()
		if err := f.s.RefreshGroups(ctx); err != nil {
			f.report(fmt.Errorf("the server does not tell: %w", err))
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

// list shows the conversations.
func (f *Frontend) list(string) {
	talks := f.s.Book.Talks()
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 50
	for _, t := range talks[:min(most, len(talks))] {
		mark, color := " ", dim
		switch {
		case t.Online:
			mark, color = "●", green
		case !t.Peer.Group:
			mark = "○"
		}
		line := t.Name
		if t.Muted {
			line += " (muted)"
		}
		if t.Recent > 0 {
			line += "  " + time.Unix(int64(t.Recent), 0).Format("2 Jan 15:04")
		}
		if t.Unread > 0 {
			line += fmt.Sprintf("  %d unread", t.Unread)
		}
		f.print("  " + f.paint(color, mark) + " " + runewidth.Truncate(line, f.columns()-5, "…"))
	}
	switch {
	case len(talks) == 0:
		f.say("no conversation yet: /to NAME begins one")
	case len(talks) > most:
		f.say(fmt.Sprintf("and %d more", len(talks)-most))
	}
}

// departs shows the tree of departments.
func (f *Frontend) departs(arg string) {
	if f.s.Client.Online() {
		f.reload()
		ctx, cancel := f.asking()
		err := f.s.Book.LoadDeparts(ctx, f.s.Client)
		cancel()
		if err != nil {
			f.report(fmt.Errorf("no departments: %w", err))
			return
		}
	}
	nodes := f.s.Book.Departs(arg)
	f.mu.Lock()
	defer f.mu.Unlock()
	const most = 300
	for _, n := range nodes[:min(most, len(nodes))] {
		f.print(f.departLine(n))
	}
	switch {
	case len(nodes) == 0 && arg != "":
		f.say("no department whose name contains " + snippet(arg))
	case len(nodes) == 0:
		f.say("there are no departments")
	case len(nodes) > most:
		f.say(fmt.Sprintf("and %d more lines: /departs TEXT shows a part", len(nodes)-most))
	}
}

// departLine is a line of the tree; f.mu is held.
func (f *Frontend) departLine(n chat.DepartNode) string {
	pad := strings.Repeat("  ", min(n.Depth, 10)+1)
	room := max(f.columns()-len(pad)-3, 4)
	if n.User == nil {
		name := chat.CleanLine(n.Depart.Name)
		if n.Depart.ID == 0 {
			name = "in no department"
		}
		return pad + f.paint(bold, runewidth.Truncate(fmt.Sprintf("%s  %d of %d online", name, n.On, n.People), room, "…"))
	}
	mark, color := "○", dim
	if n.User.Online {
		mark, color = "●", green
	}
	line := f.s.Book.PlainName(n.User.ID)
	if nick := chat.CleanLine(n.User.Nick); nick != line && nick != "" {
		line += "  " + nick
	}
	if sign := chat.CleanLine(n.User.SignInfo); sign != "" {
		line += " · " + sign
	}
	return pad + f.paint(color, mark) + " " + runewidth.Truncate(line, room, "…")
}

// mute makes the commands that turn pushes of a group off and on.
func mute(on bool) func(f *Frontend, arg string) {
	return func(f *Frontend, arg string) {
		words := splitWords(arg)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			words[0] = "#" + words[0]
		}
		g, _, err := f.takeGroup(words)
		if err == nil {
			ctx, cancel := f.asking()
			err = f.s.Client.ShieldGroup(ctx, g.ID, on)
			cancel()
		}
		if err != nil {
			f.report(err)
			return
		}
		if g.Shield == on { // else the event says it
			f.locked(func() { f.say(chat.MutedNews(f.s.Book.GroupName(g.ID), on)) })
		}
	}
}

// removeSession takes a conversation out of the list.
func (f *Frontend) removeSession(arg string) {
	var p client.Peer
	var err error
	if word, rest := cutWord(arg); rest == "" {
		arg = word
	}
	if arg == "" {
		var ok bool
		if p, _, ok = f.current(); !ok {
			return
		}
	} else if p, err = f.s.FindPeer(arg); err != nil {
		f.report(err)
		return
	}
	ctx, cancel := f.asking()
	defer cancel()
	switch err = client.RemoveSession(ctx, f.s.Client, p); {
	case im.KindOf(err) == im.Denied:
		f.report(fmt.Errorf("the conversation with %s is not in the list", f.s.Book.PeerName(p)))
		return
	case err != nil:
		f.report(err)
		return
	}
	f.s.Book.Forget(p)
	f.locked(func() { f.say(f.s.Book.PeerName(p) + " is out of the list until the next message") })
}

// sign changes one's sign info.
func (f *Frontend) sign(arg string) {
	ctx, cancel := f.asking()
	defer cancel()
	if err := client.SetSignInfo(ctx, f.s.Client, arg); err != nil {
		if im.KindOf(err) == im.Denied {
			err = fmt.Errorf("the server refused the text: at most 128 characters")
		}
		f.report(err)
		return
	}
	f.locked(func() { f.say("everybody sees it now") })
}

// night shows or sets the nightly rest from pushes.
func (f *Frontend) night(arg string) {
	ctx, cancel := f.asking()
	defer cancel()
	on, err := arg == "on", error(nil)
	switch arg {
	case "on", "off":
		err = client.SetPushShield(ctx, f.s.Client, on)
	case "":
		on, err = client.PushShield(ctx, f.s.Client)
	default:
		err = fmt.Errorf("/night on, /night off, or /night")
	}
	if err != nil {
		f.report(err)
		return
	}
	word := "pushes to your phone at any time"
	if on {
		word = "no pushes to your phone from 22:00 to 07:00"
	}
	f.locked(func() { f.say(word) })
}

// voice sends a sound.
func (f *Frontend) voice(arg string) {
	word, path, _ := strings.Cut(arg, " ")
	seconds, err := strconv.ParseUint(word, 10, 32)
	if err != nil || strings.TrimSpace(path) == "" {
		f.report(fmt.Errorf("/voice SECONDS FILE"))
		return
	}
	p, _, ok := f.current()
	if !ok {
		return
	}
	sound, err := chat.ReadSound(strings.TrimSpace(path))
	if err != nil {
		f.report(err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.postSound(p, uint32(seconds), sound)
}

// postSound sends a sound; f.mu is held.
func (f *Frontend) postSound(p client.Peer, seconds uint32, sound []byte) {
	text := fmt.Sprintf("(voice message, %d s, %s)", seconds, chat.SizeText(len(sound)))
	id, err := f.s.Client.SendAudio(p, seconds, sound)
	if err != nil {
		f.line(time.Now(), markFailed, f.to(p), green, text)
		f.complain("not sent: " + err.Error() + " (/retry tries again)")
		f.keep(failedText{peer: p, text: text, sound: sound, seconds: seconds})
		return
	}
	f.sent[id] = sentLine{row: f.line(time.Now(), markSending, f.to(p), green, text), peer: p, text: text, sound: sound, seconds: seconds}
}

// happened shows what becomes of groups and people; f.mu is held.
func (f *Frontend) happened(e client.Event) {
	switch e := e.(type) {
	case client.GroupChanged:
		f.say(chat.GroupNews(f.s.Book, e))
		if f.peer != nil && *f.peer == (client.Peer{ID: e.Group.ID, Group: true}) && !e.Group.Has(f.s.Book.Self.ID) {
			f.peer, f.shown, f.oldest = nil, 0, 0
		}
		f.setPrompt()
	case client.SessionRemoved:
		f.say(f.s.Book.PeerName(e.Peer) + " was taken out of the list on another device")
	case client.SignChanged:
		if f.peer != nil && *f.peer == (client.Peer{ID: e.User}) {
			f.say(f.s.Book.Name(e.User) + " · " + chat.CleanLine(e.Text))
		}
	case client.PCLogin:
		f.say("your pc client is " + chat.OnlineWord(e.Online))
	case client.Typing:
		f.othersTyping(e)
	}
}

// Times about typing: how often the other side is told, and how long it is believed.
const (
	typingEvery = 5 * time.Second
	typingFor   = 12 * time.Second
)

// tellTyping tells whom one talks with that one types, every few seconds. Only the goroutine that reads the line calls it.
func (f *Frontend) tellTyping(line []rune) {
	grown := len(line) > f.typed
	f.typed = len(line)
	to := f.typingTo.Load()
	if to == 0 || !grown || line[0] == '/' || time.Since(f.told) < typingEvery {
		return
	}
	f.told = time.Now()
	go func() { _ = f.s.Client.SendTyping(to, true) }() // may wait for the network; nothing is lost when it fails
}

// othersTyping shows in the prompt that the other side types; f.mu is held.
func (f *Frontend) othersTyping(e client.Typing) {
	if f.peer == nil || *f.peer != (client.Peer{ID: e.User}) {
		return
	}
	f.writing = e.On
	f.setPrompt()
	if f.quiet != nil {
		f.quiet.Stop()
	}
	if e.On {
		f.quiet = time.AfterFunc(typingFor, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.ctx.Err() == nil {
				f.writing = false
				f.setPrompt()
			}
		})
	}
}

// lastWord is the part of an argument behind the last space that is not a part of a word.
func lastWord(arg string) string {
	start, quoted := 0, false
	for i, r := range arg {
		switch r {
		case '"':
			quoted = !quoted
		case ' ':
			if !quoted && (i == 0 || arg[i-1] != '\\') {
				start = i + 1
			}
		}
	}
	return arg[start:]
}

// nameChoices are the names that fit at the end of a command's argument.
func (f *Frontend) nameChoices(command, arg string) []string {
	c, _ := findCommand(strings.ToLower(strings.TrimPrefix(command, "/")))
	var choices []string
	if c.names[0] == "group" && !strings.Contains(arg, " ") {
		return []string{"create", "add", "remove", "leave", "show"}
	}
	if c.names[0] != "mute" && c.names[0] != "unmute" {
		choices = f.s.Book.Names()
	}
	choices = append(choices, f.s.Book.GroupNames()...)
	for i, name := range choices {
		choices[i] = quoteWord(name, strings.Contains(lastWord(arg), "\""))
	}
	return choices
}
