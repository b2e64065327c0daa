package process

import (
	"syscall"
	"testing"
)

// TestOnHangup runs two functions at each SIGHUP, in their order, until it is stopped.
func TestOnHangup(t *testing.T) {
	ran := make(chan string, 10)
	stop := OnHangup([]func(){func() { ran <- "first" }, func() { ran <- "second" }})
	for range 2 {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if a, b := <-ran, <-ran; a != "first" || b != "second" {
			t.Errorf("%s ran before %s", a, b)
		}
	}
	stop()
	if len(ran) > 0 {
		t.Errorf("%s ran once more", <-ran)
	}
}
