package bench

import (
	"context"
	"errors"
)

// Agent is a generator process.
type Agent struct{}

func (a Agent) start(ctx context.Context, emit func(interval)) (part, error) {
	return nil, errors.New("not yet")
}
