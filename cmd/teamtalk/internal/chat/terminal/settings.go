package terminal

import (
	"fmt"
	"strconv"
	"strings"

	"teamtalk/cmd/teamtalk/internal/chat"
	"teamtalk/core/client"
	"teamtalk/core/im"
)

// mute returns the command that turns pushes from a group off or on.
func mute(on bool) func(cm *commands, arg string) {
	return func(cm *commands, arg string) {
		words := splitWords(arg)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			words[0] = "#" + words[0]
		}
		g, _, err := cm.takeGroup(words)
		if err == nil {
			ctx, cancel := cm.asking()
			err = cm.s.Client.Groups.Shield(ctx, g.ID, on)
			cancel()
		}
		if err != nil {
			cm.report(err)
			return
		}
		if g.Shield == on { // otherwise the event shows the change
			cm.locked(func() { cm.say(chat.MutedNews(cm.s.Book.GroupName(g.ID), on)) })
		}
	}
}

// removeSession removes a conversation from the list.
func (cm *commands) removeSession(arg string) {
	var p client.Peer
	var err error
	if word, rest := cutWord(arg); rest == "" {
		arg = word
	}
	if arg == "" {
		var ok bool
		if p, _, ok = cm.current(); !ok {
			return
		}
	} else if p, err = cm.s.FindPeer(arg); err != nil {
		cm.report(err)
		return
	}
	ctx, cancel := cm.asking()
	defer cancel()
	switch err = client.RemoveSession(ctx, cm.s.Client, p); {
	case im.KindOf(err) == im.Denied:
		cm.report(fmt.Errorf("the conversation with %s is not in the list", cm.s.Book.PeerName(p)))
		return
	case err != nil:
		cm.report(err)
		return
	}
	cm.s.Book.Forget(p)
	cm.locked(func() {
		cm.say(cm.s.Book.PeerName(p) +
			" is removed from the list until the next message")
	})
}

// sign changes the user's sign info.
func (cm *commands) sign(arg string) {
	ctx, cancel := cm.asking()
	defer cancel()
	if err := client.SetSignInfo(ctx, cm.s.Client, arg); err != nil {
		if im.KindOf(err) == im.Denied {
			err = fmt.Errorf("the server refused the text: at most 128 characters")
		}
		cm.report(err)
		return
	}
	cm.locked(func() { cm.say("all users see it now") })
}

// night shows or sets whether pushes are off at night.
func (cm *commands) night(arg string) {
	ctx, cancel := cm.asking()
	defer cancel()
	on, err := arg == "on", error(nil)
	switch arg {
	case "on", "off":
		err = client.SetPushShield(ctx, cm.s.Client, on)
	case "":
		on, err = client.PushShield(ctx, cm.s.Client)
	default:
		err = fmt.Errorf("want /night on, /night off, or /night")
	}
	if err != nil {
		cm.report(err)
		return
	}
	word := "pushes to your phone at any time"
	if on {
		word = "no pushes to your phone from 22:00 to 07:00"
	}
	cm.locked(func() { cm.say(word) })
}

// voice sends a voice message.
func (cm *commands) voice(arg string) {
	word, path, _ := strings.Cut(arg, " ")
	seconds, err := strconv.ParseUint(word, 10, 32)
	if err != nil || strings.TrimSpace(path) == "" {
		cm.report(fmt.Errorf("want /voice SECONDS FILE"))
		return
	}
	p, _, ok := cm.current()
	if !ok {
		return
	}
	sound, err := chat.ReadSound(strings.TrimSpace(path))
	if err != nil {
		cm.report(err)
		return
	}
	cm.mu.Lock()
	defer cm.mu.Unlock()
	cm.postSound(p, uint32(seconds), sound)
}
