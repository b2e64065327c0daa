package file

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"teamtalk/core/link"
	"teamtalk/core/mono"
	"teamtalk/core/spool"
)

// The sender of a file reports it to a message server, which asks this server for the file
// and db_proxy to list it. When that message server is killed before it has done so, the
// sender repeats nothing: its report was received. So this server also lists each file
// itself, some seconds after it was finished. db_proxy lists a file once.

// listAfter is the age at which a file is listed. A report has listed it before, as a rule.
const listAfter = 2 * time.Second

// listing is what RunListing has to do.
type listing struct {
	pulse  *mono.Pulse
	newest atomic.Pointer[time.Time] // when the last file was finished
}

// note notes that a file was finished.
func (l *listing) note(now time.Time) {
	l.newest.Store(&now)
	l.pulse.Use()
}

// RunListing lists the files that were finished, at the given interval while there are any. It
// begins with those that were finished within the time back before, by the process before this
// one. It returns when ctx ends, and at once without Options.List. A db_proxy of the first
// implementation answers nothing, and lists no file in this way.
func (s *Server) RunListing(ctx context.Context, interval, back time.Duration) {
	if s.opt.List == nil {
		return
	}
	from, key := s.opt.Now().Add(-back), uint64(0)
	s.listing.note(s.opt.Now())
	s.listing.pulse.Run(ctx.Done(), interval, 0, func() {
		before := s.opt.Now().Add(-listAfter)
		if before.After(from) && s.listFinished(ctx, key, from, before) {
			from = before
		}
		key++
		if !s.listing.newest.Load().Before(from) {
			s.listing.pulse.Use()
		}
	})
}

// listFinished lists the files that were finished within a time. It reports whether none of
// them has to be listed again. Of more than maxRepairs files RunCompare lists the rest.
func (s *Server) listFinished(ctx context.Context, key uint64, from, before time.Time) bool {
	c := &comparison{s: s, key: key, due: map[string]spool.Info{}}
	for _, info := range s.spool.Finished(from, before) {
		c.due[info.ID] = info
	}
	err := c.listFiles(ctx)
	var overdue *link.Overdue
	if err != nil && ctx.Err() == nil {
		s.log.Debug("finished files not listed", "err", err, "files", len(c.due))
	}
	return err == nil || errors.As(err, &overdue)
}
