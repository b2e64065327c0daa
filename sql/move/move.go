// Package move copies everything that one kind of store holds into the other kind: from the
// embedded store into MySQL and Redis, and back. The servers are stopped meanwhile. The target is
// a new store. It is compared with the source, row by row and as users see it, before it counts as
// a store.
//
// Rows go from one side to the other in a common form (subjects.go), a page at a time, so that the
// memory does not depend on the size of the store. Of the source the number of rows and a sum over
// them are taken on the way. Then the target is read, and must give the same.
//
// A move that was killed is run again, from the start. Until a move into MySQL is complete, a row
// in IMLease marks the database, so that no server opens it, and the next move empties it first. A
// move into an embedded store fills a folder with a hidden name.
package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"teamtalk/core/cert"
	"teamtalk/core/im"
	"teamtalk/sql/embedded"
	"teamtalk/sql/embedded/folderlock"
	"teamtalk/sql/store"
)

// MySQL names a MySQL database and its Redis instances, as store.Options does.
type MySQL struct {
	DSN   string
	TLS   *cert.Client
	Redis store.Redis
}

// Options are the options of a move. The zero value reports nothing.
type Options struct {
	// Progress is called when a subject begins, and now and then with the number of its rows
	// that were written or compared.
	Progress func(what string, rows int64)
	Log      *slog.Logger // of the stores; nil: no logs
	// LeaveApart lets ToMySQL leave messages that the source keeps apart. Without it they are an
	// error.
	LeaveApart bool
}

// Report describes a move.
type Report struct {
	Counts []Count
	Notes  []string // rows that the target has no place for, as sentences
}

// Count is the number of rows of a subject.
type Count struct {
	What string
	Rows int64
}

// side is one of the two stores.
type side interface {
	// read calls emit for each row of a subject. The row is the caller's.
	read(ctx context.Context, what string, emit func(row) error) error
	// write stores rows of a subject.
	write(ctx context.Context, what string, rows []row) error
	// view is the open store, to compare what users see.
	view() im.Store
}

