package open

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"

	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/handlers/msfs"
)

// SoundPlaces are the places where the files of sounds may be, as far as this machine has them:
// the folder or bucket of small files, and the folder of a db_proxy without one.
type SoundPlaces struct {
	Deleted, Left int // files that Delete has deleted, and those that are in no place

	small, own place // nil: not here
	borrowed   bool  // small is not closed
}

// place is a place of files.
type place interface {
	Open(ctx context.Context, name string) (*blob.Blob, error)
	Delete(ctx context.Context, name string) error
}

// SoundFiles opens the places for a command beside the servers. The caller must call Close.
func SoundFiles(cfg *config.Config) (*SoundPlaces, error) {
	s := &SoundPlaces{}
	if cfg.MSFS.S3Endpoint != "" {
		bucket, err := S3(&cfg.MSFS)
		if err != nil {
			return nil, err
		}
		s.small = bucket
	} else {
		folder, err := view(Folder(cfg, cfg.MSFS.Dir, "msfs"))
		if err != nil {
			return nil, err
		}
		s.small = folder
	}
	own, err := view(filepath.Join(cfg.DataDir, "audio"))
	if err != nil {
		s.Close()
		return nil, err
	}
	s.own = own
	return s, nil
}

// Use replaces the folder of small files by that of a small file server in this process, whose
// quota then counts what is deleted. It stays open after Close.
func (s *SoundPlaces) Use(folder *blob.Folder) {
	if c, ok := s.small.(io.Closer); ok {
		_ = c.Close()
	}
	s.small, s.borrowed = folder, true
}

// view opens a folder; nil when it does not exist.
func view(dir string) (place, error) {
	folder, err := blob.ViewFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return folder.(*blob.Folder), nil
}

// at returns the place and the name of a sound by Audio.Path; nil when the place is not here.
func (s *SoundPlaces) at(path string) (place, string) {
	if name := msfs.FileInURL(path); name != "" {
		return s.small, name
	}
	if blob.Check(path) == nil {
		return s.own, path
	}
	return nil, ""
}

// Delete deletes the files of sounds by their Audio.Path. A file that does not exist, or whose
// place is not here, counts as Left and is no error.
func (s *SoundPlaces) Delete(ctx context.Context, paths []string) error {
	for _, path := range paths {
		b, err := s.Open(ctx, path)
		if im.KindOf(err) == im.NotFound && err != nil {
			s.Left++
			continue
		}
		if err != nil {
			return err
		}
		_ = b.Close()
		p, name := s.at(path)
		if err := p.Delete(ctx, name); err != nil {
			return err
		}
		s.Deleted++
	}
	return nil
}

// Found returns how many files Delete has deleted, and how many it did not find here.
func (s *SoundPlaces) Found() (deleted, left int) { return s.Deleted, s.Left }

// Open opens the file of a sound by Audio.Path: NotFound also when its place is not here. The
// caller must close it.
func (s *SoundPlaces) Open(ctx context.Context, path string) (*blob.Blob, error) {
	p, name := s.at(path)
	if p == nil {
		return nil, im.Errorf(im.NotFound, "the place of the file is not on this machine")
	}
	return p.Open(ctx, name)
}

// Close closes the folders.
func (s *SoundPlaces) Close() {
	if s.borrowed {
		s.small = nil
	}
	for _, p := range []place{s.small, s.own} {
		if c, ok := p.(io.Closer); ok {
			_ = c.Close()
		}
	}
}
