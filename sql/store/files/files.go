// Package files keeps the list of files that wait for their receivers.
package files

import (
	"context"
	"database/sql"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// Files is the part that stores the list of files that wait for their receivers.
type Files struct{ db *database.DB }

// New makes the part.
func New(db *database.DB) *Files { return &Files{db: db} }

// AddOfflineFile adds a file to its receiver's list; see im.FileStore.
func (s *Files) AddOfflineFile(ctx context.Context, f im.OfflineFile) error {
	if err := im.CheckOfflineFile(f); err != nil {
		return err
	}
	err := s.db.Retry(ctx, func() error {
		tx, err := s.db.Master.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err = database.Claim(ctx, tx, fmt.Sprintf("files.%d", f.To%fileLocks)); err == nil {
			err = s.addFile(ctx, tx, &f)
		}
		if err != nil {
			tx.Rollback() // if it fails, the connection is lost and the transaction with it
			return err
		}
		// If its outcome is in doubt, the next try finds the row, or keeps this transaction
		// from ever being committed: both write the lock.
		return tx.Commit()
	})
	if err != nil {
		return s.db.SQLError("add offline file", err)
	}
	return nil
}

// fileLocks is the number of locks under which files are added. Receivers share them.
const fileLocks = 16

// addFile reads the users first and keeps their rows locked. Later reads of the
// transaction then see the current state, and no other process adds a file for these
// users meanwhile: on one server because of the rows, on another node of a cluster because
// of the lock that the transaction has claimed. Only this makes a task one row: the table
// of C++ servers has no unique key.
func (s *Files) addFile(ctx context.Context, tx *sql.Tx, f *im.OfflineFile) error {
	want := 2
	if f.From == f.To {
		want = 1
	}
	users, err := database.CountRows(ctx, tx, fmt.Sprintf("SELECT id FROM IMUser "+
		"WHERE id IN (%d,%d) AND COALESCE(status, 0)<>%d ORDER BY id FOR UPDATE", f.From, f.To,
		im.StatusDeparted))
	if err != nil {
		return err
	}
	if users != want {
		return im.Errorf(im.Invalid, "file from user %d to user %d: one of them does not exist",
			f.From, f.To)
	}
	there, err := database.CountRows(ctx, tx,
		"SELECT id FROM IMTransmitFile WHERE taskId=? AND fromId=? "+
			"AND toId=? LIMIT 1", f.Task, f.From, f.To)
	if err != nil || there > 0 {
		return err
	}
	waiting, err := database.CountRows(ctx, tx, fmt.Sprintf("SELECT id FROM IMTransmitFile "+
		"WHERE toId=%d AND status=0 AND fromId=%d LIMIT %d", f.To, f.From, im.MaxFilesBetween))
	if err != nil {
		return err
	}
	if waiting >= im.MaxFilesBetween {
		return im.Errorf(im.Denied, "%d files from user %d wait for user %d already",
			waiting, f.From, f.To)
	}
	now := s.db.Time().Unix()
	_, err = tx.ExecContext(ctx, "INSERT INTO IMTransmitFile "+
		"(fromId,toId,fileName,size,taskId,status,created,updated) VALUES (?,?,?,?,?,0,?,?)",
		f.From, f.To, f.Name, f.Size, f.Task, now, now)
	return err
}

// OfflineFiles returns the files that wait for a user; see im.FileStore.
func (s *Files) OfflineFiles(ctx context.Context, to uint32) ([]im.OfflineFile, error) {
	var list []im.OfflineFile
	err := s.db.Read(ctx, func(db database.Querier) (err error) {
		list, err = filesWhere(ctx, db, fmt.Sprintf("toId=%d AND status=0 ORDER BY id LIMIT %d",
			to, im.MaxOfflineFiles))
		return err
	})
	return list, s.db.SQLError("read offline files", err)
}

// filesWhere returns the files that a condition selects.
func filesWhere(ctx context.Context, db database.Querier, where string) ([]im.OfflineFile, error) {
	rows, err := db.QueryContext(ctx, "SELECT fromId, toId, taskId, fileName, size, created "+
		"FROM IMTransmitFile WHERE "+where)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []im.OfflineFile
	for rows.Next() {
		var f im.OfflineFile
		if err := rows.Scan(&f.From, &f.To, &f.Task, &f.Name, &f.Size, &f.Created); err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return list, nil
}

// DeleteOfflineFile removes a file from its receiver's list; see im.FileStore.
func (s *Files) DeleteOfflineFile(ctx context.Context, from, to uint32, task string) error {
	if !im.ValidTaskID(task) {
		// no such file exists, and the id may not even be text
		return s.db.SQLError("delete offline file", ctx.Err())
	}
	err := s.db.Retry(ctx, func() error {
		_, err := s.db.Master.ExecContext(ctx, "UPDATE IMTransmitFile SET status=1, updated=? "+
			"WHERE taskId=? AND fromId=? AND toId=? AND status=0",
			s.db.Time().Unix(), task, from, to)
		return err
	})
	if err != nil {
		return s.db.SQLError("delete offline file", err)
	}
	return nil
}

// expireAtOnce is the number of rows that a statement reads and deletes.
const expireAtOnce = 1000

// ExpireOfflineFiles deletes old files; see im.FileStore. No index helps, so it reads the
// table once, in pieces, and locks nothing while it reads.
func (s *Files) ExpireOfflineFiles(ctx context.Context, before uint32) (n int, err error) {
	for after := uint32(0); ; {
		var old []uint32
		last, read := after, 0
		err := s.db.Retry(ctx, func() (err error) {
			old, last, read, err = oldFiles(ctx, s.db.Master, after, before)
			return err
		})
		if err == nil && len(old) > 0 {
			err = s.db.Retry(ctx, func() error {
				res, err := s.db.Master.ExecContext(ctx, "DELETE FROM IMTransmitFile "+
					"WHERE id IN ("+database.Join(old)+")")
				if err != nil {
					return err
				}
				gone, err := res.RowsAffected()
				n += int(gone)
				return err
			})
		}
		if err != nil {
			return n, s.db.SQLError("expire offline files", err)
		}
		if after = last; read < expireAtOnce {
			return n, nil
		}
	}
}

// oldFiles reads a piece of the table. It returns the rows created before a time, the id
// of the last row, and the number of rows.
func oldFiles(ctx context.Context, db database.Querier, after, before uint32) (old []uint32,
	last uint32, read int, err error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT id, created FROM IMTransmitFile "+
		"WHERE id>%d ORDER BY id LIMIT %d", after, expireAtOnce))
	if err != nil {
		return nil, 0, 0, err
	}
	defer rows.Close()
	for last = after; rows.Next(); read++ {
		var created uint32
		if err := rows.Scan(&last, &created); err != nil {
			return nil, 0, 0, err
		}
		if created < before {
			old = append(old, last)
		}
	}
	return old, last, read, rows.Err()
}

