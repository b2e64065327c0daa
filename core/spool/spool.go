// Package spool keeps files that wait for their receivers, in one folder.
//
// A file is known by its id, a UUID, which is also what its parts on the disk are called; whatever is no UUID names nothing. There are up to four:
//
//	ID.meta  who sends what to whom; there as long as the file is
//	ID.part  what has been uploaded so far
//	ID.data  all of it: ID.part under another name
//	ID.got   empty; its receiver has fetched it
//
// # What survives
//
// Create returns when the meta file is on the disk. Bytes are appended to the part; Resume flushes it and says where it stands. Finish flushes the part and
// only then, in one step, gives it its other name: there is never a data file that is not whole. Delete removes the meta file first, so a file is gone or
// there. What the end of a process leaves behind, at any point, is put right by Open.
//
// After a failure of power, which is more than the end of a process, an unfinished part is as long as the file system says; those that order data before
// sizes, as ext4 and XFS do, keep it true.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"teamtalk/core/im"
)

// Options sets up a Spool. Zero values mean the defaults.
type Options struct {
	// Dir is the folder, made when missing. Required. A second process that opens it is refused.
	Dir string
	// MinFree is how many bytes stay free on the folder's disk: what would go below is refused. 0: no such bound.
	MinFree int64
	// Quota is the most bytes of one sender's files that are unfinished, by their full size, or wait. Default 8 GiB.
	Quota int64
	// MaxFiles bounds all files, MaxUserFiles those of one sender that are unfinished or wait. Defaults 50,000 and 200.
	MaxFiles, MaxUserFiles int
	// KeepUnfinished is how long an upload is kept after its last byte came, KeepWaiting a file that nobody fetched, KeepFetched one that was. Defaults
	// 7 days, 30 days and 24 hours.
	KeepUnfinished, KeepWaiting, KeepFetched time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets what Open puts right. Default: discarded.
	Log *slog.Logger
}

// Info says what a file is. It does not change.
type Info struct {
	ID       string
	From, To uint32
	Name     string // as the sender calls it; up to 1,024 bytes, of any kind
	Size     uint32 // bytes
	Created  time.Time
}

// State is how far a file has come.
type State uint8

// The states of a file.
const (
	Unfinished State = iota // being uploaded
	Waiting                 // whole
	Fetched                 // whole, and its receiver has had all of it
)

// Spool is a folder of files. Its methods may be called from anywhere, and wait for the disk, except Lookup, Waiting and Usage. Errors are of kind im.NotFound (no such
// file, or not in that state), im.Invalid, im.Busy (a bound), im.Unavailable (the disk) or im.Closed.
type Spool struct {
	opt  Options
	root *os.Root
	lock *os.File
	step func(string) // tests end the process here

	mu        sync.Mutex
	files     map[string]*entry
	users     map[uint32]usage
	bytes     int64 // of all files, unfinished ones by their full size
	unwritten int64 // of unfinished ones
	closed    bool
}

// usage is what a sender's unfinished and waiting files take.
type usage struct {
	files int
	bytes int64
}

// entry is a file. disk is held while its parts are changed; the rest is the spool's mutex's.
type entry struct {
	info    Info
	disk    sync.Mutex
	state   State
	written int64     // of the part
	since   time.Time // when it got into its state; when unfinished, of the last byte
	gone    bool
}

