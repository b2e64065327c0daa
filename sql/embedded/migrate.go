package embedded

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/faults"
	"teamtalk/sql/embedded/folderlock"
)

// applicationID marks the file as a database of this package, also for the file(1)
// command: "TTLK".
const applicationID = 0x54544c4b

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered step of the schema. A released step is never changed.
type migration struct {
	version int // user_version of the database after it; the first has 1, without gaps
	name    string
	script  string
}

// migrations returns the steps in order.
func migrations() ([]migration, error) {
	entries, err := migrationFiles.ReadDir("migrations") // sorted by name
	if err != nil {
		return nil, err
	}
	var steps []migration
	for i, e := range entries {
		m := migration{name: e.Name()}
		if _, err := fmt.Sscanf(m.name, "%04d_", &m.version); err != nil || m.version != i+1 {
			return nil, fmt.Errorf("migration %s: should begin with %04d_", m.name, i+1)
		}
		script, err := migrationFiles.ReadFile(path.Join("migrations", m.name))
		if err != nil {
			return nil, err
		}
		m.script = string(script)
		steps = append(steps, m)
	}
	return steps, nil
}

// migrate brings the schema up to date. With o.Admin it does so only when no server uses
// the directory: a server of another version would not know the new schema.
func (s *database) migrate(ctx context.Context, o Options) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	version, err := s.writer.schemaVersion(ctx)
	if err != nil {
		return faults.Describe(err)
	}
	if version > len(steps) {
		return im.Errorf(im.Unavailable, "the database has schema version %d, this program knows "+
			"%d: use a newer program", version, len(steps))
	}
	if version == len(steps) {
		return nil
	}
	if o.Admin {
		lock, err := lockToMigrate(ctx, s.dir, o.BusyTimeout, func() (bool, error) {
			now, err := s.writer.schemaVersion(ctx)
			return now == len(steps), err
		})
		if err != nil {
			return fmt.Errorf("the schema has version %d, of an older program, and is updated "+
				"to %d while no server uses it: %w", version, len(steps), err)
		}
		if lock == nil {
			return nil
		}
		defer lock.Close()
	}
	began := time.Now()
	for _, m := range steps {
		if err := s.transact(ctx, func(w *writer) error { return w.apply(m) }); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, faults.Describe(err))
		}
	}
	if version > 0 { // otherwise the store is new
		s.log.Info("schema of the embedded store updated; older programs refuse it from now on",
			"dir", s.dir, "from", version, "to", len(steps), "duration", time.Since(began))
	}
	return nil
}

// lookEvery is the pause between two looks at a schema that a server may be updating.
const lookEvery = 20 * time.Millisecond

// lockToMigrate locks a directory whose schema is not current. A server that has the lock may be
// making the schema at this moment, as one that starts on a new store does: the function then waits
// until current says so, and returns no lock. After patience it returns the error of folderlock.
func lockToMigrate(ctx context.Context, dir string, patience time.Duration,
	current func() (bool, error)) (io.Closer, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for began := time.Now(); ; {
		lock, err := folderlock.LockCommand(dir, "stop it, or use the program of its version")
		if err == nil {
			return lock, nil
		}
		if im.KindOf(err) != im.Unavailable || time.Since(began) >= patience {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
		if done, err := current(); done || err != nil {
			return nil, faults.Describe(err)
		}
	}
}

// lockToServe locks a directory for a server. A command that makes the store or updates its schema
// has the lock for a moment, so the function waits for a command, no longer than patience.
func lockToServe(ctx context.Context, dir string, patience time.Duration) (io.Closer, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for began, again := time.Now(), false; ; again = true {
		lock, err := folderlock.Lock(dir, "stop it, or choose another directory (setting data_dir)")
		// A process that has just got the lock has not yet written that it is a command. So only
		// the second look can tell that a server has it.
		server := again && !errors.Is(err, folderlock.ErrCommand)
		if im.KindOf(err) != im.Unavailable || server || time.Since(began) >= patience {
			return lock, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// schemaVersion returns the number of migrations that the database has. As the first read
// of the file, it also checks that the file is a database of this package.
func (w *writer) schemaVersion(ctx context.Context) (int, error) {
	var version, app, objects int
	if err := w.conn.QueryRowContext(ctx, "pragma user_version").Scan(&version); err != nil {
		return 0, err
	}
	if err := w.conn.QueryRowContext(ctx, "pragma application_id").Scan(&app); err != nil {
		return 0, err
	}
	count := "select count(*) from sqlite_schema"
	if err := w.conn.QueryRowContext(ctx, count).Scan(&objects); err != nil {
		return 0, err
	}
	if app != applicationID && (version != 0 || objects != 0) {
		return 0, im.Errorf(im.Invalid, "%s is a database of another program", FileName)
	}
	return version, nil
}

// apply runs m unless the database has it. Another process may have run it meanwhile.
func (w *writer) apply(m migration) error {
	version, err := w.schemaVersion(context.Background())
	if err != nil || version >= m.version {
		return err
	}
	return w.exec(fmt.Sprintf("%s; pragma user_version = %d; pragma application_id = %d", m.script,
		m.version, applicationID))
}
