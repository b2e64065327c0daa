package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
)

// list lists the conversations.
func (cm *commands) list(string) {
	talks := cm.s.Book.Talks()
	cm.mu.Lock()
	defer cm.mu.Unlock()
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
		cm.print("  " + cm.paint(color, mark) + " " + runewidth.Truncate(line, cm.columns()-5, "…"))
	}
	switch {
	case len(talks) == 0:
		cm.say("no conversation yet: /to NAME opens one")
	case len(talks) > most:
		cm.say(fmt.Sprintf("and %d more", len(talks)-most))
	}
}

// departs lists the tree of departments.
func (cm *commands) departs(arg string) {
	if cm.s.Client.Online() {
		cm.reload()
		ctx, cancel := cm.asking()
		err := cm.s.Book.LoadDeparts(ctx, cm.s.Client)
		cancel()
		if err != nil {
			cm.report(fmt.Errorf("no departments: %w", err))
			return
		}
	}
	nodes := cm.s.Book.Departs(arg)
	cm.mu.Lock()
	defer cm.mu.Unlock()
	const most = 300
	for _, n := range nodes[:min(most, len(nodes))] {
		cm.print(cm.departLine(n))
	}
	switch {
	case len(nodes) == 0 && arg != "":
		cm.say("no department has a name with " + snippet(arg))
	case len(nodes) == 0:
		cm.say("there are no departments")
	case len(nodes) > most:
		cm.say(fmt.Sprintf("and %d more lines: /departs TEXT shows a part", len(nodes)-most))
	}
}

// departLine returns a line of the tree. cm.mu is held.
func (cm *commands) departLine(n chat.DepartNode) string {
	pad := strings.Repeat("  ", min(n.Depth, 10)+1)
	room := max(cm.columns()-len(pad)-3, 4)
	if n.User == nil {
		name := chat.CleanLine(n.Depart.Name)
		if n.Depart.ID == 0 {
			name = "in no department"
		}
		line := fmt.Sprintf("%s  %d of %d online", name, n.On, n.People)
		return pad + cm.paint(bold, runewidth.Truncate(line, room, "…"))
	}
	mark, color := "○", dim
	if n.User.Online {
		mark, color = "●", green
	}
	line := cm.s.Book.PlainName(n.User.ID)
	if nick := chat.CleanLine(n.User.Nick); nick != line && nick != "" {
		line += "  " + nick
	}
	if sign := chat.CleanLine(n.User.SignInfo); sign != "" {
		line += " · " + sign
	}
	return pad + cm.paint(color, mark) + " " + runewidth.Truncate(line, room, "…")
}
