package process

import (
	"syscall"
	"testing"
)

// TestHangups runs a function at each SIGHUP, also for one before Run, until Stop.
func TestHangups(t *testing.T) {
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	ran := make(chan struct{}, 10)
	h := CatchHangups()
	hangup()
	h.Run(func() { ran <- struct{}{} })
	<-ran
	hangup()
	<-ran
	h.Stop()
	if len(ran) > 0 {
		t.Error("ran more often than there were signals")
	}
}
