package marks

import (
	"context"
	"time"

	"teamtalk/core/backoff"
	"teamtalk/core/whereabouts"
)

const (
	// maxWrite is how many marks are written at a time.
	maxWrite = 512
	// writePause is the pause after the first failure, and maxWritePause the longest.
	writePause    = 50 * time.Millisecond
	maxWritePause = time.Second
)

// batch is marks that are written or removed together.
type batch struct {
	set, removed []*mark
	marks        []whereabouts.Mark
	unmarks      []whereabouts.Unmark
}

// write writes and removes marks until ctx ends. Then the marks of this process count as absent.
func (i *Index) write(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		b := i.takeDirty()
		if len(b.set)+len(b.removed) == 0 {
			select {
			case <-i.wakes.write:
			case <-ctx.Done():
			}
			i.opt.Turn.Wait("marks write")
			continue
		}
		if i.apply(context.WithoutCancel(ctx), b) {
			failures = 0
			continue
		}
		failures++
		_ = backoff.Sleep(ctx, min(writePause<<min(failures-1, 10), maxWritePause))
		i.opt.Turn.Wait("marks write")
	}
}

// takeDirty returns what is written next. It is nothing while this process is not registered.
func (i *Index) takeDirty() (b batch) {
	self := i.opt.Self()
	i.mu.Lock()
	defer i.mu.Unlock()
	if self.Epoch == 0 {
		return b
	}
	n := min(len(i.dirty), maxWrite)
	for _, m := range i.dirty[:n] {
		m.dirty = false
		if m.users == 0 && m.gone != nil {
			m.written = false
			b.removed = append(b.removed, m)
			b.unmarks = append(b.unmarks, whereabouts.Unmark{Group: m.id, Node: self,
				Version: *m.gone})
			continue
		}
		m.writing = true
		b.set = append(b.set, m)
		b.marks = append(b.marks, whereabouts.Mark{Group: m.id, Nodes: []whereabouts.Node{self}})
	}
	clear(i.dirty[:n])
	if i.dirty = i.dirty[n:]; len(i.dirty) == 0 {
		i.dirty = nil // release what append has grown
	}
	i.busy += n
	return b
}

// apply writes and removes marks. It reports whether the store works.
func (i *Index) apply(ctx context.Context, b batch) (works bool) {
	ctx, cancel := context.WithTimeout(ctx, i.opt.Timeout)
	defer cancel()
	var results []whereabouts.Group
	var errs []error
	if len(b.marks) > 0 {
		results = i.opt.Store.Mark(ctx, b.marks)
	}
	if len(b.unmarks) > 0 {
		errs = i.opt.Store.Unmark(ctx, b.unmarks)
	}
	i.mu.Lock()
	i.busy -= len(b.set) + len(b.removed)
	var done []func()
	var begun []uint32
	for n, m := range b.set {
		m.writing = false
		if err := results[n].Err; err != nil {
			i.failed(m, "mark", err)
			continue
		}
		works = true
		i.metrics.marks.WithLabelValues("written").Inc()
		if m.dirty {
			continue // the store has lost it meanwhile
		}
		m.written = true
		if m.begun && m != i.all {
			begun = append(begun, m.id)
		}
		m.begun = false
		done = i.release(done, m)
	}
	for n, m := range b.removed {
		if errs[n] != nil {
			i.failed(m, "unmark", errs[n])
			continue
		}
		works = true
		i.metrics.marks.WithLabelValues("removed").Inc()
		i.removed(m)
	}
	written := len(i.dirty)+i.busy == 0
	i.mu.Unlock()
	if len(begun) > 0 {
		i.opt.Begun(begun)
	}
	call(done)
	if written {
		i.opt.Written()
	}
	return works
}

// failed makes a mark be written or removed again.
func (i *Index) failed(m *mark, what string, err error) {
	i.metrics.marks.WithLabelValues("failed").Inc()
	i.often.Warn(i.opt.Log, i.opt.Now(), "marks of groups not written", "what", what, "group", m.id,
		"err", err)
	i.touch(m)
}

// release ends the waiting for a mark.
func (i *Index) release(done []func(), m *mark) []func() {
	for _, u := range m.waits {
		if u.login != nil && i.users[u.id] == u {
			u.left--
			done = i.finished(done, u)
		}
	}
	m.waits = nil
	return done
}

// removed forgets a group whose mark is removed, unless a member has come meanwhile.
func (i *Index) removed(m *mark) {
	m.gone = nil
	if m.users == 0 && !m.dirty && m != i.all {
		delete(i.marks, m.id)
	}
}
