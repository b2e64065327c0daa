// Package prune deletes messages and waiting files that are older than a time, in small steps
// beside servers that use the store: for a command, and for a db_proxy that keeps a Rule. The
// last message of each conversation stays, whatever its age. PRUNE.md describes it for operators.
package prune

import (
	"context"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/opt"
)

// Store is a store whose old messages are deleted.
type Store interface {
	im.Pruner
	OfflineFilePage(ctx context.Context, after uint32) ([]im.OfflineFile, uint32, error)
	DeleteOfflineFile(ctx context.Context, from, to uint32, task string) error
}

// Options say what is deleted, and how fast.
type Options struct {
	// Before is a time in unix seconds: what was created earlier is old. Required.
	Before uint32
	// Apply deletes. Without it the run counts what it would delete.
	Apply bool
	// Batch is the number of messages in one step. Default 500.
	Batch int
	// Pause is the shortest pause after a step that deletes. A step that took longer is followed
	// by a pause as long as the step. Default 0.
	Pause time.Duration
	// SkipUsers leaves the messages between users, SkipGroups those in groups, and SkipFiles the
	// files that wait.
	SkipUsers, SkipGroups, SkipFiles bool
	// Sounds deletes the files of sounds, by Audio.Path. A file that does not exist is no error.
	// nil: the files stay. Used with Apply alone.
	Sounds func(ctx context.Context, paths []string) error
	// Step is called before each step, and its error ends the run. nil: nothing is.
	Step func(ctx context.Context) error
	// Deleted receives what each step has deleted. nil: nobody does. Used with Apply alone.
	Deleted func(Report)
}

// Report counts what was deleted, or would be.
type Report struct {
	Texts, Sounds           im.OldCount // between users
	GroupTexts, GroupSounds im.OldCount
	Files                   im.OldCount // that wait for their receivers
	// Busy is the number of conversations that stay for the next run, because their unread counts
	// changed all the time.
	Busy int
}

// run is one run.
type run struct {
	s    Store
	opt  Options
	done Report
}

// Run deletes what is old, or counts it. When it ends early, for ctx or an error, the report has
// what was done, and another run does the rest.
func Run(ctx context.Context, s Store, o Options) (Report, error) {
	opt.Require("prune.Before", int64(o.Before))
	opt.Default(&o.Batch, 500)
	r := &run{s: s, opt: o}
	for _, k := range []struct {
		skip bool
		do   func(context.Context) error
	}{
		{o.SkipUsers, func(ctx context.Context) error { return r.threads(ctx, false) }},
		{o.SkipGroups, func(ctx context.Context) error { return r.threads(ctx, true) }},
		{o.SkipFiles, r.files},
	} {
		if k.skip {
			continue
		}
		if err := k.do(ctx); err != nil {
			return r.done, err
		}
	}
	return r.done, nil
}

// threads deletes the old messages of all conversations, or of all groups.
func (r *run) threads(ctx context.Context, group bool) error {
	for after, more := uint32(0), true; more; more = after > 0 {
		began := time.Now()
		if err := r.step(ctx); err != nil {
			return err
		}
		list, last, err := r.s.OldThreads(ctx, group, after, r.opt.Before)
		if err != nil {
			return err
		}
		if err := r.rest(ctx, time.Since(began)); err != nil {
			return err
		}
		for _, t := range list {
			if err := r.thread(ctx, t); err != nil {
				return err
			}
		}
		after = last
	}
	return nil
}

// thread deletes the old messages of a conversation or group.
func (r *run) thread(ctx context.Context, t im.OldThread) error {
	if r.opt.Apply {
		if err := r.step(ctx); err != nil {
			return err
		}
		err := r.s.SkipOld(ctx, t)
		if err != nil && im.KindOf(err) == im.Busy {
			r.done.Busy++
			return nil
		}
		if err != nil {
			return err
		}
	}
	for after := uint32(0); ; {
		began := time.Now()
		if err := r.step(ctx); err != nil {
			return err
		}
		p, err := r.s.OldPart(ctx, t, after, r.opt.Batch)
		if err == nil && p.Last == 0 {
			return r.skipAgain(ctx, t)
		}
		if err != nil {
			return err
		}
		if r.opt.Apply {
			if err := r.remove(ctx, t, p); err != nil {
				return err
			}
		}
		r.count(t, p)
		after = p.Last
		if err := r.pause(ctx, began); err != nil {
			return err
		}
	}
}

// count counts a part that was deleted, or would be.
func (r *run) count(t im.OldThread, p im.OldPart) {
	var part Report
	if t.Group {
		part.GroupTexts, part.GroupSounds = p.Texts, p.Sounds
	} else {
		part.Texts, part.Sounds = p.Texts, p.Sounds
	}
	r.done.Texts.Add(part.Texts)
	r.done.Sounds.Add(part.Sounds)
	r.done.GroupTexts.Add(part.GroupTexts)
	r.done.GroupSounds.Add(part.GroupSounds)
	if r.opt.Apply && r.opt.Deleted != nil {
		r.opt.Deleted(part)
	}
}

// step asks Options.Step whether the run may continue.
func (r *run) step(ctx context.Context) error {
	if r.opt.Step == nil {
		return nil
	}
	return r.opt.Step(ctx)
}

// skipAgain lowers the counts of a conversation again after the deletion: a rebuild of unread
// counts beside it has counted the messages that were not deleted yet. When the counts change all
// the time, they are in use, and the next reading ends the difference.
func (r *run) skipAgain(ctx context.Context, t im.OldThread) error {
	if !r.opt.Apply {
		return nil
	}
	if err := r.s.SkipOld(ctx, t); err != nil && im.KindOf(err) != im.Busy {
		return err
	}
	return nil
}

// remove deletes a part. The files of its sounds are deleted first: after a kill between, the
// next run finds the messages again.
func (r *run) remove(ctx context.Context, t im.OldThread, p im.OldPart) error {
	if r.opt.Sounds != nil && len(p.Paths) > 0 {
		if err := r.opt.Sounds(ctx, p.Paths); err != nil {
			return err
		}
	}
	return r.s.DeleteOld(ctx, t, p)
}

// pause waits after a step that deletes.
func (r *run) pause(ctx context.Context, began time.Time) error {
	return r.rest(ctx, max(r.opt.Pause, time.Since(began)))
}

// rest waits, when servers run beside this work.
func (r *run) rest(ctx context.Context, d time.Duration) error {
	if !r.opt.Apply {
		return ctx.Err()
	}
	return backoff.Sleep(ctx, d)
}

// files removes files from the lists of their receivers. Their file server then deletes them, as
// it does when the receiver has removed a file.
func (r *run) files(ctx context.Context) error {
	for after, more := uint32(0), true; more; more = after > 0 {
		list, last, err := r.s.OfflineFilePage(ctx, after)
		if err != nil {
			return err
		}
		for _, f := range list {
			if f.Created >= r.opt.Before {
				continue
			}
			began := time.Now()
			if err := r.step(ctx); err != nil {
				return err
			}
			if r.opt.Apply {
				if err := r.s.DeleteOfflineFile(ctx, f.From, f.To, f.Task); err != nil {
					return err
				}
			}
			part := Report{Files: im.OldCount{Messages: 1, Bytes: int64(f.Size)}}
			r.done.Files.Add(part.Files)
			if r.opt.Apply && r.opt.Deleted != nil {
				r.opt.Deleted(part)
			}
			if err := r.pause(ctx, began); err != nil {
				return err
			}
		}
		after = last
	}
	return nil
}
