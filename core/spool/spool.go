// Package spool stores files in one folder until their receivers have fetched them.
//
// A file is identified by a UUID, which is also the name of its parts on the disk. Any
// other id identifies no file. There are up to four parts:
//
//	ID.meta  sender, receiver, name and size; exists as long as the file
//	ID.part  the bytes uploaded so far
//	ID.data  all bytes: ID.part after a rename
//	ID.got   empty; its receiver has fetched the file
//
// # Crashes
//
// Create returns after the meta file has been flushed. Append adds bytes to the part.
// Resume flushes the part and returns its length. Finish flushes the part and then
// renames it, so that a data file is always whole. Delete removes the meta file first, so
// that a file either exists or not. Open repairs what a process that ended at any point
// left behind.
//
// After a power failure the length of an unfinished part depends on the file system. It
// is right on those that write data before sizes, such as ext4 and XFS.
package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/mono"
	"teamtalk/core/opt"
)

// Options configure a Spool. Zero fields mean the defaults.
type Options struct {
	// Dir is the folder. It is made if it is missing. Required. Open fails when another
	// process has the folder open.
	Dir string
	// MinFree is the number of bytes to leave free on the folder's disk. A file that
	// would leave fewer is refused. 0: no bound.
	MinFree int64
	// Quota bounds the bytes of one sender's waiting files and unfinished files, which
	// count with their full size. Required.
	Quota int64
	// MaxFiles bounds all files, and MaxUserFiles one sender's unfinished and waiting
	// files. Required.
	MaxFiles, MaxUserFiles int
	// KeepUnfinished is how long an upload is kept after its last byte, KeepWaiting how
	// long a waiting file is kept. Both are required. KeepFetched is how long a fetched
	// file is kept; 0: it is deleted at once.
	KeepUnfinished, KeepWaiting, KeepFetched time.Duration
	// Now returns the time. Default mono.Now.
	Now func() time.Time
	// Log logs the repairs of Open. Default: discarded.
	Log *slog.Logger
}

// ErrFull is the cause of an error for which the disk or the spool has no room, for files of any
// sender. Its kind is Busy.
var ErrFull = errors.New("no room for more files")

// Info describes a file. It does not change.
type Info struct {
	ID string
	// SenderID is a second UUID by which LookupSender finds the file; "": none. It is not the
	// name of anything on the disk.
	SenderID string
	From, To uint32
	Name     string // the sender's name for it; up to 1,024 bytes in any charset
	Size     uint32 // bytes
	Created  time.Time
}

// State is a file's state.
type State uint8

// The states of a file.
const (
	Unfinished State = iota // being uploaded
	Waiting                 // whole
	Fetched                 // whole, and its receiver has read all of it
)

// Spool is a folder of files. Any goroutine. All methods except Lookup, LookupSender,
// Waiting and Usage wait for the disk. Errors are of kind im.NotFound (no such file in that state),
// im.Invalid, im.Busy (a bound), im.Unavailable (the disk) or im.Closed.
type Spool struct {
	opt  Options
	root *os.Root
	lock *os.File
	id   [16]byte
	step func(string) // called before each change of the disk; tests end the process here

	mu        sync.Mutex
	files     map[string]*entry
	senders   map[string]*entry // by Info.SenderID
	users     map[uint32]usage
	bytes     int64 // of all files; unfinished ones count with their full size
	unwritten int64 // bytes of unfinished files that have not arrived
	closed    bool
}

// usage counts a sender's unfinished and waiting files.
type usage struct {
	files int
	bytes int64
}

// entry is a file. disk is held while its parts change. The spool's mutex protects the
// other fields.
type entry struct {
	info    Info
	disk    sync.Mutex
	state   State
	written int64     // length of the part
	since   time.Time // when it got its state; for an unfinished file, when its last byte arrived
	gone    bool
}

// Open opens a folder and repairs what an earlier process left behind. It removes files
// whose Create or Delete was interrupted, and renames meta files that cannot be read to
// ID.bad.
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
		senders: map[string]*entry{}, users: map[uint32]usage{}}
	if s.lock, err = lockFolder(root); err == nil {
		if s.id, err = folderID(s.lock); err == nil {
			err = s.scan()
		}
		if err == nil {
			return s, nil
		}
		_ = s.lock.Close()
	}
	_ = root.Close()
	return nil, fmt.Errorf("open spool: %w", err)
}

// folderID reads the id of a folder from its lock file, and gives it one at first. On a disk that
// is full the id lasts as long as the process.
func folderID(lock *os.File) (id [16]byte, err error) {
	n, err := lock.ReadAt(id[:], 0)
	if n == len(id) {
		return id, nil
	}
	if !errors.Is(err, io.EOF) {
		return id, fmt.Errorf("read the id of the folder: %w", err)
	}
	rand.Read(id[:])
	_, _ = lock.WriteAt(id[:], 0)
	_ = lock.Sync()
	return id, nil
}

