package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
)

// The files. A read of a segment takes a while, so that faults find transfers under way.
const (
	fileSize = 400 << 10
	slowRead = 2 * time.Millisecond
)

// fileLimit bounds an attempt to send or fetch a file.
func (w *World) fileLimit() time.Duration { return w.Patience / 3 }

// contentOf returns the content of a file: random bytes that depend on its name.
func contentOf(name string, size int) []byte {
	var seed [32]byte
	copy(seed[:], name)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// slowFile is a file whose reads take a while.
type slowFile struct{ *bytes.Reader }

// ReadAt reads after a while.
func (s slowFile) ReadAt(b []byte, off int64) (int, error) {
	time.Sleep(slowRead)
	return s.Reader.ReadAt(b, off)
}

// fetched are the files that arrived, by name.
type fetched struct {
	mu    sync.Mutex
	times map[string]int
	wrong map[string]bool
}

func (f *fetched) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times, f.wrong = map[string]int{}, map[string]bool{}
}

// take compares a file that arrived, and removes it.
func (f *fetched) take(name, path string) {
	got, err := os.ReadFile(path)
	_ = os.Remove(path) // the folder is removed at the end
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times[name]++
	if err != nil || !bytes.Equal(got, contentOf(name, fileSize)) {
		f.wrong[name] = true
	}
}

// has reports whether all files arrived.
func (f *fetched) has(names []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		if f.times[name] == 0 {
			return false
		}
	}
	return true
}

// check counts the files that did not arrive, or arrived twice or changed.
func (f *fetched) check(names []string, c *Counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		switch n := f.times[name]; {
		case n == 0:
			c.Lost++
			c.example("%s did not arrive", name)
		case n > 1:
			c.Duplicated++
			c.example("%s arrived %d times", name, n)
		}
	}
	for name := range f.wrong {
		c.Other++
		c.example("%s arrived changed", name)
	}
	c.Delivered += len(f.times)
}

// sendFile makes an attempt to send a file to a user.
func (w *World) sendFile(ctx context.Context, from *client.Client, to uint32, name string,
	online bool) error {
	ctx, cancel := context.WithTimeout(ctx, w.fileLimit())
	defer cancel()
	f, err := from.Files.Offer(ctx, to, name, fileSize, online)
	if err != nil {
		return err
	}
	if f.Online != online {
		return im.Errorf(im.Unavailable, "the receiver counts as offline")
	}
	t, err := from.Files.Send(f, slowFile{bytes.NewReader(contentOf(name, fileSize))},
		transfer.Options{})
	if err != nil {
		return err
	}
	if err := t.Wait(ctx); err != nil {
		t.Cancel()
		<-t.Done()
		return errors.Join(err, t.Err())
	}
	return nil
}

// names are the names of files that were accepted.
type names struct {
	row      int
	mu       sync.Mutex
	accepted []string
}

func (n *names) begin(row int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.row, n.accepted = row, nil
}

func (n *names) accept(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.accepted = append(n.accepted, name)
}

func (n *names) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.accepted...)
}

// files sends files that wait for their receiver, which fetches what its list has.
type files struct {
	names
	fetched
	w        *World
	from, to *client.Client
	dir      string
	stop     context.CancelFunc
	all      sync.WaitGroup

	taken map[string]bool // tasks that were fetched; of the receiver's goroutine
	twice atomic.Int64    // tasks that a list had twice
	empty atomic.Bool     // the last list had no file that was not fetched
	left  atomic.Int64    // files that were fetched and are in the last list
}

func openFiles(ctx context.Context, w *World) (job, error) {
	f := &files{w: w, dir: filepath.Join(w.Dir, "fetched"), taken: map[string]bool{}}
	f.fetched.reset()
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if f.from, err = w.open(ctx, filesFrom, func(client.Event) {}); err != nil {
		return nil, err
	}
	if f.to, err = w.open(ctx, filesTo, func(client.Event) {}); err != nil {
		_ = f.from.Close()
		return nil, err
	}
	live, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.all.Go(func() { f.receive(live) })
	return f, nil
}

func (f *files) close() {
	f.stop()
	_ = f.from.Close()
	_ = f.to.Close()
	f.all.Wait()
}

func (f *files) begin(row int) {
	f.names.begin(row)
	f.fetched.reset()
	f.twice.Store(0)
}

