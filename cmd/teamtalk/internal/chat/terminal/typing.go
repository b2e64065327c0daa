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

// othersTyping shows in the prompt that the other user types. f.mu is held.
func (f *Frontend) othersTyping(e client.Typing) {
	if f.peer == nil || *f.peer != (client.Peer{ID: e.User}) {
		return
	}
	f.writing = e.On
	f.setPrompt()
	if f.quiet != nil {
		f.quiet.Stop()
	}
	if e.On {
		f.quiet = time.AfterFunc(typingFor, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.ctx.Err() == nil {
				f.writing = false
				f.setPrompt()
			}
		})
	}
}
