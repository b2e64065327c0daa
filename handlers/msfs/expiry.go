package msfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// Files and what refers to them: texts are encrypted, and a search of all texts for the names of
// pictures would read hundreds of millions of rows. So the server does not look for references.
// It marks a file when it is read, and deletes files that nobody has read for a long time. A file
// that was never read since its upload may have a shorter life: the files that fill a disk are of
// this kind, and a picture that was sent is read by its receiver.
//
// A file counts as read when its age is not known for sure, see expiryState.Since.

// Expiry says which files the server deletes. Zero: none.
type Expiry struct {
	// After is the time from the last upload or download of a file to its deletion. 0: never.
	After time.Duration
	// Unused is the same for files that were never downloaded. 0: After applies to them too.
	Unused time.Duration
}

// On reports whether any file expires.
func (e Expiry) On() bool { return e.After > 0 || e.Unused > 0 }

// shortest returns the shorter of the times that are set.
func (e Expiry) shortest() time.Duration {
	if e.After == 0 || e.Unused > 0 && e.Unused < e.After {
		return e.Unused
	}
	return e.After
}

// markEvery is the time after which the mark of a file is written again. A file lives longer by
// as much, so that it does not expire early.
func (e Expiry) markEvery() time.Duration { return min(24*time.Hour, e.shortest()/4) }

// passEvery is the time from the begin of one pass to that of the next.
func (e Expiry) passEvery() time.Duration { return min(24*time.Hour, e.shortest()/4) }

// longestGap is the longest time without marks after which the older marks still count. It
// exceeds a weekend.
func (e Expiry) longestGap() time.Duration { return min(7*24*time.Hour, e.shortest()/2) }

// Reasons why a file expires, in the label of teamtalk_msfs_expired_total.
const (
	expiredUnused = "unused" // never read since the upload
	expiredOld    = "old"    // not read for a long time
)

// due returns the reason why a file expires at now, or "". Reads are known from since on, so
// older files count as read then.
func (e Expiry) due(a blob.Age, since, now time.Time) string {
	last := a.Stored
	if a.Read.After(last) {
		last = a.Read
	}
	known := !a.Stored.Before(since)
	if since.After(last) {
		last = since
	}
	switch {
	case a.Stored.IsZero():
		return ""
	case e.Unused > 0 && known && a.Read.IsZero() && now.Sub(a.Stored) >= e.Unused:
		return expiredUnused
	case e.After > 0 && now.Sub(last) >= e.After+e.markEvery():
		return expiredOld
	}
	return ""
}

// expiryFolder is the folder whose files expire. Uploads are stored there, also those of the
// first implementation. Other files of a folder or bucket are left alone.
const expiryFolder = "g0"

// expiryState is the note in the store, in JSON.
type expiryState struct {
	// Since is the time from which on the marks are complete. It restarts after a gap: another
	// build, a server without the setting, or a step of the clock.
	Since time.Time `json:"since"`
	// Seen is the last time at which a server marked files. A pass renews it every minute.
	Seen time.Time `json:"seen"`
	// Began is the begin of the last pass.
	Began time.Time `json:"began,omitzero"`
	// Ended is its end; zero: it has not ended.
	Ended time.Time `json:"ended,omitzero"`
	// After is the last file that a pass without an end has looked at.
	After string `json:"after,omitempty"`
}

// readState returns the note of a store. A note that cannot be read is none.
func readState(ctx context.Context, store blob.Ager) (s expiryState, err error) {
	note, err := store.Note(ctx)
	if err != nil || note == nil {
		return expiryState{}, err
	}
	if json.Unmarshal(note, &s) != nil {
		return expiryState{}, nil
	}
	return s, nil
}

// observe sets Seen to now, and Since when the marks before now do not count. It reports whether
// they count.
func (s *expiryState) observe(now time.Time, gap time.Duration) bool {
	now = now.Round(0)
	whole := !s.Since.IsZero() && !s.Since.After(now) && !s.Seen.After(now.Add(gap)) &&
		now.Sub(s.Seen) <= gap
	if !whole {
		s.Since = now
	}
	s.Seen = now
	return whole
}

const (
	// expiryTick is the time between two looks at the note.
	expiryTick = 5 * time.Minute
	// seenEvery is the time after which a server without a pass renews Seen.
	seenEvery = time.Hour
	// noteEvery is the same for a pass, and the work that a kill repeats.
	noteEvery = time.Minute
	// abandoned is the time without a sign after which a pass of another process, or of an
	// earlier one, has ended.
	abandoned = 10 * time.Minute

	// lookCost and deleteCost are the shortest times for a file: a pass looks at no more than
	// 1,000 files a second, and deletes no more than 200.
	lookCost   = time.Millisecond
	deleteCost = 5 * time.Millisecond
	// maxFailed is the number of files that a pass leaves because they cannot be deleted.
	maxFailed = 100

	// pauseEvery is the cost after which a pass pauses as long.
	pauseEvery = 100 * time.Millisecond
)

