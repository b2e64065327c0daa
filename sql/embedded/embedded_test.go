package embedded

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/storetest"
)

// clock is a clock that a test sets.
type clock struct{ seconds atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.seconds.Store(1_750_000_000)
	return c
}

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

func (c *clock) advance(d time.Duration) { c.seconds.Add(int64(d / time.Second)) }

// open opens a store that the caller closes.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	c := newClock()
	storetest.Run(t, storetest.Factory{
		Open: func(t *testing.T) im.Store {
			return open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Now: c.now})
		},
		Reopen: func(t *testing.T, s im.Store) im.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, Options{Dir: s.(*Store).dir, Now: c.now})
		},
		Now:     c.now,
		Advance: func(_ *testing.T, _ im.Store, d time.Duration) { c.advance(d) },
		Second: func(t *testing.T, s im.Store) im.Store {
			return open(t, Options{Dir: s.(*Store).dir, Now: c.now, Admin: true,
				BusyTimeout: time.Minute})
		},
		AddFiles: func(t *testing.T, s im.Store, files []im.OfflineFile) {
			addFiles(t, s.(*Store), files)
		},
		FailOn: func(t *testing.T, s im.Store, content string) { refuse(t, s.(*Store), content) },
	})
}

// settle writes all waiting messages into the tables by conversation.
func settle(t testing.TB, s *Store) {
	t.Helper()
	if err := s.settled(context.Background(), arrivals.All); err != nil {
		t.Fatal(err)
	}
}

// addFiles adds files as AddOfflineFile does, but in one transaction.
func addFiles(t *testing.T, s *Store, files []im.OfflineFile) {
	t.Helper()
	err := s.transact(context.Background(), func(w *writer) error {
		for i := range files {
			if refused, err := w.addFile(&files[i], s.time().Unix()); err != nil || refused != nil {
				return cmp.Or(err, refused)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refuse makes the database reject batches with a message of that content.
func refuse(t *testing.T, s *Store, content string) {
	t.Helper()
	err := s.transact(context.Background(), func(w *writer) error {
		return w.exec(fmt.Sprintf(`create trigger refuse before insert on Arrived
			when instr(new.list, cast('%s' as blob)) > 0
			begin select raise(abort, 'refused by the test'); end`, content))
	})
	if err != nil {
		t.Fatal(err)
	}
}
