package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// made is a thing that a step makes. The width of a column is not part of it.
type made struct{ kind, table, name string }

// thing returns what the step makes. Names of tables are compared without regard to case,
// because lower_case_table_names of the server decides how they are stored, and MySQL compares
// those of columns and indexes so.
func (s step) thing() made {
	kind := "column"
	switch s.kind {
	case createTable:
		kind = "table"
	case addIndex:
		kind = "index"
	}
	return made{kind, strings.ToLower(s.table), strings.ToLower(s.name)}
}

// existing are things in the database. The value is the width of a column in characters.
type existing map[made]int

// has reports whether the change of a step exists.
func (e existing) has(st step) bool {
	width, ok := e[st.thing()]
	return ok && (st.kind != widenColumn || width >= st.width)
}

// rowsOf has for each kind of thing the query for those of some tables.
var rowsOf = map[string]string{
	"table": "SELECT LOWER(TABLE_NAME), '', 0 FROM information_schema.TABLES",
	"column": "SELECT LOWER(TABLE_NAME), LOWER(COLUMN_NAME), " +
		"COALESCE(CHARACTER_MAXIMUM_LENGTH, 0) FROM information_schema.COLUMNS",
	"index": "SELECT LOWER(TABLE_NAME), LOWER(INDEX_NAME), 0 FROM information_schema.STATISTICS",
}

// existing asks, in one query for each kind, which things of the steps exist: for each column and
// each index the server reads the whole definition of its table.
func (r *run) existing(ctx context.Context, steps ...step) (existing, error) {
	tables := map[string][]string{} // of each kind, between apostrophes
	for _, st := range steps {
		t := st.thing()
		if name := "'" + t.table + "'"; !slices.Contains(tables[t.kind], name) { // \w+, see parse
			tables[t.kind] = append(tables[t.kind], name)
		}
	}
	found := existing{}
	for kind, names := range tables {
		if err := r.find(ctx, found, kind, names); err != nil {
			return nil, fmt.Errorf("look for the tables of the schema: %w", err)
		}
	}
	return found, nil
}

// find adds what exists of a kind in some tables.
func (r *run) find(ctx context.Context, found existing, kind string, tables []string) error {
	rows, err := r.conn.QueryContext(ctx, rowsOf[kind]+" WHERE TABLE_SCHEMA=DATABASE() AND "+
		"LOWER(TABLE_NAME) IN ("+strings.Join(tables, ",")+")")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		t := made{kind: kind}
		var width int
		if err := rows.Scan(&t.table, &t.name, &width); err != nil {
			return err
		}
		found[t] = width
	}
	return rows.Err()
}

// has reports whether the change of a step exists.
func (r *run) has(ctx context.Context, st step) (bool, error) {
	found, err := r.existing(ctx, st)
	return found.has(st), err
}

// apply runs the steps whose changes do not exist yet. The lease keeps others from making them
// meanwhile.
func (r *run) apply(ctx context.Context, steps []step) error {
	found, err := r.existing(ctx, steps...)
	if err != nil {
		return err
	}
	for _, st := range steps {
		if found.has(st) {
			continue
		}
		if err := r.ddl(ctx, st.sql); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
		r.say("%s: done", st)
	}
	return nil
}
