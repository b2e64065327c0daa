package embedded

import (
	"context"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/arrivals"
	"teamtalk/sql/embedded/spools"
)

// files is the part that stores the list of files that wait for their receivers.
type files struct {
	*database
	*spools.Spools
}

// AddOfflineFile adds a file to its receiver's list; see im.FileStore.
func (s *files) AddOfflineFile(ctx context.Context, f im.OfflineFile) error {
	if err := im.CheckOfflineFile(f); err != nil {
		return err
	}
	return s.call("add offline file", func() error {
		var refused error
		err := s.run(ctx, transaction{}, func(w *writer) (err error) {
			refused, err = w.addFile(&f, s.time().Unix())
			return err
		})
		if err == nil {
			err = refused
		}
		return err
	})
}

// addFile adds a file. A rejected file is returned in refused and not as an error: an
// error would roll back the transaction, which empties the caches of the writer.
func (w *writer) addFile(f *im.OfflineFile, now int64) (refused, err error) {
	there, waiting := false, 0
	err = w.one("select exists (select 1 from IMTransmitFile "+
		"where toId = ? and fromId = ? and taskId = ?)", &there, f.To, f.From, f.Task)
	if err != nil || there {
		return nil, err
	}
	want := 2
	if f.From == f.To {
		want = 1
	}
	if users, err := w.present([]uint32{f.From, f.To}); err != nil {
		return nil, err
	} else if len(users) != want {
		return im.Errorf(im.Invalid, "file from user %d to user %d: one of them does not exist",
			f.From, f.To), nil
	}
	err = w.one("select count(*) from IMTransmitFile where toId = ? and fromId = ? and status = 0",
		&waiting, f.To, f.From)
	if err != nil {
		return nil, err
	}
	if waiting >= im.MaxFilesBetween {
		return im.Errorf(im.Denied, "%d files from user %d wait for user %d already", waiting,
			f.From, f.To), nil
	}
	return nil, w.exec(`insert into IMTransmitFile (fromId, toId, taskId, fileName, size, status,
		created, updated) values (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)`,
		f.From, f.To, f.Task, f.Name, f.Size, now)
}

// OfflineFiles returns the files that wait for a user; see im.FileStore.
func (s *files) OfflineFiles(ctx context.Context, to uint32) ([]im.OfflineFile, error) {
	var list []im.OfflineFile
	err := s.rows(ctx, "offline files", arrivals.None, s.read.offlineFiles,
		func(row scanner) error {
			var f im.OfflineFile
			err := row.Scan(&f.From, &f.To, &f.Task, &f.Name, &f.Size, &f.Created)
			list = append(list, f)
			return err
		}, to, im.MaxOfflineFiles)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// DeleteOfflineFile removes a file from its receiver's list; see im.FileStore.
func (s *files) DeleteOfflineFile(ctx context.Context, from, to uint32, task string) error {
	return s.call("delete offline file", func() error {
		return s.run(ctx, transaction{}, func(w *writer) error {
			return w.exec("update IMTransmitFile set status = 1, updated = ? "+
				"where toId = ? and fromId = ? and taskId = ? and status = 0",
				s.time().Unix(), to, from, task)
		})
	})
}

// expireAtOnce is the number of rows that a transaction deletes. Other changes wait
// meanwhile.
const expireAtOnce = 1000

// ExpireOfflineFiles deletes old files; see im.FileStore.
func (s *files) ExpireOfflineFiles(ctx context.Context, before uint32) (n int, err error) {
	err = s.call("expire offline files", func() error {
		for {
			gone := 0
			err := s.run(ctx, transaction{}, func(w *writer) error {
				err := w.exec("delete from IMTransmitFile where id in "+
					"(select id from IMTransmitFile where created < ? limit ?)",
					before, expireAtOnce)
				if err != nil {
					return err
				}
				return w.one("select changes()", &gone)
			})
			if err != nil {
				return err
			}
			if n += gone; gone < expireAtOnce {
				return nil
			}
		}
	})
	return n, err
}

// OfflineFilePage returns a page of the list of all users; see im.FileStore.
func (s *files) OfflineFilePage(ctx context.Context, after uint32) (files []im.OfflineFile,
	last uint32, err error) {
	read := 0
	err = s.rows(ctx, "page of offline files", arrivals.None, s.read.offlineFilePage,
		func(row scanner) error {
			var f im.OfflineFile
			var status int
			err := row.Scan(&last, &status, &f.From, &f.To, &f.Task, &f.Name, &f.Size, &f.Created)
			if read++; status == 0 {
				files = append(files, f)
			}
			return err
		}, after, im.OfflineFilePage)
	if err != nil {
		return nil, 0, err
	}
	if read < im.OfflineFilePage {
		last = 0
	}
	return files, last, nil
}

// OfflineFileState returns the state of a file on its receiver's list; see im.FileStore.
func (s *files) OfflineFileState(ctx context.Context, from, to uint32,
	task string) (im.OfflineFileState, error) {
	state := im.FileUnlisted
	err := s.rows(ctx, "state of offline file", arrivals.None, s.read.offlineFileState,
		func(row scanner) error {
			var status int
			if err := row.Scan(&status); err != nil {
				return err
			}
			if state = im.FileTaken; status == 0 {
				state = im.FileListed
			}
			return nil
		}, to, from, task)
	return state, err
}

// ForgetOfflineFile removes a waiting file without a trace; see im.FileStore.
func (s *files) ForgetOfflineFile(ctx context.Context, o im.SpoolOwner, from, to uint32,
	task string) (gone bool, err error) {
	err = spools.While(s.Spools, o, func() error {
		return s.call("forget offline file", func() error {
			return s.run(ctx, transaction{}, func(w *writer) error {
				err := w.exec("delete from IMTransmitFile "+
					"where toId = ? and fromId = ? and taskId = ? and status = 0", to, from, task)
				if err == nil {
					err = w.one("select changes() > 0", &gone)
				}
				return err
			})
		})
	})
	return gone && err == nil, err
}
