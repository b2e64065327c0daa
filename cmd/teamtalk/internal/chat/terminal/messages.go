package terminal

import (
	"fmt"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// line writes a message: time, mark, sender and text. It returns the row of the mark. New
// messages and history have the same form. v.mu is held.
func (v *view) line(t time.Time, mark, who, color, text string) int {
	v.dayLine(t)
	head := t.Format("15:04") + " " + mark + " "
	first := chat.WrapText(who+": "+chat.CleanText(text), v.columns()-1-indent)
	lines := make([]string, 0, len(first))
	for i, l := range first {
		switch {
		case i > 0:
			l = strings.Repeat(" ", indent) + l
		case strings.HasPrefix(l, who+":"):
			l = v.paint(dim, t.Format("15:04")) + " " + mark + " " + v.paint(color, who+":") +
				strings.TrimPrefix(l, who+":")
		default:
			l = head + l
		}
		lines = append(lines, l)
	}
	return v.print(lines...)
}

// message writes a message from the server. v.mu is held.
func (v *view) message(p client.Peer, m im.Message) {
	text, ok := v.s.Text(m)
	who, color, mark := v.s.Book.Name(m.From), cyan, " "
	if m.From == v.s.Book.SelfID() {
		color, mark = green, markStored
	}
	if v.peer == nil || *v.peer != p { // not of the open conversation: name the conversation
		if m.From == v.s.Book.SelfID() || p.Group {
			who += " → " + v.s.Book.PeerName(p)
		} else {
			who = "[" + who + "]"
		}
		color = yellow
	}
	if !ok {
		text = "(" + strings.Trim(text, "[]") + ")"
	}
	v.line(chat.LocalTime(m), mark, who, color, text)
}

// post sends a text, in several messages if it is long. v.mu is held.
func (v *view) post(p client.Peer, text string) {
	for _, part := range chat.SplitText(text, im.MaxText) {
		id, err := v.s.Client.Send(p, part)
		if err != nil {
			v.line(time.Now(), markFailed, v.to(p), green, part)
			v.complain("not sent: " + err.Error() + " (/retry tries again)")
			v.keep(failedText{peer: p, text: part})
			continue
		}
		row := v.line(time.Now(), markSending, v.to(p), green, part)
		v.sent[id] = sentLine{row: row, peer: p, text: part}
	}
}

// to returns the sender that is shown for one of the user's own messages, with the
// receiver unless the conversation is open. v.mu is held.
func (v *view) to(p client.Peer) string {
	if v.peer != nil && *v.peer == p {
		return "you"
	}
	return "you → " + v.s.Book.PeerName(p)
}

// keep remembers a failed message. v.mu is held.
func (v *view) keep(t failedText) {
	v.failed = append(v.failed, t)
	if len(v.failed) > maxFailed {
		v.failed = v.failed[1:]
	}
}

// postSound sends a voice message. v.mu is held.
func (v *view) postSound(p client.Peer, seconds uint32, sound []byte) {
	text := fmt.Sprintf("(voice message, %d s, %s)", seconds, chat.FileSize(int64(len(sound))))
	id, err := v.s.Client.SendAudio(p, seconds, sound)
	if err != nil {
		v.line(time.Now(), markFailed, v.to(p), green, text)
		v.complain("not sent: " + err.Error() + " (/retry tries again)")
		v.keep(failedText{peer: p, text: text, sound: sound, seconds: seconds})
		return
	}
	row := v.line(time.Now(), markSending, v.to(p), green, text)
	v.sent[id] = sentLine{row: row, peer: p, text: text, sound: sound, seconds: seconds}
}
