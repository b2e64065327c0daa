package doctor

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/im"
)

// reader is a database that a check reads.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// querySQL returns the rows of a query as texts. NULL is "".
func querySQL(ctx context.Context, db reader, query string, args ...any) (list [][]string,
	err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		texts, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range texts {
			dest[i] = &texts[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, t := range texts {
			row[i] = t.String
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

// number returns a text of querySQL as a number.
func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64) // the column says that it is one
	return n
}

// id returns a text of querySQL as an id.
func id(text string) uint32 { return uint32(number(text)) }

// join returns ids as text, separated by commas.
func join[T ~uint32 | ~uint64](ids []T) string {
	var b strings.Builder
	for i, n := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(n), 10))
	}
	return b.String()
}

// rowIDs returns a query for Subjects: the ids of a table.
func rowIDs(table string) string {
	return "SELECT id FROM " + table + " WHERE id>? ORDER BY id LIMIT ?"
}

// subjectRows runs a query for Subjects.
func subjectRows(ctx context.Context, db reader, query string, after uint64, most int) ([]uint64,
	error) {
	rows, err := querySQL(ctx, db, query, after, most)
	ids := make([]uint64, len(rows))
	for i, r := range rows {
		ids[i] = number(r[0])
	}
	return ids, err
}

// table is a Check of tables of one database.
type table struct {
	about    About
	db       reader
	subjects string // query with a place for the last subject, and one for the number
	// look is a query with %s for the subjects. Each row is a finding: its subject first.
	look string
	// text is a format for the columns of a row. Its verbs are %[n]s.
	text string
	keys int // the number of columns that tell findings apart; 0: all
	// mend repairs a finding; nil: there is no repair.
	mend func(ctx context.Context, f Finding) error
}

// About describes the check.
func (c *table) About() About { return c.about }

// Subjects returns rows; see Check.
func (c *table) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, c.subjects, after, most)
}

// Look runs the query; see Check.
func (c *table) Look(ctx context.Context, ids []uint64) ([]Finding, error) {
	rows, err := querySQL(ctx, c.db, fmt.Sprintf(c.look, join(ids)))
	if err != nil {
		return nil, err
	}
	found := make([]Finding, len(rows))
	for i, r := range rows {
		args := make([]any, len(r))
		for j, v := range r {
			args[j] = v
		}
		found[i] = Finding{Subject: number(r[0]), Text: fmt.Sprintf(c.text, args...),
			key: strings.Join(r[:cmp.Or(c.keys, len(r))], " "), values: r}
	}
	return found, nil
}

// Mend repairs each finding; see Check. A finding that the store refuses to change stays.
func (c *table) Mend(ctx context.Context, found []Finding) error {
	for _, f := range found {
		err := c.mend(ctx, f)
		if err != nil && !slices.Contains(stays, im.KindOf(err)) {
			return err
		}
	}
	return nil
}

// stays are the kinds of errors that leave a finding as it is: another process has
// changed what it is about, or the data do not allow the repair.
var stays = []im.Kind{im.NotFound, im.Invalid, im.Exists}
