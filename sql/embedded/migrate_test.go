package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/sql/embedded/folderlock"
)

// TestAdminAtFirstStart requires that a command waits for a server that makes the schema at this
// moment.
func TestAdminAtFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Options{Dir: dir})
	looks := 0
	lock, err := lockToMigrate(t.Context(), dir, time.Hour, func() (bool, error) {
		looks++
		return looks == 3, nil
	})
	if lock != nil || err != nil || looks != 3 {
		t.Errorf("beside the server: lock %v, error %v after %d looks", lock, err, looks)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = lockToMigrate(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatalf("without a server: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

// waits is a context that tells when somebody waits for its end.
type waits struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

func (w *waits) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}

// TestServerBesideFirstCommand requires that a server waits for a command that makes the store at
// this moment, and that it does not wait for another server.
func TestServerBesideFirstCommand(t *testing.T) {
	o := Options{Dir: t.TempDir(), BusyTimeout: time.Nanosecond}
	lock, err := folderlock.LockCommand(o.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), o)
	if !errors.Is(err, folderlock.ErrCommand) || !strings.Contains(err.Error(), "(process ") ||
		strings.Contains(err.Error(), "server") {
		t.Errorf("beside a command without patience: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	o.BusyTimeout = time.Hour
	if _, err := Open(ended, o); !errors.Is(err, folderlock.ErrCommand) {
		t.Errorf("stopped beside a command: %v", err)
	}
	ctx := &waits{Context: t.Context(), begun: make(chan struct{})}
	go func() {
		<-ctx.begun
		if err := lock.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := Open(ctx, o)
	if err != nil {
		t.Fatalf("after the command: %v", err)
	}
	defer s.Close()
	_, err = Open(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "in use by another server (process ") {
		t.Errorf("beside a server: %v", err)
	}
}
