// Package spools keeps the leases of spools in memory, for a store that serves one db_proxy. Its
// process is the only one that forgets files in the store, so nobody needs them when it has ended.
package spools

import (
	"context"
	"sync"
	"time"

	"teamtalk/core/im"
)

// maxLeases bounds the leases. Of more, those that have ended are forgotten, or the new one is
// refused.
const maxLeases = 1 << 12

// Spools is the leases of spools. Any goroutine.
type Spools struct {
	mu     sync.Mutex
	leases map[string]lease
}

type lease struct {
	spool [16]byte
	epoch uint64
	until time.Time
}

// New returns Spools without a lease.
func New() *Spools { return &Spools{leases: map[string]lease{}} }

// KeepSpool takes or renews a lease; see im.FileStore.
func (s *Spools) KeepSpool(ctx context.Context, o im.SpoolOwner) (uint64, error) {
	if err := im.CheckSpoolOwner(o); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, im.WithKind(im.Unavailable, "keep the lease of a spool", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, now := o.LeaseName(), time.Now()
	l, there := s.leases[name]
	if !there && !s.room(now) {
		return 0, im.Errorf(im.Busy, "%d spools have leases", maxLeases)
	}
	same := there && l.spool == o.Spool
	switch {
	case same && o.Epoch == l.epoch: // it may have ended: nobody has taken it
	case same && o.Epoch == 0, !now.Before(l.until):
		l.epoch++
	default:
		return 0, nil
	}
	l.spool, l.until = o.Spool, now.Add(o.Lease)
	s.leases[name] = l
	return l.epoch, nil
}

// room reports whether there is room for one more lease. With mu held.
func (s *Spools) room(now time.Time) bool {
	if len(s.leases) < maxLeases {
		return true
	}
	for name, l := range s.leases {
		if !now.Before(l.until) {
			delete(s.leases, name)
		}
	}
	return len(s.leases) < maxLeases
}

// While calls do while o has its lease, and renews it. The error is of kind Denied, and do is not
// called, when another spool or process has got it.
func While(s *Spools, o im.SpoolOwner, do func() error) error {
	if err := im.CheckSpoolOwner(o); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock() // until do has returned, so that nobody takes the lease meanwhile
	l := s.leases[o.LeaseName()]
	if o.Epoch == 0 || l.spool != o.Spool || l.epoch != o.Epoch {
		return o.NotOwner()
	}
	l.until = time.Now().Add(o.Lease)
	s.leases[o.LeaseName()] = l
	return do()
}