// ID returns the random id of the folder, which stays the same when it is opened again. A copy of
// the folder has it as well.
func (s *Spool) ID() [16]byte { return s.id }

func (o *Options) defaults() {
	opt.Require("spool.Quota", o.Quota)
	opt.Require("spool.MaxFiles", o.MaxFiles)
	opt.Require("spool.MaxUserFiles", o.MaxUserFiles)
	opt.Require("spool.KeepUnfinished", o.KeepUnfinished)
	opt.Require("spool.KeepWaiting", o.KeepWaiting)
	if o.Now == nil {
		o.Now = mono.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Close releases the folder. Calls that are running fail.
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

// Lookup returns a file's Info and State. It does not use the disk.
func (s *Spool) Lookup(id string) (Info, State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.files[id]
	if e == nil {
		return Info{}, 0, false
	}
	return e.info, e.state, true
}

// LookupSender returns the Info and State of the file with this SenderID. It does not use
// the disk.
func (s *Spool) LookupSender(id string) (Info, State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.senders[id]
	if e == nil {
		return Info{}, 0, false
	}
	return e.info, e.state, true
}

// Waiting returns the waiting files that were finished before a time. It does not use the
// disk.
func (s *Spool) Waiting(before time.Time) []Info { return s.Finished(time.Time{}, before) }

// Finished returns the waiting files that were finished at a time or later, and before
// another one. It does not use the disk.
func (s *Spool) Finished(from, before time.Time) []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Info
	for _, e := range s.files {
		if e.state == Waiting && !e.since.Before(from) && e.since.Before(before) {
			list = append(list, e.info)
		}
	}
	return list
}

// Usage returns the number of files and of their bytes. Unfinished files count with their
// full size.
func (s *Spool) Usage() (files int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files), s.bytes
}

// SetBounds replaces Options.Quota and Options.MinFree. Files beyond a lower quota stay.
func (s *Spool) SetBounds(quota, minFree int64) {
	opt.Require("spool.Quota", quota)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Quota, s.opt.MinFree = quota, minFree
}

// minFree returns Options.MinFree, or that of SetBounds.
func (s *Spool) minFree() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opt.MinFree
}

// admit enters a new file if it exceeds no bound of its sender, the spool and the disk.
func (s *Spool) admit(e *entry, free int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, size := s.users[e.info.From], int64(e.info.Size)
	switch {
	case s.closed:
		return im.Errorf(im.Closed, "the spool is closed")
	case s.files[e.info.ID] != nil || s.senders[e.info.SenderID] != nil:
		return im.Errorf(im.Exists, "a file with that id exists")
	case len(s.files) >= s.opt.MaxFiles:
		return im.WithKind(im.Busy, fmt.Sprintf("the spool has %d files, which is its limit",
			len(s.files)), ErrFull)
	case u.files >= s.opt.MaxUserFiles:
		return im.Errorf(im.Busy, "user %d has %d files in the spool", e.info.From, u.files)
	case u.bytes+size > s.opt.Quota:
		return im.Errorf(im.Busy,
			"user %d has %d MiB in the spool, and %d MiB more exceed the quota",
			e.info.From, u.bytes>>20, size>>20)
	case s.opt.MinFree > 0 && free-s.unwritten-size < s.opt.MinFree:
		return im.WithKind(im.Busy, fmt.Sprintf(
			"the spool's disk has %d MiB free, %d MiB are promised and %d MiB reserved",
			free>>20, s.unwritten>>20, s.opt.MinFree>>20), ErrFull)
	}
	s.enter(e)
	return nil
}

// enter counts a file. The caller holds s.mu.
func (s *Spool) enter(e *entry) {
	s.files[e.info.ID] = e
	if e.info.SenderID != "" {
		s.senders[e.info.SenderID] = e
	}
	s.bytes += int64(e.info.Size)
	if e.state == Unfinished {
		s.unwritten += int64(e.info.Size) - e.written
	}
	if e.state != Fetched {
		s.charge(e, 1)
	}
}

// remove no longer counts a file.
func (s *Spool) remove(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[e.info.ID] != e {
		return
	}
	delete(s.files, e.info.ID)
	delete(s.senders, e.info.SenderID)
	s.bytes -= int64(e.info.Size)
	if e.state == Unfinished {
		s.unwritten -= int64(e.info.Size) - e.written
	}
	if e.state != Fetched {
		s.charge(e, -1)
	}
}

// charge counts a file for its sender (n is 1), or no longer (-1). The caller holds s.mu.
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

// hold returns the file if it has one of the states, and locks its parts. The caller
// unlocks entry.disk.
func (s *Spool) hold(id string, states ...State) (*entry, error) {
	s.mu.Lock()
	e, closed := s.files[id], s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, im.Errorf(im.Closed, "the spool is closed")
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

// diskError wraps an error of the disk; nil stays nil.
func diskError(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return im.WithKind(im.NotFound, what, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return im.WithKind(im.Busy, what, fmt.Errorf("%w: %w", ErrFull, err))
	}
	return im.WithKind(im.Unavailable, what, err)
}
