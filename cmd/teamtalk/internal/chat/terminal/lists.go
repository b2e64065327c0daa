package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
)

// list lists the conversations.
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
		f.say("no conversation yet: /to NAME opens one")
	case len(talks) > most:
		f.say(fmt.Sprintf("and %d more", len(talks)-most))
	}
}

// departs lists the tree of departments.
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
		f.say("no department has a name with " + snippet(arg))
	case len(nodes) == 0:
		f.say("there are no departments")
	case len(nodes) > most:
		f.say(fmt.Sprintf("and %d more lines: /departs TEXT shows a part", len(nodes)-most))
	}
}

// departLine returns a line of the tree. f.mu is held.
func (f *Frontend) departLine(n chat.DepartNode) string {
	pad := strings.Repeat("  ", min(n.Depth, 10)+1)
	room := max(f.columns()-len(pad)-3, 4)
	if n.User == nil {
		name := chat.CleanLine(n.Depart.Name)
		if n.Depart.ID == 0 {
			name = "in no department"
		}
		return pad + f.paint(bold, runewidth.Truncate(fmt.Sprintf("%s  %d of %d online", name, n.On,
			n.People), room, "…"))
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
