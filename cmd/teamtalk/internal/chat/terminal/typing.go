package terminal

import (
	"time"

	"teamtalk/core/client"
)

const (
	// typingEvery is the time between two reports of typing to the other user.
	typingEvery = 5 * time.Second
	// typingFor is how long a report of the other user counts.
	typingFor = 12 * time.Second
)

// tellTyping tells the other user that this one types, at most once in typingEvery. Only
// the reader's goroutine calls it.
func (f *Frontend) tellTyping(line []rune) {
	grown := len(line) > f.typed
	f.typed = len(line)
	to := f.typingTo.Load()
	if to == 0 || !grown || line[0] == '/' || time.Since(f.told) < typingEvery {
		return
	}
	f.told = time.Now()
	go func() {
		_ = f.s.Client.SendTyping(to,
			true)
	}() // may block on the network; a lost report does no harm
}

// othersTyping shows in the prompt that the other user types. v.mu is held.
func (v *view) othersTyping(e client.Typing) {
	if v.peer == nil || *v.peer != (client.Peer{ID: e.User}) {
		return
	}
	v.writing = e.On
	v.setPrompt()
	if v.quiet != nil {
		v.quiet.Stop()
	}
	if e.On {
		v.quiet = time.AfterFunc(typingFor, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.ctx.Err() == nil {
				v.writing = false
				v.setPrompt()
			}
		})
	}
}
