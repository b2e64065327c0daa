package process

import (
	"os"
	"os/signal"
	"syscall"
)

// OnHangup runs the functions of again, in their order, at every SIGHUP: they read or open files
// again, which other programs have replaced. The returned function ends that. It returns once the
// functions that run have returned.
func OnHangup(again []func()) (stop func()) {
	signals, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range signals {
			for _, f := range again {
				f()
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-ended
	}
}