// Open opens a folder and puts right what an earlier process left behind: files that are being made or removed are removed, and meta files that cannot be read
// are called ID.bad, with what belongs to them left alone.
func Open(opt Options) (*Spool, error) {
	opt.defaults()
	if err := os.MkdirAll(opt.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	root, err := os.OpenRoot(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{opt: opt, root: root, step: func(string) {}, files: map[string]*entry{},
		users: map[uint32]usage{}}
	if s.lock, err = lockFolder(root); err == nil {
		if err = s.scan(); err == nil {
			return s, nil
		}
		_ = s.lock.Close()
	}
	_ = root.Close()
	return nil, fmt.Errorf("open spool: %w", err)
}

func (o *Options) defaults() {
	span := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	if o.Quota <= 0 {
		o.Quota = 8 << 30
	}
	if o.MaxFiles <= 0 {
		o.MaxFiles = 50_000
	}
	if o.MaxUserFiles <= 0 {
		o.MaxUserFiles = 200
	}
	span(&o.KeepUnfinished, 7*24*time.Hour)
	span(&o.KeepWaiting, 30*24*time.Hour)
	span(&o.KeepFetched, 24*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Close frees the folder. What is under way fails.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	return errors.Join(s.root.Close(), s.lock.Close())
}

// Lookup returns what is known of a file. It never touches the disk, whatever id is.
func (s *Spool) Lookup(id string) (Info, State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.files[id]
	if e == nil {
		return Info{}, 0, false
	}
	return e.info, e.state, true
}

// Waiting returns the files that became whole before a time and that nobody has fetched. It never touches the disk.
func (s *Spool) Waiting(before time.Time) []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Info
	for _, e := range s.files {
		if e.state == Waiting && e.since.Before(before) {
			list = append(list, e.info)
		}
	}
	return list
}

// Usage is how many files there are, and their bytes; unfinished ones count by their full size.
func (s *Spool) Usage() (files int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files), s.bytes
}

// admit enters a new file if its sender, the spool and the disk have room for it.
func (s *Spool) admit(e *entry, free int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, size := s.users[e.info.From], int64(e.info.Size)
	switch {
	case s.closed:
		return im.Errorf(im.Closed, "spool is closed")
	case s.files[e.info.ID] != nil:
		return im.Errorf(im.Exists, "a file of that id is there")
	case len(s.files) >= s.opt.MaxFiles:
		return im.Errorf(im.Busy, "%d files are in the spool", len(s.files))
	case u.files >= s.opt.MaxUserFiles:
		return im.Errorf(im.Busy, "user %d has %d files in the spool", e.info.From, u.files)
	case u.bytes+size > s.opt.Quota:
		return im.Errorf(im.Busy, "user %d has %d MiB in the spool, %d MiB more are too much",
			e.info.From, u.bytes>>20, size>>20)
	case s.opt.MinFree > 0 && free-s.unwritten-size < s.opt.MinFree:
		return im.Errorf(im.Busy,
			"%d MiB are free on the spool's disk, %d MiB are promised, %d MiB are kept back",
			free>>20, s.unwritten>>20, s.opt.MinFree>>20)
	}
	s.enter(e)
	return nil
}

// enter counts a file. With s.mu held.
func (s *Spool) enter(e *entry) {
	s.files[e.info.ID] = e
	s.bytes += int64(e.info.Size)
	if e.state == Unfinished {
		s.unwritten += int64(e.info.Size) - e.written
	}
	if e.state != Fetched {
		s.charge(e, 1)
	}
}

// remove takes a file off the counts.
func (s *Spool) remove(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[e.info.ID] != e {
		return
	}
	delete(s.files, e.info.ID)
	s.bytes -= int64(e.info.Size)
	if e.state == Unfinished {
		s.unwritten -= int64(e.info.Size) - e.written
	}
	if e.state != Fetched {
		s.charge(e, -1)
	}
}

// charge counts a file for its sender, or with -1 no longer. With s.mu held.
func (s *Spool) charge(e *entry, n int) {
	u := s.users[e.info.From]
	u.files += n
	u.bytes += int64(n) * int64(e.info.Size)
	if u == (usage{}) {
		delete(s.users, e.info.From)
		return
	}
	s.users[e.info.From] = u
}

// hold finds a file in one of the states and locks its parts. The caller unlocks entry.disk.
func (s *Spool) hold(id string, states ...State) (*entry, error) {
	s.mu.Lock()
	e, closed := s.files[id], s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, im.Errorf(im.Closed, "spool is closed")
	case e == nil:
		return nil, errNotFound
	}
	e.disk.Lock()
	s.mu.Lock()
	state, gone := e.state, e.gone
	s.mu.Unlock()
	for _, want := range states {
		if state == want && !gone {
			return e, nil
		}
	}
	e.disk.Unlock()
	return nil, errNotFound
}

var errNotFound = im.Errorf(im.NotFound, "no such file in that state")

// diskError says what failed on the disk; nil when nothing did.
func diskError(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return im.WithKind(im.NotFound, what, err)
	}
	return im.WithKind(im.Unavailable, what, err)
}
