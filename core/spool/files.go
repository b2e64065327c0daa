package spool

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"teamtalk/core/im"
)

// The extensions of a file's parts.
const (
	extMeta = ".meta"
	extTemp = ".tmp" // a meta file being written
	extPart = ".part"
	extData = ".data"
	extGot  = ".got"
	extBad  = ".bad"
)

// syncEvery is the number of bytes after which a part is flushed, so that the last flush
// does not take long.
const syncEvery = 16 << 20

// Create makes an unfinished file without bytes. It rounds info.Created down to seconds.
// The error is of kind im.Invalid when an id is not a UUID in lower case, or when the
// name is empty or too long.
func (s *Spool) Create(info Info) error {
	if !validID(info.ID) || info.SenderID != "" && !validID(info.SenderID) {
		return im.Errorf(im.Invalid, "the task id is not a UUID")
	}
	if info.Name == "" || len(info.Name) > maxName {
		return im.Errorf(im.Invalid, "the file name has %d bytes", len(info.Name))
	}
	info.Created = info.Created.Truncate(time.Second)
	free := int64(0)
	if s.minFree() > 0 {
		var err error
		if free, err = freeBytes(s.opt.Dir); err != nil {
			return diskError("read the free space", err)
		}
	}
	e := &entry{info: info, since: s.opt.Now()}
	e.disk.Lock()
	defer e.disk.Unlock()
	if err := s.admit(e, free); err != nil {
		return err
	}
	if err := s.writeMeta(info); err != nil {
		e.gone = true
		s.remove(e)
		_ = s.root.Remove(info.ID + extTemp) // if this fails, the next Open removes it
		_ = s.root.Remove(info.ID + extMeta)
		return err
	}
	return nil
}

// writeMeta writes the meta file and flushes it.
func (s *Spool) writeMeta(info Info) error {
	s.step("create meta")
	f, err := s.root.OpenFile(info.ID+extTemp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return diskError("create meta file", err)
	}
	s.step("write meta")
	_, err = f.Write(formatMeta(info))
	if err == nil {
		s.step("flush meta")
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return diskError("write meta file", err)
	}
	s.step("place meta")
	if err := s.root.Rename(info.ID+extTemp, info.ID+extMeta); err != nil {
		return diskError("place meta file", err)
	}
	s.step("flush folder")
	return s.syncDir()
}

// syncDir flushes the folder's entries.
func (s *Spool) syncDir() error {
	d, err := s.root.Open(".")
	if err != nil {
		return diskError("open spool", err)
	}
	return diskError("flush spool", errors.Join(d.Sync(), d.Close()))
}

