// Package retention finds and deletes old messages; see im.Pruner. It works on finalized tables
// alone, where each pair of users has one conversation and each id one message.
package retention

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"teamtalk/core/im"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/database"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/unread"
)

// Retention is the part that deletes old messages.
type Retention struct {
	db      *database.DB
	rebuild *unread.Rebuild
}

// New makes the part.
func New(db *database.DB, rebuild *unread.Rebuild) *Retention {
	return &Retention{db: db, rebuild: rebuild}
}

// page is the number of conversations or groups that OldThreads looks at.
const page = 200

// thread returns the place of the messages of t.
func thread(t im.OldThread) conversation.Thread {
	return conversation.Thread{Group: t.Group, ID: t.ID}
}

// OldThreads returns conversations or groups with old messages; see im.Pruner.
func (s *Retention) OldThreads(ctx context.Context, group bool, after, before uint32) (
	list []im.OldThread, last uint32, err error) {
	if !s.db.Finalized {
		return nil, 0, im.Errorf(im.Invalid, "servers of the first implementation may use these "+
			"tables, and an id may have two messages: run teamtalk migrate finalize first")
	}
	if list, last, err = s.threads(ctx, group, after); err != nil {
		return nil, 0, s.db.SQLError("look for old messages", err)
	}
	found := list[:0]
	err = database.InChunks(list, 100, func(part []im.OldThread) error {
		if err := s.findOld(ctx, part, before); err != nil {
			return err
		}
		for _, t := range part {
			if t.Upto > 0 {
				found = append(found, t)
			}
		}
		return nil
	})
	return found, last, s.db.SQLError("look for old messages", err)
}

// threads returns the next conversations or groups.
func (s *Retention) threads(ctx context.Context, group bool, after uint32) (
	list []im.OldThread, last uint32, err error) {
	table, users := "IMRelationShip", "smallId, bigId"
	if group {
		table, users = "IMGroup", "0, 0"
	}
	rows, err := s.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT id, %s FROM %s WHERE id>%d "+
		"ORDER BY id LIMIT %d", users, table, after, page))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		t := im.OldThread{Group: group}
		if err := rows.Scan(&t.ID, &t.Users[0], &t.Users[1]); err != nil {
			return nil, 0, err
		}
		list, last = append(list, t), t.ID
	}
	if len(list) < page {
		last = 0
	}
	return list, last, rows.Err()
}

// findOld sets Upto of threads. Each query reads the index from the oldest message up to the
// first one that stays, and the newest message.
func (s *Retention) findOld(ctx context.Context, list []im.OldThread, before uint32) error {
	var q strings.Builder
	for i, t := range list {
		if i > 0 {
			q.WriteString(" UNION ALL ")
		}
		of, index := thread(t), "idx_relateId_status_msgId_created"
		if t.Group {
			index = "idx_groupId_msgId_status_created"
		}
		from := fmt.Sprintf("FROM %s FORCE INDEX (%s) WHERE %s=%d AND status=0", of.Table(), index,
			of.Column(), t.ID)
		fmt.Fprintf(&q, "SELECT %d, COALESCE((SELECT msgId %s AND created>=%d ORDER BY msgId "+
			"LIMIT 1), 0), COALESCE((SELECT msgId %s ORDER BY msgId DESC LIMIT 1), 0), "+
			"COALESCE((SELECT msgId %s ORDER BY msgId LIMIT 1), 0)", i, from, before, from, from)
	}
	rows, err := s.db.Master.QueryContext(ctx, q.String())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		var young, newest, oldest uint32
		if err := rows.Scan(&i, &young, &newest, &oldest); err != nil {
			return err
		}
		list[i].Keep(young, newest, oldest)
	}
	return rows.Err()
}

// OldPart returns the next messages of t; see im.Pruner.
func (s *Retention) OldPart(ctx context.Context, t im.OldThread, after uint32,
	limit int) (p im.OldPart, err error) {
	of, key := thread(t), "uniq_relateId_msgId"
	if t.Group {
		key = "uniq_groupId_msgId"
	}
	rows, err := s.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT msgId, type, status, "+
		"LENGTH(content), IF(type IN (2, 18), content, '') FROM %s FORCE INDEX (%s) WHERE %s=%d "+
		"AND msgId>%d AND msgId<=%d ORDER BY msgId LIMIT %d", of.Table(), key, of.Column(), t.ID,
		after, t.Upto, limit))
	if err != nil {
		return p, s.db.SQLError("read old messages", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m im.Message
		var status int
		var size int64
		if err := rows.Scan(&p.Last, &m.Type, &status, &size, &m.Data); err != nil {
			return p, s.db.SQLError("read old messages", err)
		}
		switch {
		case history.IsAudio(m.Type):
			p.Sounds.Messages++
			if id, err := strconv.ParseUint(string(m.Data), 10, 32); err == nil {
				p.SoundID = append(p.SoundID, uint32(id))
			}
		case status == 0: // otherwise it takes an id that no message has
			p.Texts.Add(im.OldCount{Messages: 1, Bytes: size})
		}
	}
	if err := rows.Err(); err != nil {
		return p, s.db.SQLError("read old messages", err)
	}
	rows.Close() // a pool of one has one connection for this and the next query
	return p, s.db.SQLError("read old sounds", s.sounds(ctx, &p))
}

// sounds adds the places and sizes of the sounds of p.
func (s *Retention) sounds(ctx context.Context, p *im.OldPart) error {
	return database.InChunks(p.SoundID, database.Chunk, func(part []uint32) error {
		rows, err := s.db.Master.QueryContext(ctx, "SELECT COALESCE(path, ''), size FROM IMAudio "+
			"WHERE id IN ("+database.Join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var path string
			var size int64
			if err := rows.Scan(&path, &size); err != nil {
				return err
			}
			p.Sounds.Bytes += size
			p.Paths = append(p.Paths, path)
		}
		return rows.Err()
	})
}

// SkipOld lowers the unread counts in t; see im.Pruner.
func (s *Retention) SkipOld(ctx context.Context, t im.OldThread) error {
	if t.Group {
		return s.rebuild.SkipInGroup(ctx, t.ID, t.Upto)
	}
	return s.rebuild.SkipBetween(ctx, thread(t), t.Users, t.Upto)
}

// DeleteOld deletes messages; see im.Pruner. Sounds are deleted first: a message without its
// sound is found again after a kill.
func (s *Retention) DeleteOld(ctx context.Context, t im.OldThread, p im.OldPart) error {
	err := database.InChunks(p.SoundID, database.Chunk, func(part []uint32) error {
		return s.exec(ctx, "DELETE FROM IMAudio WHERE id IN ("+database.Join(part)+")")
	})
	if err == nil {
		of := thread(t)
		err = s.exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s=%d AND msgId<=%d", of.Table(),
			of.Column(), t.ID, min(p.Last, t.Upto)))
	}
	return s.db.SQLError("delete old messages", err)
}

// exec runs a statement that may be run twice.
func (s *Retention) exec(ctx context.Context, query string) error {
	return s.db.Retry(ctx, func() error {
		_, err := s.db.Master.ExecContext(ctx, query)
		return err
	})
}