func (f *files) try(ctx context.Context, n, attempt int) error {
	name := fmt.Sprintf("off-%d-%d-%d.bin", f.row, n, attempt)
	err := f.w.sendFile(ctx, f.from, f.to.UserID(), name, false)
	if err == nil {
		f.accept(name)
	}
	return err
}

// maxBehind is the number of accepted files that the receiver may have yet to fetch. It is far
// below the number at which the file server refuses more for one user.
const maxBehind = 20

func (f *files) behind() bool {
	f.fetched.mu.Lock()
	arrived := len(f.times)
	f.fetched.mu.Unlock()
	return len(f.list())-arrived >= maxBehind
}

// receive fetches the files of the receiver's list, again and again. It follows no notice,
// so that the list must be right.
func (f *files) receive(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, pauseAfter)
		limit, cancel := context.WithTimeout(ctx, f.w.fileLimit())
		list, err := f.to.Files.Waiting(limit)
		if err == nil {
			f.fetch(limit, list)
		}
		cancel()
	}
}

// fetch fetches the files of a list.
func (f *files) fetch(ctx context.Context, list []transfer.File) {
	seen, left, missing := map[string]bool{}, 0, false
	for _, file := range list {
		if seen[file.Task] {
			f.twice.Add(1)
		}
		seen[file.Task] = true
		if f.taken[file.Task] {
			left++
			continue
		}
		t, err := f.to.Files.Fetch(file, f.dir, transfer.Options{})
		if err == nil {
			if err = t.Wait(ctx); err != nil {
				t.Cancel()
				<-t.Done()
				err = t.Err()
			}
		}
		if err != nil {
			missing = true
			continue
		}
		f.taken[file.Task] = true
		left++ // until a list without it
		f.take(file.Name, t.Path())
	}
	f.left.Store(int64(left))
	f.empty.Store(!missing && left == 0)
}

func (f *files) settle(ctx context.Context) {
	until(ctx, func() bool { return f.fetched.has(f.list()) && f.empty.Load() })
}

func (f *files) check(_ context.Context, c *Counts) error {
	f.fetched.check(f.list(), c)
	if n := int(f.twice.Load()); n > 0 {
		c.Duplicated += n
		c.example("%d times a list had a file twice", n)
	}
	if n := int(f.left.Load()); n > 0 {
		c.Other += n
		c.example("%d files are in the list although they were fetched", n)
	}
	return nil
}

// online sends files that are passed on directly.
type online struct {
	names
	fetched
	w        *World
	from, to *client.Client
	dir      string
	all      sync.WaitGroup
}

func openOnline(ctx context.Context, w *World) (job, error) {
	o := &online{w: w, dir: filepath.Join(w.Dir, "passed")}
	o.fetched.reset()
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if o.from, err = w.open(ctx, onlineFrom, func(client.Event) {}); err != nil {
		return nil, err
	}
	ready := make(chan struct{}) // events may come before the client is known
	o.to, err = w.open(ctx, onlineTo, func(e client.Event) {
		if offer, ok := e.(client.FileOffered); ok && offer.File.Online {
			o.all.Go(func() {
				<-ready
				o.fetch(offer.File)
			})
		}
	})
	close(ready)
	if err != nil {
		_ = o.from.Close()
		return nil, err
	}
	return o, nil
}

// fetch fetches a file while its sender waits.
func (o *online) fetch(f transfer.File) {
	t, err := o.to.Files.Fetch(f, o.dir, transfer.Options{})
	if err != nil {
		return // the client has ended, or fetches it already
	}
	timer := time.AfterFunc(o.w.fileLimit(), t.Cancel)
	defer timer.Stop()
	<-t.Done()
	if t.Err() == nil {
		o.take(f.Name, t.Path())
	}
}

func (o *online) close() {
	_ = o.from.Close()
	_ = o.to.Close()
	o.all.Wait()
}

func (o *online) begin(row int) {
	o.names.begin(row)
	o.fetched.reset()
}

func (o *online) try(ctx context.Context, n, attempt int) error {
	name := fmt.Sprintf("on-%d-%d-%d.bin", o.row, n, attempt)
	err := o.w.sendFile(ctx, o.from, o.to.UserID(), name, true)
	if err == nil {
		o.accept(name)
	}
	return err
}

func (o *online) settle(ctx context.Context) {
	until(ctx, func() bool { return o.fetched.has(o.list()) })
}

func (o *online) check(_ context.Context, c *Counts) error {
	o.fetched.check(o.list(), c)
	return nil
}