// Append adds data to an unfinished file. The error is of kind im.Invalid when offset is
// not the file's length so far, or when the file would be longer than announced.
func (s *Spool) Append(id string, offset int64, data []byte) error {
	e, err := s.hold(id, Unfinished)
	if err != nil {
		return err
	}
	defer e.disk.Unlock()
	end := offset + int64(len(data))
	if offset != e.written || end > int64(e.info.Size) {
		return im.Errorf(im.Invalid, "bytes %d to %d of a file that has %d of %d", offset, end,
			e.written, e.info.Size)
	}
	s.step("append")
	f, err := s.root.OpenFile(id+extPart, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return diskError("open part", err)
	}
	_, err = f.WriteAt(data, offset)
	if err == nil && end/syncEvery > offset/syncEvery {
		if err = f.Sync(); err == nil {
			err = s.room()
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return diskError("write part", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.written, e.since = end, s.opt.Now()
	s.unwritten -= int64(len(data))
	return nil
}

// room returns an error of kind im.Busy when other programs have filled the disk.
func (s *Spool) room() error {
	reserved := s.minFree()
	if reserved <= 0 {
		return nil
	}
	free, err := freeBytes(s.opt.Dir)
	if err == nil && free < reserved {
		err = im.Errorf(im.Busy, "the disk has %d MiB free, and %d MiB are reserved", free>>20,
			reserved>>20)
	}
	return err
}

// Resume flushes an unfinished file and returns its length so far, in bytes.
func (s *Spool) Resume(id string) (int64, error) {
	e, err := s.hold(id, Unfinished)
	if err != nil {
		return 0, err
	}
	defer e.disk.Unlock()
	s.touch(e)
	if e.written == 0 {
		return 0, nil
	}
	f, err := s.root.OpenFile(id+extPart, os.O_WRONLY, 0)
	if err != nil {
		return 0, diskError("open part", err)
	}
	return e.written, diskError("flush part", errors.Join(f.Sync(), f.Close()))
}

// touch restarts the time for which an unfinished file is kept.
func (s *Spool) touch(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.since = s.opt.Now()
}

// Finish makes an unfinished file a waiting one. The file survives a crash after Finish
// returns. The error is of kind im.Invalid when bytes are missing. Finish does nothing
// for a file that is finished already.
func (s *Spool) Finish(id string) error {
	e, err := s.hold(id, Unfinished, Waiting, Fetched)
	if err != nil {
		return err
	}
	defer e.disk.Unlock()
	if e.state != Unfinished {
		return nil
	}
	if e.written != int64(e.info.Size) {
		return im.Errorf(im.Invalid, "the file has %d of its %d bytes", e.written, e.info.Size)
	}
	if err := s.place(e); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.since = Waiting, s.opt.Now()
	return nil
}

// place flushes a part and renames it to a data file.
func (s *Spool) place(e *entry) error {
	id := e.info.ID
	s.step("open part")
	// An empty file has no part yet.
	f, err := s.root.OpenFile(id+extPart, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return diskError("open part", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != int64(e.info.Size) {
		err = errors.New("another program changed its length")
	}
	if err == nil {
		s.step("flush part")
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return diskError("flush part", err)
	}
	s.step("place part")
	if err := s.root.Rename(id+extPart, id+extData); err != nil {
		return diskError("place part", err)
	}
	s.step("flush placed")
	return s.syncDir()
}

// Read fills buf with a whole file's bytes from offset on. The error is of kind
// im.Invalid when the file has fewer.
func (s *Spool) Read(id string, offset int64, buf []byte) error {
	info, state, ok := s.Lookup(id)
	switch {
	case !ok || state == Unfinished:
		return errNotFound
	case offset < 0 || offset+int64(len(buf)) > int64(info.Size):
		return im.Errorf(im.Invalid, "bytes %d to %d of a file of %d", offset,
			offset+int64(len(buf)), info.Size)
	}
	f, err := s.root.Open(id + extData)
	if err != nil {
		return diskError("open file", err)
	}
	_, err = f.ReadAt(buf, offset)
	if errors.Is(err, io.EOF) && len(buf) == 0 {
		err = nil
	}
	return diskError("read file", errors.Join(err, f.Close()))
}

// MarkFetched makes a waiting file a fetched one. It is then kept for KeepFetched, and no
// longer counts for its sender.
func (s *Spool) MarkFetched(id string) error {
	e, err := s.hold(id, Waiting, Fetched)
	if err != nil {
		return err
	}
	defer e.disk.Unlock()
	if e.state == Fetched {
		return nil
	}
	s.step("mark")
	f, err := s.root.OpenFile(id+extGot, os.O_WRONLY|os.O_CREATE, 0o640)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return diskError("mark file", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.since = Fetched, s.opt.Now()
	s.charge(e, -1)
	return nil
}

// Delete removes a file in any state.
func (s *Spool) Delete(id string) error {
	e, err := s.hold(id, Unfinished, Waiting, Fetched)
	if err != nil {
		return err
	}
	defer e.disk.Unlock()
	return s.deleteHeld(e)
}

// deleteHeld removes a file. The caller holds e.disk.
func (s *Spool) deleteHeld(e *entry) error {
	for _, ext := range []string{extMeta, extPart, extData, extGot} {
		s.step("delete " + ext)
		if err := s.root.Remove(e.info.ID + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskError("delete file", err)
		}
	}
	s.mu.Lock()
	e.gone = true
	s.mu.Unlock()
	s.remove(e)
	return nil
}

// Sweep removes the files that have been kept long enough, and returns their number. It
// ends early with ctx. It continues after an error, and returns the first one.
func (s *Spool) Sweep(ctx context.Context) (n int, err error) {
	for _, id := range s.expired() {
		if ctx.Err() != nil {
			return n, err
		}
		removed, failure := s.expire(id)
		if removed {
			n++
		}
		if err == nil {
			err = failure
		}
	}
	return n, err
}

func (s *Spool) expired() []string {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, e := range s.files {
		if s.over(e, now) {
			ids = append(ids, id)
		}
	}
	return ids
}

// over reports whether a file has been kept long enough. The caller holds s.mu.
func (s *Spool) over(e *entry, now time.Time) bool {
	keep := map[State]time.Duration{Unfinished: s.opt.KeepUnfinished, Waiting: s.opt.KeepWaiting,
		Fetched: s.opt.KeepFetched}[e.state]
	return now.Sub(e.since) >= keep
}

// expire removes a file unless its state or age changed in the meantime.
func (s *Spool) expire(id string) (bool, error) {
	e, err := s.hold(id, Unfinished, Waiting, Fetched)
	if err != nil {
		return false, nil // removed in the meantime
	}
	defer e.disk.Unlock()
	s.mu.Lock()
	over := s.over(e, s.opt.Now())
	s.mu.Unlock()
	if !over {
		return false, nil
	}
	err = s.deleteHeld(e)
	return err == nil, err
}

// Ping reports whether the folder is usable and has room.
func (s *Spool) Ping(context.Context) error {
	if _, err := s.root.Stat("."); err != nil {
		return diskError("spool", err)
	}
	return s.room()
}
