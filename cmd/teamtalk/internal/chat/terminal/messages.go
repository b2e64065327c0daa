package terminal

import (
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// line writes a message: time, mark, sender and text. It returns the row of the mark. New
// messages and history have the same form. f.mu is held.
func (f *Frontend) line(t time.Time, mark, who, color, text string) int {
	f.dayLine(t)
	head := t.Format("15:04") + " " + mark + " "
	first := chat.WrapText(who+": "+chat.CleanText(text), f.columns()-1-indent)
	lines := make([]string, 0, len(first))
	for i, l := range first {
		switch {
		case i > 0:
			l = strings.Repeat(" ", indent) + l
		case strings.HasPrefix(l, who+":"):
			l = f.paint(dim, t.Format("15:04")) + " " + mark + " " + f.paint(color, who+":") +
				strings.TrimPrefix(l, who+":")
		default:
			l = head + l
		}
		lines = append(lines, l)
	}
	return f.print(lines...)
}

// message writes a message from the server. f.mu is held.
func (f *Frontend) message(p client.Peer, m im.Message) {
	text, ok := f.s.Text(m)
	who, color, mark := f.s.Book.Name(m.From), cyan, " "
	if m.From == f.s.Book.SelfID() {
		color, mark = green, markStored
	}
	if f.peer == nil || *f.peer != p { // not of the open conversation: name the conversation
		if m.From == f.s.Book.SelfID() || p.Group {
			who += " → " + f.s.Book.PeerName(p)
		} else {
			who = "[" + who + "]"
		}
		color = yellow
	}
	if !ok {
		text = "(" + strings.Trim(text, "[]") + ")"
	}
	f.line(chat.LocalTime(m), mark, who, color, text)
}

// post sends a text, in several messages if it is long. f.mu is held.
func (f *Frontend) post(p client.Peer, text string) {
	for _, part := range chat.SplitText(text, im.MaxText) {
		id, err := f.s.Client.Send(p, part)
		if err != nil {
			f.line(time.Now(), markFailed, f.to(p), green, part)
			f.complain("not sent: " + err.Error() + " (/retry tries again)")
			f.keep(failedText{peer: p, text: part})
			continue
		}
		row := f.line(time.Now(), markSending, f.to(p), green, part)
		f.sent[id] = sentLine{row: row, peer: p, text: part}
	}
}

// to returns the sender that is shown for one of the user's own messages, with the
// receiver unless the conversation is open. f.mu is held.
func (f *Frontend) to(p client.Peer) string {
	if f.peer != nil && *f.peer == p {
		return "you"
	}
	return "you → " + f.s.Book.PeerName(p)
}

// keep remembers a failed message. f.mu is held.
func (f *Frontend) keep(t failedText) {
	f.failed = append(f.failed, t)
	if len(f.failed) > maxFailed {
		f.failed = f.failed[1:]
	}
}
