package prune

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/im"
)

// FileName is the name of the file of a File, in the folder of an embedded store.
const FileName = "pruned"

// File is the im.PruneTurns of a store that one process uses. It keeps the time of the last run
// in a file, in unix seconds. One goroutine.
type File string

// TakePruning returns a turn: no other process uses the store.
func (f File) TakePruning(context.Context) (im.PruneTurn, error) { return alone{}, nil }

// LastPruned reads the file; see im.PruneTurns. A file that holds no number counts as none, and
// SetPruned replaces it.
func (f File) LastPruned(context.Context) (int64, error) {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, nil
	}
	return at, nil
}

// SetPruned replaces the file. After a crash it may be empty, which costs one more run.
func (f File) SetPruned(_ context.Context, at time.Time) error {
	next := string(f) + ".new"
	if err := os.WriteFile(next, strconv.AppendInt(nil, at.Unix(), 10), 0o600); err != nil {
		return err
	}
	return os.Rename(next, string(f))
}

// alone is the turn of the only process.
type alone struct{}

func (alone) Keep(context.Context) error { return nil }

func (alone) Release(context.Context) error { return nil }
