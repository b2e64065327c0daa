package terminal

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ergochat/readline"
	"github.com/mattn/go-runewidth"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
)

// view shows the session: the open conversation, notices, and the rows of files. The
// client's goroutine writes events to it, and commands write their results.
type view struct {
	opts Options
	ctx  context.Context
	s    *chat.Session
	rl   *readline.Instance

	typingTo atomic.Uint32 // the user to tell of typing; 0: none

	// Guarded by the screen's lock.
	screen
	peer    *client.Peer // the open conversation
	loading []client.Received
	opening bool                // the history is being loaded; loading keeps messages that arrive
	there   bool                // the other user was online when last shown
	writing bool                // the other user types
	quiet   *time.Timer         // ends writing without further reports
	shown   uint32              // newest id shown of the open conversation
	oldest  uint32              // oldest id shown of the open conversation, for /more
	day     string              // of the last line
	sent    map[uint64]sentLine // unacked messages, by the client's number
	failed  []failedText        // for /retry
	prompt  string              // as shown, without colours
	offline bool
	over    error // why the server ended the session

	fileRows map[int]fileRows // of transfers, by number
	listed   int              // waiting files that were shown after the login
	leaving  bool             // files are not shown any more
}

// sentLine is a message on the screen that waits for its ack.
type sentLine struct {
	row     int
	peer    client.Peer
	text    string
	sound   []byte // of an audio message
	seconds uint32
}

// failedText is a message that was not sent.
type failedText struct {
	peer    client.Peer
	text    string
	sound   []byte // of an audio message
	seconds uint32
}

// maxFailed is how many failed messages /retry keeps.
const maxFailed = 100

// Marks of messages, and their column, which is behind the time.
const (
	markSending = "…"
	markStored  = "✓"
	markFailed  = "✗"
	markColumn  = 6
	indent      = 8 // columns before the further lines of a message
)

// locked runs do with the screen's lock held.
func (v *view) locked(do func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	do()
}

// title returns the headline of a conversation.
func (v *view) title(p client.Peer) string {
	if p.Group {
		return runewidth.Truncate("── "+v.groupLine(p.ID)+" ──", v.columns()-1, "…")
	}
	u := v.s.Book.User(p.ID)
	title := "── " + v.s.Book.PlainName(p.ID)
	if nick := chat.CleanLine(u.Nick); nick != "" && nick != chat.CleanLine(u.Name) {
		title += " (" + nick + ")"
	}
	if v.there {
		title += " ● online"
	} else {
		title += " ○ offline"
	}
	if sign := chat.CleanLine(u.SignInfo); sign != "" {
		title += " · " + sign
	}
	return runewidth.Truncate(title+" ──", v.columns()-1, "…")
}

// show shows n messages with ids at most begin, or the newest with begin 0, and then the
// messages that arrived in the meantime.
func (v *view) show(p client.Peer, begin uint32, n int) {
	v.locked(func() { v.opening = true })
	ctx, cancel := context.WithTimeout(v.ctx, 10*time.Second)
	list, err := v.s.History(ctx, p, begin, n)
	cancel()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opening = false
	if err != nil {
		v.complain("no history: " + err.Error())
	}
	newest := uint32(0)
	for _, m := range list {
		v.message(p, m)
		newest = max(newest, m.ID)
	}
	if len(list) > 0 && (v.oldest == 0 || list[0].ID < v.oldest) {
		v.oldest = list[0].ID
	}
	v.shown = max(v.shown, newest)
	for _, e := range v.loading {
		if e.Message.ID > newest {
			v.message(e.Peer, e.Message)
			v.shown = max(v.shown, e.Message.ID)
		}
	}
	v.loading = nil
	if v.shown > 0 && begin == 0 {
		v.s.MarkRead(p, v.shown)
	}
	if begin == 0 {
		for _, l := range v.sent { // the history does not hold unsent messages
			if l.peer == p {
				v.say("still being sent: " + snippet(l.text))
			}
		}
	}
}

// sayUnread lists conversations with unread messages; false when there are none. v.mu is
// held.
func (v *view) sayUnread() bool {
	list := v.s.Book.AllUnread()
	for i, u := range list {
		if i == 20 {
			v.say(fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		v.say(fmt.Sprintf("%d unread from %s", u.Count, v.s.Book.PeerName(u.Peer)))
	}
	return len(list) > 0
}

// report writes the error of a command that failed.
func (v *view) report(err error) {
	if err != nil {
		v.locked(func() { v.complain(err.Error()) })
	}
}

// groupLine describes a group in one line.
func (v *view) groupLine(id uint32) string {
	line := v.s.Book.GroupName(id)
	g, ok := v.s.Book.Group(id)
	if !ok {
		return line
	}
	on := 0
	for _, m := range g.Members {
		if m == v.s.Book.SelfID() || v.s.Book.IsOnline(m) {
			on++
		}
	}
	line += fmt.Sprintf(" · %d members, %d online", len(g.Members), on)
	if g.Shield {
		line += " · muted"
	}
	return line
}

// row counts a row that the line editor has written. v.mu is held.
func (v *view) row() { v.rows, v.since = v.rows+1, v.rows+1 }

// welcome writes the user, the server, and the number of contacts online. v.mu is held.
func (v *view) welcome() {
	on := 0
	list := v.s.Book.List("")
	for _, c := range list {
		if c.Online {
			on++
		}
	}
	text := fmt.Sprintf("Logged in as %s at %s. %d of %d contacts online. /help for help.",
		chat.CleanLine(v.s.Book.Self().Name), v.s.Client.Server(), on, len(list))
	for _, line := range chat.WrapText(text, v.columns()-1) {
		v.print(v.paint(dim, line))
	}
}

// setPrompt shows the open conversation, and whether the session is offline. v.mu is
// held.
func (v *view) setPrompt() {
	p := "> "
	if v.peer != nil {
		p = v.s.Book.PeerName(*v.peer) + "> "
		if v.writing {
			p = v.s.Book.PeerName(*v.peer) + " is typing> "
		}
	}
	to := uint32(0)
	if v.peer != nil && !v.peer.Group && v.there {
		to = v.peer.ID
	}
	v.typingTo.Store(to)
	if v.offline {
		p = "(offline) " + p
	}
	if p != v.prompt {
		v.prompt = p
		v.rl.SetPrompt(v.paint(bold, p))
		v.rl.Refresh()
	}
}

// say writes a notice. v.mu is held.
func (v *view) say(text string) {
	for _, line := range chat.WrapText(chat.CleanText("— "+text), v.columns()-1) {
		v.print(v.paint(dim, line))
	}
}

// complain writes an error. v.mu is held.
func (v *view) complain(text string) {
	for _, line := range chat.WrapText(chat.CleanText("! "+text), v.columns()-1) {
		v.print(v.paint(red, line))
	}
}

// dayLine writes the date when it differs from that of the last line. v.mu is held.
func (v *view) dayLine(t time.Time) {
	day := t.Format("Mon 2 Jan 2006")
	if day == v.day {
		return
	}
	if v.day != "" || day != time.Now().Format("Mon 2 Jan 2006") {
		v.print(v.paint(dim, "── "+day+" ──"))
	}
	v.day = day
}
