package faults

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// row injects a fault several times and checks the result. When rounds ends, it injects no
// more.
func (r *run) row(rounds context.Context, number int, f fault) (Row, error) {
	ctx := context.WithoutCancel(rounds)
	base, err := r.begin(ctx)
	if err != nil {
		return Row{}, err
	}
	begin := time.Now()
	l := NewLedger(fmt.Sprintf("%d %s ", number+1, f.name))
	for _, c := range r.clients {
		c.use(l)
	}
	row := Row{Fault: f.name}
	alive, giveUp := context.WithCancel(ctx) // ends the texts in flight as well
	defer giveUp()
	quit := make(chan struct{})
	var writers sync.WaitGroup
	r.write(alive, quit, &writers, l)
	writers.Go(func() { row.HeldUp = heldUp(quit).Milliseconds() })
	r.services.Begin()
	served := make(chan struct{})
	writers.Go(func() {
		r.services.Run(alive, quit)
		close(served)
	})
	down := r.rounds(rounds, f, l, &row)
	close(quit)
	r.settle(ctx, l)
	r.until(ctx, pollPause, func() bool { return closed(served) })
	giveUp()
	writers.Wait()
	now := time.Now()
	row.Silence, row.Silent = l.Silence(now).Milliseconds(), l.Silent()
	beyond, worst := l.Beyond(now)
	row.Beyond, row.Worst = beyond.Milliseconds(), worst
	row.Down = down.Milliseconds()
	if row.Counts, err = r.check(ctx, l, base); err != nil {
		return row, err
	}
	if row.Services, err = r.checkServices(ctx); err != nil {
		return row, err
	}
	row.Seconds = time.Since(begin).Seconds()
	return row, nil
}

// closed reports whether a channel is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// heldUp returns the longest time, until quit is closed, for which the machine did not run
// this process although it was to run.
func heldUp(quit <-chan struct{}) (longest time.Duration) {
	const every = 10 * time.Millisecond
	last := time.Now()
	repeat(quit, every, func() {
		now := time.Now()
		longest = max(longest, now.Sub(last)-every)
		last = now
	})
	return longest
}

// write starts a goroutine for each flow, and one that changes the members of a group.
func (r *run) write(ctx context.Context, quit <-chan struct{}, all *sync.WaitGroup, l *Ledger) {
	every := time.Duration(float64(len(r.flows)) / r.Rate * float64(time.Second))
	for i, f := range r.flows {
		all.Go(func() {
			pause(ctx, every*time.Duration(i)/time.Duration(len(r.flows)))
			n := 0
			repeat(quit, every, func() {
				n++
				f.client.send(ctx, f.conv, fmt.Sprintf("%s%s %v %d", l.label, f.name, f.conv, n))
			})
		})
	}
	all.Go(func() {
		const pauseOfChanges = 300 * time.Millisecond
		repeat(quit, pauseOfChanges, func() { r.churn.change(ctx) })
		for r.churn.inDoubt && ctx.Err() == nil {
			r.churn.change(ctx)
			pause(ctx, backoffMax)
		}
	})
}

// repeat calls do at an interval until quit is closed.
func repeat(quit <-chan struct{}, every time.Duration, do func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-quit:
			return
		case <-t.C:
			do()
		}
	}
}

// rounds injects the fault. Each round begins when each flow has a new ack, so that the
// servers have recovered from the last round, and ends when all servers are ready. It
// returns the longest time of a round. When stop ends, it injects no more.
func (r *run) rounds(stop context.Context, f fault, l *Ledger, row *Row) (longest time.Duration) {
	begin, ctx := time.Now(), context.WithoutCancel(stop)
	in := &injection{System: r.sys, random: r.schedule(f),
		serve: func(serve bool) { r.serve(l, serve) }}
	for row.Rounds < r.Rounds && (r.Duration == 0 || time.Since(begin) < r.Duration) {
		if !r.steady(ctx, l) || !r.served(ctx, l) {
			break // check reports the texts without an ack
		}
		pause(stop, in.between(0, 300*time.Millisecond))
		if stop.Err() != nil {
			break
		}
		row.Rounds++
		from := time.Now()
		l.Begin(from)
		r.services.Fault()
		if err := f.do(ctx, in); err != nil {
			l.Report(fmt.Sprintf("round %d: %v", row.Rounds, err))
		}
		r.recover(ctx, l, row.Rounds)
		r.ready(l)
		now := time.Now()
		took := now.Sub(from)
		longest = max(longest, took)
		r.Log.Info("round", "fault", f.name, "number", row.Rounds, "took", took,
			"silence", l.Silence(now))
	}
	if r.steady(ctx, l) {
		r.served(ctx, l)
	}
	return longest
}

// recover waits until all servers are ready, and starts those that have ended.
func (r *run) recover(ctx context.Context, l *Ledger, round int) {
	ready, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	for {
		err := r.sys.AwaitReady(ready)
		if err == nil {
			return
		}
		l.Report(fmt.Sprintf("round %d: %v", round, err))
		if ready.Err() != nil {
			return
		}
		for _, role := range r.sys.Roles {
			if err := role.Start(); err != nil {
				l.Report(err.Error())
				return
			}
		}
	}
}

// pollPause is the pause between two looks at the ledger. No event reports all acks.
const pollPause = 10 * time.Millisecond

// until waits for a condition, at most for Settle. It reports whether it was met.
func (r *run) until(ctx context.Context, every time.Duration, met func() bool) bool {
	deadline := time.Now().Add(r.Settle)
	for !met() {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return false
		}
		pause(ctx, every)
	}
	return true
}

// steady waits until each flow has a new ack.
func (r *run) steady(ctx context.Context, l *Ledger) bool {
	before := l.acks()
	return r.until(ctx, pollPause, func() bool {
		now := l.acks()
		for _, f := range r.flows {
			if key := (flowKey{f.name, f.conv}); now[key] <= before[key] {
				return false
			}
		}
		return true
	})
}

// settle waits until all texts are acked and delivered. A text that no server pushed to a
// stock client reaches it by the sync that the client then makes.
func (r *run) settle(ctx context.Context, l *Ledger) {
	r.until(ctx, pollPause, func() bool { return l.Waiting() == 0 })
	const whole = 10 // pauses that clients of this project need to notice a gap
	quiet := time.Now()
	r.until(ctx, whole*pollPause, func() bool {
		return l.undelivered(r.members) == 0 || time.Since(quiet) > 3*ackTimeout
	})
	for _, c := range r.clients {
		c.sync(ctx)
	}
	r.until(ctx, whole*pollPause, func() bool { return l.undelivered(r.members) == 0 })
}