// OfflineFilePage returns a page of the list of all users; see im.FileStore.
func (s *Files) OfflineFilePage(ctx context.Context, after uint32) (files []im.OfflineFile,
	last uint32, err error) {
	err = s.db.Read(ctx, func(db database.Querier) (err error) {
		files, last, err = filePage(ctx, db, after)
		return err
	})
	return files, last, s.db.SQLError("read a page of offline files", err)
}

func filePage(ctx context.Context, db database.Querier, after uint32) (files []im.OfflineFile,
	last uint32, err error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT id, status, fromId, toId, taskId, "+
		"fileName, size, created FROM IMTransmitFile WHERE id>%d ORDER BY id LIMIT %d",
		after, im.OfflineFilePage))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	read := 0
	for ; rows.Next(); read++ {
		var f im.OfflineFile
		var status int
		if err := rows.Scan(&last, &status, &f.From, &f.To, &f.Task, &f.Name, &f.Size,
			&f.Created); err != nil {
			return nil, 0, err
		}
		if status == 0 {
			files = append(files, f)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, 0, err
	}
	if read < im.OfflineFilePage {
		last = 0
	}
	return files, last, nil
}

// OfflineFileState returns the state of a file on its receiver's list; see im.FileStore.
// C++ servers may have added a file more than once.
func (s *Files) OfflineFileState(ctx context.Context, from, to uint32,
	task string) (im.OfflineFileState, error) {
	if !im.ValidTaskID(task) {
		return im.FileUnlisted, s.db.SQLError("read state of offline file", ctx.Err())
	}
	var rows, waiting int
	err := s.db.Retry(ctx, func() error {
		return s.db.Master.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(status=0), 0) "+
			"FROM IMTransmitFile WHERE taskId=? AND fromId=? AND toId=?", task, from, to).
			Scan(&rows, &waiting)
	})
	switch {
	case err != nil:
		return im.FileUnlisted, s.db.SQLError("read state of offline file", err)
	case waiting > 0:
		return im.FileListed, nil
	case rows > 0:
		return im.FileTaken, nil
	}
	return im.FileUnlisted, nil
}
