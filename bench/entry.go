package bench

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/proto/pb"
)

// loginAll logs in the clients that the script needs before the start.
func (p *local) loginAll(ctx context.Context) error {
	entries := make([]*entry, 0, len(p.workers))
	left := make(chan error, len(p.workers))
	p.each(func(w *worker) {
		w.loop.At(w.loop.Now(), func(now int64) int64 {
			w.deadlines.expire(now)
			return now + 50e6
		})
		w.beatAll()
		e := &entry{w: w, report: func(err error) { left <- err }}
		for _, c := range w.clients {
			if p.script.needs(c) {
				e.queue = append(e.queue, c)
			}
		}
		w.play = e
		entries = append(entries, e)
		e.fill(max(1, p.scenario.Parallel/len(p.workers)/p.Parts))
	})
	for range entries {
		select {
		case err := <-left:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// entry logs in a worker's clients, a bounded number at a time. The first failure ends
// it.
type entry struct {
	bystander
	w       *worker
	queue   []*client
	next    int
	working int
	ended   bool
	report  func(error)
}

func (e *entry) fill(n int) {
	for ; n > 0 && e.next < len(e.queue); n-- {
		e.working++
		c := e.queue[e.next]
		e.next++
		c.login(e.w.loop.Now())
	}
	if e.working == 0 && !e.ended {
		e.ended = true
		e.report(nil)
	}
}

func (e *entry) loggedIn(*client) {
	e.working--
	if !e.ended {
		e.fill(1)
	}
}

func (e *entry) gone(c *client, err error) {
	if e.ended {
		return
	}
	e.ended = true
	s := c.w.part.scenario
	if refused := (*loginError)(nil); errors.As(err, &refused) &&
		refused.code == pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED {
		err = fmt.Errorf("%w; create the users with: teamtalk user add --count %d --format %s "+
			"--password …", err, s.First-1+s.Users(), s.Format)
	}
	e.report(fmt.Errorf("user %s at %s: %w", c.name(), c.addr(), err))
}
