package system

import "context"

// background is a function that runs in a goroutine until it is stopped.
type background struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// inBackground starts run in a goroutine. run must return when its context ends.
func inBackground(run func(ctx context.Context)) *background {
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		run(ctx)
	}()
	return b
}

// stop ends the function's context, and returns when the function has returned.
func (b *background) stop() {
	b.cancel()
	<-b.ended
}
