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
func (v *view) Event(e client.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		if e.Again {
			v.offline = false
			v.say("connected again")
			v.setPrompt()
			go v.reload()
		}
	case client.Ready:
		if !e.Again {
			v.sayUnread()
		}
	case client.Disconnected:
		v.offline = true
		v.say("connection lost; connecting again …")
		v.setPrompt()
	case client.Received:
		v.received(e)
	case client.Skipped:
		v.say("more was missed with " + v.s.Book.PeerName(e.Peer) + ": /history shows the rest")
	case client.Acked:
		v.acked(e)
	case client.Resent:
		if l, ok := v.sent[e.ID]; ok && e.Attempt == 2 {
			v.say("no answer yet to " + snippet(l.text) + "; trying again")
		}
	case client.SendFailed:
		v.sendFailed(e)
	case client.Presence:
		v.presence()
	case client.Kicked:
		v.over = errors.New("logged out: " + kickReason(e))
	case client.Refused:
		v.over = fmt.Errorf("logged out: %s", chat.CleanLine(e.Err.Error()))
	default:
		v.happened(e)
	}
}

// presence shows that the other user of the open conversation went online or offline.
// v.mu is held.
func (v *view) presence() {
	if v.peer == nil || v.peer.Group || v.there == v.s.Book.IsOnline(v.peer.ID) {
		return
	}
	v.there = !v.there
	v.writing = v.writing && v.there
	v.setPrompt()
	v.say(v.s.Book.Name(v.peer.ID) + " is " + chat.OnlineWord(v.there))
}

// kickReason explains why the server ended the session. The protocol has no reason for a
// session that an administrator ends: the server sends the reason of another login, and
// sometimes a text.
func kickReason(e client.Kicked) string {
	if e.Text != "" {
		return chat.CleanLine(e.Text)
	}
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
// which belongs behind the history. v.mu is held.
func (v *view) received(e client.Received) {
	if !e.Peer.Group && !v.s.Book.Knows(e.Peer.ID) {
		go v.reload() // the sender is a new user
	}
	open := v.peer != nil && *v.peer == e.Peer
	if open && v.opening {
		v.loading = append(v.loading, e)
		return
	}
	if open && e.Message.ID <= v.shown && e.Message.ID >= v.oldest && v.oldest > 0 {
		return // shown with the history
	}
	if open && v.writing {
		v.writing = false
		v.setPrompt()
	}
	v.message(e.Peer, e.Message)
	if open {
		v.shown = max(v.shown, e.Message.ID)
		v.s.MarkRead(e.Peer, e.Message.ID)
	}
}

// acked changes the mark of a message, or writes a notice when the message has scrolled
// off the screen. v.mu is held.
func (v *view) acked(e client.Acked) {
	l, ok := v.sent[e.ID]
	if !ok {
		return
	}
	delete(v.sent, e.ID)
	if v.peer != nil && *v.peer == e.Peer {
		v.shown = max(v.shown, e.MsgID)
	}
	if !v.mark(l.row, markColumn, green, markStored) {
		v.say(markStored + " " + snippet(l.text))
	}
}

// sendFailed shows that a message was not sent. v.mu is held.
func (v *view) sendFailed(e client.SendFailed) {
	l, ok := v.sent[e.ID]
	if !ok {
		return
	}
	delete(v.sent, e.ID)
	v.keep(failedText{peer: l.peer, text: l.text, sound: l.sound, seconds: l.seconds})
	v.mark(l.row, markColumn, red, markFailed)
	v.complain(fmt.Sprintf("not sent to %s: %s: %v (/retry tries again)", v.s.Book.PeerName(e.Peer),
		snippet(l.text), e.Err))
}

// reload loads the book again.
func (v *view) reload() {
	ctx, cancel := context.WithTimeout(v.ctx, 10*time.Second)
	defer cancel()
	_ = v.s.Book.Load(ctx, v.s.Client) // after an error the old entries are good enough
	v.mu.Lock()
	defer v.mu.Unlock()
	v.presence()
}

// happened shows an event about groups and users. v.mu is held.
func (v *view) happened(e client.Event) {
	switch e := e.(type) {
	case client.GroupChanged:
		v.say(chat.GroupNews(v.s.Book, e))
		if v.peer != nil && *v.peer == (client.Peer{ID: e.Group.ID,
			Group: true}) && !e.Group.Has(v.s.Book.SelfID()) {
			v.peer, v.shown, v.oldest = nil, 0, 0
		}
		v.setPrompt()
	case client.SessionRemoved:
		v.say(v.s.Book.PeerName(e.Peer) + " was removed from the list on another device")
	case client.SignChanged:
		if v.peer != nil && *v.peer == (client.Peer{ID: e.User}) {
			v.say(v.s.Book.Name(e.User) + " · " + chat.CleanLine(e.Text))
		}
	case client.PCLogin:
		v.say("your pc client is " + chat.OnlineWord(e.Online))
	case client.Typing:
		v.othersTyping(e)
	}
}
