package terminal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
)

// Event shows an event of the client.
func (f *Frontend) Event(e client.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		if e.Again {
			f.offline = false
			f.say("connected again")
			f.setPrompt()
			go f.reload()
		}
	case client.Ready:
		if !e.Again {
			f.sayUnread()
		}
	case client.Disconnected:
		f.offline = true
		f.say("connection lost; connecting again …")
		f.setPrompt()
	case client.Received:
		f.received(e)
	case client.Skipped:
		f.say("more was missed with " + f.s.Book.PeerName(e.Peer) + ": /history shows the rest")
	case client.Acked:
		f.acked(e)
	case client.Resent:
		if l, ok := f.sent[e.ID]; ok && e.Attempt == 2 {
			f.say("no answer yet to " + snippet(l.text) + "; trying again")
		}
	case client.SendFailed:
		f.sendFailed(e)
	case client.Presence:
		f.presence()
	case client.Kicked:
		f.over = errors.New("logged out: " + kickReason(e))
	case client.Refused:
		f.over = fmt.Errorf("logged out: %s", chat.CleanLine(e.Err.Error()))
	default:
		f.happened(e)
	}
}

// presence shows that the other user of the open conversation went online or offline.
// f.mu is held.
func (f *Frontend) presence() {
	if f.peer == nil || f.peer.Group || f.there == f.s.Book.IsOnline(f.peer.ID) {
		return
	}
	f.there = !f.there
	f.writing = f.writing && f.there
	f.setPrompt()
	f.say(f.s.Book.Name(f.peer.ID) + " is " + chat.OnlineWord(f.there))
}

// kickReason explains why the server ended the session. The protocol has no reason for a
// session that an administrator ends: the server sends the reason of another login.
func kickReason(e client.Kicked) string {
	if e.Reason == 2 {
		return "your phone ended this session"
	}
	return "you logged in on another device, or an administrator ended this session"
}

// snippet returns the beginning of a text, in quotation marks.
func snippet(s string) string {
	s = chat.CleanLine(s)
	if r := []rune(s); len(r) > 30 {
		s = string(r[:29]) + "…"
	}
	return "“" + s + "”"
}

// received shows a message. While the history is being loaded, it keeps the message,
// which belongs behind the history. f.mu is held.
func (f *Frontend) received(e client.Received) {
	if !e.Peer.Group && !f.s.Book.Knows(e.Peer.ID) {
		go f.reload() // the sender is a new user
	}
	open := f.peer != nil && *f.peer == e.Peer
	if open && f.opening {
		f.loading = append(f.loading, e)
		return
	}
	if open && e.Message.ID <= f.shown && e.Message.ID >= f.oldest && f.oldest > 0 {
		return // shown with the history
	}
	if open && f.writing {
		f.writing = false
		f.setPrompt()
	}
	f.message(e.Peer, e.Message)
	if open {
		f.shown = max(f.shown, e.Message.ID)
		f.s.MarkRead(e.Peer, e.Message.ID)
	}
}

// acked changes the mark of a message, or writes a notice when the message has scrolled
// off the screen. f.mu is held.
func (f *Frontend) acked(e client.Acked) {
	l, ok := f.sent[e.ID]
	if !ok {
		return
	}
	delete(f.sent, e.ID)
	if f.peer != nil && *f.peer == e.Peer {
		f.shown = max(f.shown, e.MsgID)
	}
	if !f.mark(l.row, markColumn, green, markStored) {
		f.say(markStored + " " + snippet(l.text))
	}
}

// sendFailed shows that a message was not sent. f.mu is held.
func (f *Frontend) sendFailed(e client.SendFailed) {
	l, ok := f.sent[e.ID]
	if !ok {
		return
	}
	delete(f.sent, e.ID)
	f.keep(failedText{peer: l.peer, text: l.text, sound: l.sound, seconds: l.seconds})
	f.mark(l.row, markColumn, red, markFailed)
	f.complain(fmt.Sprintf("not sent to %s: %s: %v (/retry tries again)", f.s.Book.PeerName(e.Peer),
		snippet(l.text), e.Err))
}

// reload loads the book again.
func (f *Frontend) reload() {
	ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
	defer cancel()
	_ = f.s.Book.Load(ctx, f.s.Client) // after an error the old entries are good enough
	f.mu.Lock()
	defer f.mu.Unlock()
	f.presence()
}
