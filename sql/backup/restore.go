package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
	"teamtalk/sql/embedded/folderlock"
)

// Verify reads all files of the backup in dir, and returns its summary. The error has kind Invalid
// when a file is missing or has other bytes than when it was copied, and names it.
func Verify(ctx context.Context, dir string) (Summary, error) {
	s, err := each(dir, func(e Entry) error {
		got, err := readFile(ctx, filepath.Join(dir, filepath.FromSlash(e.Path)), io.Discard)
		return compare(e, got, err)
	})
	if err != nil {
		return s, err
	}
	schema, err := checkDatabase(ctx, filepath.Join(dir, embedded.FileName))
	if err == nil && schema != s.Schema {
		err = damaged("the database has schema version %d, the manifest says %d", schema, s.Schema)
	}
	return s, err
}

// each calls do for each file of a backup.
func each(dir string, do func(Entry) error) (s Summary, err error) {
	m, err := openManifest(dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	s.Head = m.Head
	store := false
	for {
		e, err := m.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = do(e)
		}
		if err != nil {
			return s, err
		}
		store = store || e.Path == embedded.FileName
	}
	if !store {
		return s, damaged("it has no %s", embedded.FileName)
	}
	s.Tail = m.seen
	return s, nil
}

// compare returns an error if a file is not the one of the manifest. err is that of reading it.
func compare(want, got Entry, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return damaged("%s is missing", want.Path)
	case err != nil:
		return err
	case got.Size != want.Size:
		return damaged("%s has %d bytes, want %d", want.Path, got.Size, want.Size)
	case got.Sum != want.Sum:
		return damaged("%s has other bytes than when it was copied", want.Path)
	}
	return nil
}

// RestoreOptions say what Restore makes of a backup.
type RestoreOptions struct {
	Backup  string // the folder of the backup; required
	DataDir string // the folder of the store to make; required
	// Force replaces a store that is in DataDir. Its folder gets another name.
	Force bool
	// Gap is the number of message ids that are left out in each conversation and group: more
	// than any of them got since the backup. 0 means DefaultGap.
	Gap uint32
	// SameIDs leaves no gaps. It is for a backup after which no client has seen a change.
	SameIDs bool
	Now     func() time.Time // nil means time.Now
	// Progress is called with the name of each part before it is copied. nil: no reports.
	Progress func(part string)
}

// Restored describes a restored store.
type Restored struct {
	Summary
	Replaced string // the new name of the folder that was in the way; "": none
}

// restoringEnd ends the name of the folder of a store that is not complete.
const restoringEnd = ".restoring"

// Restore makes the folder of a store from a backup. It verifies each file. The folder has its
// name only when it is complete and on the disk. A Restore that was killed can be run again.
//
// The error has kind Exists when the folder has content and Force is not set, Unavailable while a
// server uses it, and Invalid when the backup is damaged.
func Restore(ctx context.Context, o RestoreOptions) (r Restored, err error) {
	if o.Gap == 0 {
		o.Gap = DefaultGap
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return r, err
	}
	free, err := vacant(o.DataDir, o.Force)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, free()) }()
	partial := folderlock.Hidden(o.DataDir, restoringEnd)
	lock, err := folderlock.Claim(partial)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if r.Summary, err = refill(ctx, o, partial); err != nil {
		return r, errors.Join(err, os.RemoveAll(partial))
	}
	r.Replaced, err = swap(partial, o.DataDir, o.Now())
	return r, err
}

// vacant returns an error unless a store can be made in dir. A folder that exists is locked until
// free is called.
func vacant(dir string, force bool) (free func() error, err error) {
	free = func() error { return nil }
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return free, nil
	}
	if err != nil || len(list) == 0 {
		return free, err
	}
	full := im.Errorf(im.Exists, "%s is not empty: name a new folder, or move this one away with "+
		"--force", dir)
	if _, err := os.Lstat(filepath.Join(dir, folderlock.FileName)); err != nil && !force {
		return nil, full // it is no folder of a server, and gets no lock
	}
	lock, err := folderlock.LockCommand(dir, "stop it first")
	if err != nil {
		return nil, err
	}
	if !force {
		return nil, errors.Join(full, lock.Close())
	}
	return lock.Close, nil
}

// refill copies the files of a backup into the folder partial, and leaves gaps in the ids.
func refill(ctx context.Context, o RestoreOptions, partial string) (Summary, error) {
	logged, part := false, ""
	s, err := each(o.Backup, func(e Entry) error {
		if top, _, _ := strings.Cut(e.Path, "/"); top != part {
			part = top
			o.Progress(part)
		}
		logged = logged || part == LogFolder
		place := filepath.Join(partial, filepath.FromSlash(e.Path))
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			return err
		}
		from := filepath.Join(o.Backup, filepath.FromSlash(e.Path))
		got, err := copyFile(ctx, from, place)
		if err == nil { // the age of a file decides when it expires
			err = os.Chtimes(place, time.Time{}, e.MTime)
		}
		return compare(e, got, err)
	})
	if err != nil {
		return s, err
	}
	if logged && !o.SameIDs {
		return s, im.Errorf(im.Invalid, "the backup holds a log of accepted messages (%s), which "+
			"a server must read before ids get a gap: use --same-ids", LogFolder)
	}
	if !o.SameIDs {
		if err := advance(ctx, partial, o.Gap, o.Now().Unix()); err != nil {
			return s, fmt.Errorf("leave gaps in the ids: %w", err)
		}
	}
	return s, flush(partial)
}

// swap gives a complete folder the name dir, and the folder with this name another one.
func swap(partial, dir string, now time.Time) (replaced string, err error) {
	err = os.Remove(dir) // it may be empty
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		replaced = dir + ".before-" + now.UTC().Format("20060102T150405")
		if err := os.Rename(dir, replaced); err != nil {
			return "", err
		}
	}
	return replaced, folderlock.Publish(partial, dir)
}
