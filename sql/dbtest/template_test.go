package dbtest

import (
	"slices"
	"testing"
)

// TestTemplate: each database of a template has the tables, keys, rows and next ids of the first
// one, and rows of its own.
func TestTemplate(t *testing.T) {
	fills := 0
	m := NewTemplate(func(tb testing.TB, dsn string) {
		fills++
		db := MariaDB(tb).Open(tb, dsn)
		for _, stmt := range []string{
			"CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(20) " +
				"NOT NULL DEFAULT 'it''s', n BIGINT UNSIGNED, UNIQUE KEY one (text)) " +
				"DEFAULT CHARSET=utf8mb4",
			`INSERT INTO a VALUES (7, '签''\\"名 🙂', NULL), (9, '', 18446744073709551615)`,
			"CREATE TABLE b (id BINARY(4))", "INSERT INTO b VALUES (x'ff00275c')",
		} {
			if _, err := db.Exec(stmt); err != nil {
				tb.Fatalf("%s: %v", stmt, err)
			}
		}
	})
	var first [][]string
	for i := range 3 {
		db := MariaDB(t).Open(t, m.NewDatabase(t))
		var state [][]string
		for _, stmt := range []string{"SHOW TABLES", "SHOW CREATE TABLE a", "SHOW CREATE TABLE b",
			"SELECT * FROM a ORDER BY id", "SELECT * FROM b"} {
			for _, row := range query(t, db, stmt) {
				var line []string
				for _, v := range row {
					if v == nil {
						line = append(line, "NULL")
					} else {
						line = append(line, *v)
					}
				}
				state = append(state, line)
			}
		}
		if i == 0 {
			first = state
		} else if !slices.EqualFunc(first, state, slices.Equal) {
			t.Errorf("database %d is %q, the first %q", i, state, first)
		}
		if _, err := db.Exec("INSERT INTO a (text) VALUES ('x')"); err != nil {
			t.Error(err)
		}
	}
	if fills != 1 {
		t.Errorf("the template was filled %d times, want once", fills)
	}
}