// RunExpiry deletes files that have expired, until ctx ends. It returns at once without
// Options.Expiry.
func (s *Server) RunExpiry(ctx context.Context) {
	if s.uses == nil {
		return
	}
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.expire(ctx); err != nil && ctx.Err() == nil {
			s.metrics.expiryFailures.Inc()
			s.log.Error("files that have expired are not deleted", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// expire looks at the note of the store, and does a pass when one is due.
func (s *Server) expire(ctx context.Context) error {
	rule, now := s.opt.Expiry, s.opt.Now()
	state, err := readState(ctx, s.uses.store)
	if err != nil {
		return err
	}
	if !state.Ended.IsZero() {
		s.metrics.expiryPass.Set(float64(state.Ended.Unix()))
	}
	seen := state.Seen
	whole := state.observe(now, rule.longestGap())
	running := !state.Began.IsZero() && state.Ended.IsZero()
	quiet := now.Sub(seen)
	switch {
	case !whole:
		s.log.Info("reads of small files count from now on: files that were stored before "+
			"expire no earlier than if they had been read now", "expire_after", rule.After)
		state.Began, state.Ended, state.After = now.Round(0), now.Round(0), ""
		return s.note(ctx, &state)
	case running && quiet < abandoned:
		return nil // another process does it
	case running, now.Sub(state.Began) >= rule.passEvery():
		return s.pass(ctx, &state, now, running)
	case quiet >= seenEvery:
		return s.note(ctx, &state)
	}
	return nil
}

// note stores the note.
func (s *Server) note(ctx context.Context, state *expiryState) error {
	note, err := json.Marshal(state)
	if err != nil { // an expiryState always has one
		return fmt.Errorf("encode the note: %w", err)
	}
	return s.uses.store.SetNote(ctx, note)
}

// errGap ends a pass in which the clock was stepped, or the process stood still.
var errGap = errors.New("the clock was stepped, or the process stood still")

// pass is a walk over all files.
type pass struct {
	s      *Server
	state  *expiryState
	noted  time.Time     // when the note was stored, and no step of the clock before it
	cost   time.Duration // since the last pause
	looked int           // files
	files  int           // deleted
	bytes  int64         // deleted
	failed int           // files that could not be deleted
}

// pass deletes the files that have expired, from the one behind state.After on if it continues an
// earlier pass.
func (s *Server) pass(ctx context.Context, state *expiryState, begin time.Time,
	continued bool) error {
	if !continued {
		state.Began, state.Ended, state.After = begin.Round(0), time.Time{}, ""
	}
	p := &pass{s: s, state: state, noted: begin}
	if err := s.note(ctx, state); err != nil {
		return err
	}
	err := s.uses.store.Ages(ctx, expiryFolder, state.After, func(a blob.Age) error {
		return p.visit(ctx, a)
	})
	now := s.opt.Now()
	if err != nil {
		return fmt.Errorf("pass over small files ended at %q, %d files deleted: %w", state.After,
			p.files, err)
	}
	state.Seen, state.Ended, state.After = now.Round(0), now.Round(0), ""
	if err := s.note(ctx, state); err != nil {
		return err
	}
	s.metrics.expiryPass.Set(float64(now.Unix()))
	s.log.Info("small files that have expired are deleted", "looked_at", p.looked,
		"deleted", p.files, "bytes", p.bytes, "failed", p.failed,
		"took", now.Sub(begin).Round(time.Millisecond))
	return nil
}

// visit looks at a file, and deletes it when it has expired.
func (p *pass) visit(ctx context.Context, a blob.Age) error {
	if now := p.s.opt.Now(); now.Sub(p.noted) >= noteEvery {
		if !p.state.observe(now, p.s.opt.Expiry.longestGap()) {
			return errGap
		}
		if err := p.s.note(ctx, p.state); err != nil {
			return err
		}
		p.noted = now
	}
	p.looked++
	p.cost += lookCost
	var err error
	switch {
	case a.Stored.IsZero():
		err = p.orphan(ctx, a.Name)
	case p.due(a) != "":
		err = p.delete(ctx, a.Name)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.s.metrics.expiryFailures.Inc()
		p.s.complain("a file that has expired is not deleted", err)
		if p.failed++; p.failed == maxFailed {
			return err
		}
	}
	p.state.After = a.Name
	if p.cost < pauseEvery {
		return nil
	}
	pause := p.cost
	p.cost = 0
	return p.s.pause(ctx, pause)
}

// due returns the reason why a file has expired, or "". It uses a time before which no step of the
// clock was found.
func (p *pass) due(a blob.Age) string { return p.s.opt.Expiry.due(a, p.state.Since, p.noted) }

// delete deletes a file, unless it was read meanwhile.
func (p *pass) delete(ctx context.Context, name string) error {
	a, err := p.s.uses.store.Age(ctx, name)
	if im.KindOf(err) == im.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	reason := p.due(a)
	if reason == "" {
		return nil
	}
	if err := p.s.uses.store.Delete(ctx, name); err != nil {
		return err
	}
	p.s.forget(name)
	p.cost += deleteCost
	p.files++
	p.bytes += a.Size
	p.s.metrics.expired.WithLabelValues(reason).Inc()
	p.s.metrics.expiredBytes.Add(float64(a.Size))
	return nil
}

// orphan removes a mark without a file. A kill in the middle of a deletion leaves such marks.
func (p *pass) orphan(ctx context.Context, name string) error {
	// The list does not show one point in time: the file may have been stored meanwhile.
	_, err := p.s.uses.store.Age(ctx, name)
	if im.KindOf(err) == im.NotFound {
		return p.s.uses.store.Unmark(ctx, name)
	}
	return err
}
