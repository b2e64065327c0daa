package stops

import "context"

// Background is a function that runs in a goroutine until it is stopped.
type Background struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// InBackground starts run in a goroutine. run must return when its context ends.
func InBackground(run func(ctx context.Context)) *Background {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Background{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		run(ctx)
	}()
	return b
}

// Cancel ends the function's context. It does not wait.
func (b *Background) Cancel() { b.cancel() }

// Stop ends the function's context, and returns when the function has returned.
func (b *Background) Stop() {
	b.cancel()
	<-b.ended
}

// Go starts run in a goroutine, and adds its stop to a phase. run must return when its context
// ends.
func (s *Stack) Go(p Phase, name string, run func(ctx context.Context)) {
	s.Push(p, name, Plainly(InBackground(run).Stop))
}
