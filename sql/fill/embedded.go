package fill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"teamtalk/core/im"
	"teamtalk/sql/embedded"
)

// The rows of one transaction. There are many, because each transaction ends with a flush
// to the disk, and not all, because the write-ahead log would become as large as the
// database.
const (
	embeddedRelations = 100_000
	embeddedMessages  = 400_000
)

// Embedded fills an embedded store. Nothing else may use the store in the meantime.
func Embedded(ctx context.Context, s *embedded.Store, spec Spec) (res Result, err error) {
	if err := spec.check(); err != nil {
		return res, err
	}
	f := &embeddedFill{Spec: &spec, store: s}
	relations := spec.relations()
	if res.Relations, err = f.makeRelations(ctx, relations); err != nil {
		return res, fmt.Errorf("fill relations: %w", err)
	}
	sortByID(relations)
	if res.Messages, err = f.addMessages(ctx, relations, "messages", relationRows); err != nil {
		return res, fmt.Errorf("fill messages: %w", err)
	}
	groups := spec.groups()
	if err := f.findGroups(ctx, groups); err != nil {
		return res, fmt.Errorf("fill groups: %w", err)
	}
	sortByID(groups)
	if res.GroupMessages, err = f.addMessages(ctx, groups, "group messages",
		groupRows); err != nil {
		return res, fmt.Errorf("fill group messages: %w", err)
	}
	return res, nil
}

type embeddedFill struct {
	*Spec
	store *embedded.Store
}

// prepared prepares statements and runs do with them, in one transaction.
func (f *embeddedFill) prepared(ctx context.Context, texts []string,
	do func(stmts []*sql.Stmt) error) error {
	return f.store.Raw(ctx, func(conn *sql.Conn) (err error) {
		var stmts []*sql.Stmt
		defer func() {
			for _, s := range stmts {
				err = errors.Join(err, s.Close())
			}
		}()
		for _, text := range texts {
			s, err := conn.PrepareContext(ctx, text)
			if err != nil {
				return fmt.Errorf("prepare %q: %w", text, err)
			}
			stmts = append(stmts, s)
		}
		return do(stmts)
	})
}

// makeRelations makes the missing relations, and reads the ids of all.
func (f *embeddedFill) makeRelations(ctx context.Context, list []thread) (made int64, err error) {
	st := f.stage("relations", int64(len(list)))
	for len(list) > 0 {
		part := list[:min(embeddedRelations, len(list))]
		list = list[len(part):]
		n := int64(0)
		err := f.prepared(ctx, []string{
			"insert or ignore into IMRelationShip (smallId, bigId, lastMsgId, unreadSmall, " +
				"unreadBig, created, updated) values (?1, ?2, 0, 0, 0, ?3, ?3)",
			`select id, lastMsgId, updated from IMRelationShip where smallId = ? and bigId = ?`,
		}, func(stmts []*sql.Stmt) error {
			for i := range part {
				t := &part[i]
				res, err := stmts[0].Exec(t.a, t.b, f.Since)
				if err != nil {
					return err
				}
				fresh, err := res.RowsAffected()
				if err != nil {
					return err
				}
				n += fresh
				var last, updated uint32
				if err := stmts[1].QueryRow(t.a, t.b).Scan(&t.id, &last, &updated); err != nil {
					return err
				}
				if last == 0 {
					updated = 0 // of a relation without messages
				}
				if err := t.after(last, updated); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return made, err
		}
		made += n
		st.add(len(part))
	}
	return made, nil
}

// findGroups reads the last message id and the join times of the groups.
func (f *embeddedFill) findGroups(ctx context.Context, list []thread) error {
	return f.prepared(ctx,
		[]string{"select g.lastMsgId, max(g.lastChated, (select max(created) from " +
			"IMGroupMember where groupId = g.id)) from IMGroup g where g.id = ?"},
		func(stmts []*sql.Stmt) error {
			for i := range list {
				t := &list[i]
				var last, created uint32
				err := stmts[0].QueryRow(t.id).Scan(&last, &created)
				if errors.Is(err, sql.ErrNoRows) {
					return im.Errorf(im.NotFound, "group %d does not exist", t.id)
				}
				if err != nil {
					return err
				}
				if err := t.after(last, created); err != nil {
					return err
				}
			}
			return nil
		})
}

// family says how the messages of relations, or those of groups, are stored.
type family struct {
	insert string // up to VALUES
	update string // of the thread's row: its id, the last message's id and time
	// read updates the members, so that they have read everything: the thread's id, the
	// last message's id.
	read string
	kind int // IMMessage.type
}

var (
	relationRows = family{"insert into IMMessage (id, fromId, type, created, content) values ",
		"update IMRelationShip set lastMsgId = ?2, updated = max(updated, ?3), statusSmall = 0, " +
			"statusBig = 0 where id = ?1", "", 1}
	groupRows = family{"insert into IMGroupMessage (id, userId, type, created, content) values ",
		"update IMGroup set lastMsgId = ?2, lastChated = max(lastChated, ?3) where id = ?1",
		"update IMGroupMember set readMsgId = ?2 where groupId = ?1", 0x11}
)

// perStatement is the number of rows of one INSERT.
const perStatement = 32

func (f *embeddedFill) addMessages(ctx context.Context, list []thread, name string,
	fam family) (added int64, err error) {
	st := f.stage(name, count(list))
	all := &rows{list: list, texts: f.Texts}
	row := fmt.Sprintf("(?, ?, %d, ?, ?)", fam.kind)
	texts := []string{fam.insert + strings.Repeat(row+",", perStatement-1) + row, fam.insert + row,
		fam.update}
	if fam.read != "" {
		texts = append(texts, fam.read)
	}
	for added < st.total {
		n := 0
		err := f.prepared(ctx, texts, func(stmts []*sql.Stmt) (err error) {
			n, err = addSome(all, stmts, min(embeddedMessages, int(st.total-added)))
			return err
		})
		if err != nil {
			return added, err
		}
		added += int64(n)
		st.add(n)
	}
	return added, nil
}

// addSome adds n messages and updates the rows of their threads.
func addSome(all *rows, stmts []*sql.Stmt, n int) (int, error) {
	const columns = 4
	args := make([]any, 0, perStatement*columns)
	var at *thread
	var last message
	settle := func() error {
		if at == nil {
			return nil
		}
		if _, err := stmts[2].Exec(at.id, last.id, last.created); err != nil {
			return err
		}
		for _, s := range stmts[3:] {
			if _, err := s.Exec(at.id, last.id); err != nil {
				return err
			}
		}
		return nil
	}
	for range n {
		t, m := all.next()
		if t != at {
			if err := settle(); err != nil {
				return 0, err
			}
		}
		at, last = t, m
		args = append(args, int64(t.id)<<32|int64(m.id), m.from, m.created, m.text)
		if len(args) == cap(args) {
			if _, err := stmts[0].Exec(args...); err != nil {
				return 0, err
			}
			args = args[:0]
		}
	}
	for ; len(args) > 0; args = args[columns:] {
		if _, err := stmts[1].Exec(args[:columns]...); err != nil {
			return 0, err
		}
	}
	return n, settle()
}
