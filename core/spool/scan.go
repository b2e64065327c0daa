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

// found is what lies in the folder under one id.
type found map[string]fs.FileInfo // by extension

// scan learns what is in the folder, and puts it right.
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

// list groups what lies in the folder. What this package does not name it leaves alone.
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
	if parts[extMeta] == nil { // being made, or being deleted
		return s.discard(id, parts, extTemp, extPart, extData, extGot)
	}
	if err := s.discard(id, parts, extTemp); err != nil {
		return err
	}
	info, err := s.readMeta(id)
	if err != nil {
		return s.setAside(id, err)
	}
	e := &entry{info: info, since: parts[extMeta].ModTime()}
	part, data, got := parts[extPart], parts[extData], parts[extGot]
	switch {
	case data != nil && data.Size() != int64(info.Size):
		return s.setAside(id, fmt.Errorf("data has %d bytes instead of %d", data.Size(), info.Size))
	case data != nil && got != nil:
		e.state, e.since = Fetched, got.ModTime()
	case data != nil:
		e.state, e.since = Waiting, data.ModTime()
	case part != nil && part.Size() > int64(info.Size):
		return s.setAside(id, fmt.Errorf("part has %d bytes of %d", part.Size(), info.Size))
	case part != nil:
		e.written, e.since = part.Size(), part.ModTime()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(e)
	return nil
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
		err = errors.New("it belongs to another file")
	}
	return info, err
}

// setAside keeps a file that is not in order from being used, for somebody to look at.
func (s *Spool) setAside(id string, why error) error {
	s.opt.Log.Error("file in the spool set aside", "task", id, "err", why)
	return s.root.Rename(id+extMeta, id+extBad)
}

// old removes a file that was set aside for as long as one may wait.
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
