package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// found holds the parts of one file that the folder has.
type found map[string]fs.FileInfo // by extension

// scan enters the folder's files and repairs what a crash left.
func (s *Spool) scan() error {
	all, err := s.list()
	if err != nil {
		return err
	}
	for id, parts := range all {
		if err := s.learn(id, parts); err != nil {
			return fmt.Errorf("file %s: %w", id, err)
		}
	}
	return nil
}

// list groups the folder's files by id. It ignores names that this package does not make.
func (s *Spool) list() (map[string]found, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all := map[string]found{}
	for {
		entries, err := d.ReadDir(1024)
		for _, de := range entries {
			id, ext, ok := strings.Cut(de.Name(), ".")
			if !ok || !validID(id) || !de.Type().IsRegular() {
				continue
			}
			info, err := de.Info()
			if err != nil {
				return nil, err
			}
			if all[id] == nil {
				all[id] = found{}
			}
			all[id]["."+ext] = info
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// learn enters one file.
func (s *Spool) learn(id string, parts found) error {
	if parts[extBad] != nil {
		return s.old(id, parts)
	}
	if parts[extMeta] == nil { // left by a Create or a Delete that was interrupted
		return s.discard(id, parts, extTemp, extPart, extData, extGot)
	}
	if err := s.discard(id, parts, extTemp); err != nil {
		return err
	}
	info, err := s.readMeta(id)
	if err != nil {
		return s.setAside(id, err)
	}
	e := &entry{info: info, since: s.since(parts[extMeta])}
	part, data, got := parts[extPart], parts[extData], parts[extGot]
	switch {
	case data != nil && data.Size() != int64(info.Size):
		return s.setAside(id, fmt.Errorf("data has %d bytes instead of %d", data.Size(), info.Size))
	case data != nil && got != nil:
		e.state, e.since = Fetched, s.since(got)
	case data != nil:
		e.state, e.since = Waiting, s.since(data)
	case part != nil && part.Size() > int64(info.Size):
		return s.setAside(id, fmt.Errorf("part has %d bytes of %d", part.Size(), info.Size))
	case part != nil:
		e.written, e.since = part.Size(), s.since(part)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(e)
	return nil
}

// since returns the time at which a file was written, as a time of this process: when the
// clock is set forward later, the file is not old at once. A time in the future, from a
// clock that was ahead, counts as now. At a start the clock must be right, because the
// ages of files are nowhere else.
func (s *Spool) since(file fs.FileInfo) time.Time {
	now := s.opt.Now()
	return now.Add(-max(now.Sub(file.ModTime()), 0))
}

func (s *Spool) readMeta(id string) (Info, error) {
	f, err := s.root.Open(id + extMeta)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err != nil {
		return Info{}, err
	}
	info, err := parseMeta(b)
	if err == nil && info.ID != id {
		err = errors.New("its id is that of another file")
	}
	return info, err
}

// setAside renames the meta file of a damaged file to ID.bad, so that the file is not
// used and an operator can look at it.
func (s *Spool) setAside(id string, why error) error {
	s.opt.Log.Error("file in the spool set aside", "task", id, "err", why)
	return s.root.Rename(id+extMeta, id+extBad)
}

// old removes a damaged file when it has been kept for as long as a waiting one.
func (s *Spool) old(id string, parts found) error {
	if s.opt.Now().Sub(parts[extBad].ModTime()) < s.opt.KeepWaiting {
		return nil
	}
	return s.discard(id, parts, extMeta, extTemp, extPart, extData, extGot, extBad)
}

func (s *Spool) discard(id string, parts found, exts ...string) error {
	for _, ext := range exts {
		if parts[ext] == nil {
			continue
		}
		if err := s.root.Remove(id + ext); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.opt.Log.Info("left behind in the spool, removed", "task", id, "part", ext, "age",
			s.opt.Now().Sub(parts[ext].ModTime()).Round(time.Second))
	}
	return nil
}