// ToMySQL moves the embedded store in dir into a MySQL database and Redis instances without data of
// users. It makes the tables. The error has kind Exists when the target has data, Invalid when two
// users of the source have one name there or when the source keeps messages apart (see
// Options.LeaveApart), and Unavailable while a server uses the source.
func ToMySQL(ctx context.Context, dir string, to MySQL, o Options) (r Report, err error) {
	if _, err := os.Stat(filepath.Join(dir, embedded.FileName)); err != nil {
		return r, im.WithKind(im.NotFound, "no store to move", err)
	}
	from, err := openEmbedded(ctx, dir, o.Log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	notes, err := from.apart(ctx, o.LeaveApart)
	if err != nil {
		return r, err
	}
	others, err := from.note(ctx)
	if err != nil {
		return r, err
	}
	notes = append(notes, others...)
	target, err := openTarget(ctx, to, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	if err := uniqueNames(ctx, from.view(), target.view().NameKeys); err != nil {
		return r, err
	}
	if err := target.clear(ctx); err != nil {
		return r, err
	}
	m := &move{Options: o, from: from, to: target}
	if err := m.copy(ctx, append(subjects[:len(subjects):len(subjects)], marks)); err != nil {
		return r, err
	}
	if err := target.finish(ctx); err != nil {
		return r, err
	}
	if err := m.compare(ctx); err != nil {
		return r, err
	}
	return m.report(append(notes, target.notes...)), target.complete(ctx)
}

// movingEnd ends the hidden name of the folder of a store that is not complete.
const movingEnd = ".moving"

// ToEmbedded moves a MySQL database with its Redis instances into a new embedded store in dir,
// which must not exist or be empty. The database must be finalized. The error has kind Exists when
// dir has content, Invalid when two users have one name there, and Denied while other programs use
// the database.
func ToEmbedded(ctx context.Context, from MySQL, dir string, o Options) (r Report, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return r, err
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return r, im.Errorf(im.Exists, "%s is not empty: name a new folder", dir)
	}
	source, err := openSource(ctx, from, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	keys := func(_ context.Context, names []string) ([]string, error) {
		list := make([]string, len(names))
		for i, name := range names {
			list[i] = embedded.NameKey(name)
		}
		return list, nil
	}
	if err := uniqueNames(ctx, source.view(), keys); err != nil {
		return r, err
	}
	hidden := folderlock.Hidden(dir, movingEnd)
	lock, err := folderlock.Claim(hidden)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	target, err := openEmbedded(ctx, hidden, o.Log)
	if err != nil {
		return r, err
	}
	m := &move{Options: o, from: source, to: target}
	if err = m.copy(ctx, subjects); err == nil {
		err = m.compare(ctx)
	}
	if err = errors.Join(err, target.close()); err != nil {
		return r, err
	}
	_ = os.Remove(dir) // it may be an empty folder; otherwise Publish fails
	return m.report(source.notes), folderlock.Publish(hidden, dir)
}

// move is a move in progress.
type move struct {
	Options
	from, to side
	sums     map[string]sum
	pairs    []Count
}

// A page is written at once: at most pageRows rows, and pageBytes of texts.
const (
	pageRows  = 1000
	pageBytes = 1 << 20
)

func (m *move) tell(what string, rows int64) {
	if m.Progress != nil {
		m.Progress(what, rows)
	}
}

// copy copies the rows of the subjects, in their order.
func (m *move) copy(ctx context.Context, list []subject) error {
	m.sums = map[string]sum{}
	for _, s := range list {
		if err := m.copyOne(ctx, s); err != nil {
			return fmt.Errorf("move %s: %w", s.what, err)
		}
	}
	return nil
}

// copyOne copies the rows of a subject.
func (m *move) copyOne(ctx context.Context, s subject) error {
	var total sum
	var page []row
	size := 0
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		err := m.to.write(ctx, s.what, page)
		page, size = page[:0], 0
		m.tell(s.what, total.Rows)
		return err
	}
	m.tell(s.what, 0)
	err := m.from.read(ctx, s.what, func(r row) error {
		total.add(r)
		page = append(page, r)
		size += r.size()
		if len(page) < pageRows && size < pageBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	m.sums[s.what] = total
	m.pairs = append(m.pairs, Count{s.what, total.Rows})
	return err
}

// compare reads the target, and compares it with what was read from the source. Then it compares
// what users see.
func (m *move) compare(ctx context.Context) error {
	for _, p := range m.pairs {
		if slices.ContainsFunc(subjects, func(s subject) bool {
			return s.what == p.What && s.brief
		}) {
			continue
		}
		var total sum
		m.tell("compare "+p.What, 0)
		err := m.to.read(ctx, p.What, func(r row) error {
			if total.add(r); total.Rows%(100*pageRows) == 0 {
				m.tell("compare "+p.What, total.Rows)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("compare %s: %w", p.What, err)
		}
		if err := same(p.What, m.sums[p.What], total); err != nil {
			return err
		}
	}
	return m.compareViews(ctx)
}

// same returns an error if the rows of a subject differ.
func same(what string, from, to sum) error {
	if from == to {
		return nil
	}
	return im.Errorf(im.Internal, "%s differ after the move: %d rows in the source, %d in the "+
		"target, with sums %x and %x", what, from.Rows, to.Rows, from.Sum, to.Sum)
}

func (m *move) report(notes []string) Report { return Report{m.pairs, notes} }

// usersPage is the number of users that are read at once.
const usersPage = 500

// eachUser calls do with pages of users.
func eachUser(ctx context.Context, s im.Store, do func([]im.User) error) error {
	for after := uint32(0); ; {
		page, err := s.ListUsers(ctx, after, usersPage)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].ID
		if err := do(page); err != nil {
			return err
		}
	}
}

// maxClashes bounds the names in the error of uniqueNames.
const maxClashes = 100

// uniqueNames returns an error with the names that would be one name in the target, whose key of
// each name keys returns.
func uniqueNames(ctx context.Context, s im.Store,
	keys func(context.Context, []string) ([]string, error)) error {
	type holder struct {
		id   uint32
		name string
	}
	seen := map[string]holder{}
	var clashes []error
	err := eachUser(ctx, s, func(page []im.User) error {
		names := make([]string, len(page))
		for i, u := range page {
			names[i] = u.Name
		}
		folded, err := keys(ctx, names)
		if err != nil {
			return err
		}
		for i, u := range page {
			if first, ok := seen[folded[i]]; !ok {
				seen[folded[i]] = holder{u.ID, u.Name}
			} else if len(clashes) < maxClashes {
				clashes = append(clashes, im.Errorf(im.Invalid, "the users %d (%q) and %d (%q) "+
					"have one name in the target: rename or delete one", first.id, first.name,
					u.ID, u.Name))
			}
		}
		return nil
	})
	return errors.Join(err, errors.Join(clashes...))
}
