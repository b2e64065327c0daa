package process

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Hangups catches SIGHUP, which tells the process to read its settings and files again. Without
// it, a SIGHUP ends the process.
type Hangups struct {
	signals chan os.Signal
	running sync.WaitGroup
}

// CatchHangups begins to catch SIGHUP. One that arrives before Run is kept until then.
func CatchHangups() *Hangups {
	h := &Hangups{signals: make(chan os.Signal, 1)}
	signal.Notify(h.signals, syscall.SIGHUP)
	return h
}

// Run calls f at each SIGHUP until Stop, on a goroutine of its own. Signals that arrive while f
// runs count as one.
func (h *Hangups) Run(f func()) {
	h.running.Go(func() {
		for range h.signals {
			f()
		}
	})
}

// Stop ends the calls of f. It returns once the one that runs has returned.
func (h *Hangups) Stop() {
	signal.Stop(h.signals)
	close(h.signals)
	h.running.Wait()
}
