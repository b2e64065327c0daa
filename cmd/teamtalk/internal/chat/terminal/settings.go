package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// mute returns the command that turns pushes from a group off or on.
func mute(on bool) func(f *Frontend, arg string) {
	return func(f *Frontend, arg string) {
		words := splitWords(arg)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			words[0] = "#" + words[0]
		}
		g, _, err := f.takeGroup(words)
		if err == nil {
			ctx, cancel := f.asking()
			err = f.s.Client.Groups.Shield(ctx, g.ID, on)
			cancel()
		}
		if err != nil {
			f.report(err)
			return
		}
		if g.Shield == on { // otherwise the event shows the change
			f.locked(func() { f.say(chat.MutedNews(f.s.Book.GroupName(g.ID), on)) })
		}
	}
}

// removeSession removes a conversation from the list.
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
	f.locked(func() {
		f.say(f.s.Book.PeerName(p) +
			" is removed from the list until the next message")
	})
}

// sign changes the user's sign info.
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
	f.locked(func() { f.say("all users see it now") })
}

// night shows or sets whether pushes are off at night.
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
		err = fmt.Errorf("want /night on, /night off, or /night")
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

// voice sends a voice message.
func (f *Frontend) voice(arg string) {
	word, path, _ := strings.Cut(arg, " ")
	seconds, err := strconv.ParseUint(word, 10, 32)
	if err != nil || strings.TrimSpace(path) == "" {
		f.report(fmt.Errorf("want /voice SECONDS FILE"))
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

// postSound sends a voice message. f.mu is held.
func (f *Frontend) postSound(p client.Peer, seconds uint32, sound []byte) {
	text := fmt.Sprintf("(voice message, %d s, %s)", seconds, chat.FileSize(int64(len(sound))))
	id, err := f.s.Client.SendAudio(p, seconds, sound)
	if err != nil {
		f.line(time.Now(), markFailed, f.to(p), green, text)
		f.complain("not sent: " + err.Error() + " (/retry tries again)")
		f.keep(failedText{peer: p, text: text, sound: sound, seconds: seconds})
		return
	}
	row := f.line(time.Now(), markSending, f.to(p), green, text)
	f.sent[id] = sentLine{row: row, peer: p, text: text, sound: sound, seconds: seconds}
}

// happened shows an event about groups and users. f.mu is held.
func (f *Frontend) happened(e client.Event) {
	switch e := e.(type) {
	case client.GroupChanged:
		f.say(chat.GroupNews(f.s.Book, e))
		if f.peer != nil && *f.peer == (client.Peer{ID: e.Group.ID,
			Group: true}) && !e.Group.Has(f.s.Book.SelfID()) {
			f.peer, f.shown, f.oldest = nil, 0, 0
		}
		f.setPrompt()
	case client.SessionRemoved:
		f.say(f.s.Book.PeerName(e.Peer) + " was removed from the list on another device")
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
