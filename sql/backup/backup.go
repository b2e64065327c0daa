// Package backup copies an embedded store, with its small files, sounds and waiting files, while a
// server uses them, and makes a folder of a server from such a copy. BACKUP.md describes for
// operators what else they need, and how to copy MySQL and Redis.
//
// # Why every row has its file
//
// A server writes and flushes a file before it stores the row that names it: a client uploads a
// picture before it sends the message with its URL, a sound is kept before its message is stored,
// and an offline file is whole before it enters its receiver's list. So Make copies the database
// first, at one moment, and the files afterwards. Every file that a row in the copy names existed
// at that moment, and is copied unless the server deletes it in the meantime. A server deletes
// only files that have expired, or that their receivers have fetched, so a restored store lacks
// what the first one would have deleted a little later. Files that were added after the moment
// have no row. They expire, or the file server drops them as it drops files without a list entry.
//
// The other order would lose data: a file that is written after the files were copied, and a row
// that is stored before the database is copied.
//
// If a log exists in front of the database, it is copied before the database: an entry leaves the
// log only after the database has it, so each accepted message is in one of the copies.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
	"teamtalk/sql/embedded/folderlock"
)

// LogFolder is the folder, in the folder of a store, of a log in front of the database. It is
// copied if it exists.
const LogFolder = "teamtalk-log"

// Source is what Make copies.
type Source struct {
	DataDir string // the folder of the store
	// Small, Sounds and Waiting are the folders of small files, of sounds, and of files that
	// wait for their receivers. Folders that do not exist are left out.
	Small, Sounds, Waiting string
}

// The names of the folders in a backup, and in the folder of a restored store: those that servers
// use by default.
const (
	smallFolder   = "msfs"
	soundFolder   = "audio"
	waitingFolder = "files"
)

// Options say where a backup is made.
type Options struct {
	// Target is the folder of the backup. It must not exist. Required.
	Target string
	// Previous is an earlier backup on the same disk, or empty. Files that it has with the
	// same name, size and time become hard links to its files, and are not read.
	Previous string
	// Program names the program and its version in the manifest.
	Program string
	// Now returns the time. nil means time.Now.
	Now func() time.Time
	// Progress is called with the name of each part before it is copied. nil: no reports.
	Progress func(part string)
}

// partialEnd ends the name of the folder of a backup that is not complete.
const partialEnd = ".backup-partial"

// Make makes a backup in o.Target and returns its summary. Servers may run: they neither wait nor
// notice, except that the log of SQLite grows until the database is copied. The backup has its
// name only when it is complete and on the disk. Make removes what an earlier Make in the same
// parent folder left that was killed.
//
// The error has kind Exists when the target exists, NotFound when the source has no store or the
// previous backup is none, and Busy while another Make has the same target.
func Make(ctx context.Context, src Source, o Options) (s Summary, err error) {
	if o.Target, err = filepath.Abs(o.Target); err != nil {
		return s, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if err := check(src, o); err != nil {
		return s, err
	}
	if err := folderlock.Clean(filepath.Dir(o.Target), partialEnd); err != nil {
		return s, err
	}
	partial := folderlock.Hidden(o.Target, partialEnd)
	lock, err := folderlock.Claim(partial)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if s, err = fill(ctx, src, o, partial); err != nil {
		return s, errors.Join(err, os.RemoveAll(partial))
	}
	return s, folderlock.Publish(partial, o.Target)
}

// check returns an error if the source or the options are wrong.
func check(src Source, o Options) error {
	if _, err := os.Lstat(o.Target); err == nil {
		return im.Errorf(im.Exists, "%s exists: name a new folder for each backup", o.Target)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(src.DataDir, embedded.FileName)); err != nil {
		return im.WithKind(im.NotFound, "no store to copy", err)
	}
	for _, folder := range []string{src.Small, src.Sounds, src.Waiting} {
		if within(o.Target, folder) {
			return im.Errorf(im.Invalid, "%s is inside %s, which is copied: name a folder "+
				"elsewhere", o.Target, folder)
		}
	}
	return nil
}

// within reports whether a path is a folder or inside it.
func within(path, folder string) bool {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// fill copies everything into the folder partial, in the order that the package describes.
func fill(ctx context.Context, src Source, o Options, partial string) (s Summary, err error) {
	began := o.Now()
	w, err := newManifestWriter(filepath.Join(partial, ManifestName))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	before, err := openPrevious(o.Previous)
	if err != nil {
		return s, err
	}
	defer before.close()
	c := &copier{ctx: ctx, from: before, to: partial, manifest: w}
	o.Progress(LogFolder)
	// The schema is known only with the copy of the database. So the log is copied before the
	// manifest begins, and enters it afterwards.
	entries, err := c.log(filepath.Join(src.DataDir, LogFolder))
	if err != nil {
		return s, err
	}
	o.Progress(embedded.FileName)
	database := filepath.Join(partial, embedded.FileName)
	schema, err := snapshot(ctx, filepath.Join(src.DataDir, embedded.FileName), database)
	if err != nil {
		return s, err
	}
	head := Head{Format: format, Program: o.Program, Schema: schema, Began: began.UTC()}
	if err := w.head(head); err != nil {
		return s, err
	}
	for _, e := range entries {
		if err := w.add(e); err != nil {
			return s, err
		}
	}
	if err := c.sum(embedded.FileName); err != nil {
		return s, err
	}
	for _, f := range folders(src) {
		o.Progress(f.name)
		if err := c.folder(f); err != nil {
			return s, fmt.Errorf("copy %s: %w", f.path, err)
		}
	}
	tail, err := w.end()
	if err != nil {
		return s, err
	}
	return Summary{Head: head, Tail: tail, Linked: c.linked, Skipped: c.skipped}, flush(partial)
}

// Summary describes a backup that was made or verified.
type Summary struct {
	Head
	Tail
	Linked  int64 // files that are links to those of the previous backup
	Skipped int64 // links and devices in the folders, which are not copied
}
