package move

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unmoved are the tables and columns that no statement of this package names, with the reason.
var unmoved = map[string]string{
	"Arrived":  "its messages are written into their tables first; see lite.apart for others",
	"list":     "of Arrived",
	"nameFold": "MySQL computes it",
	"payload":  "IMUnreadOutbox and IMUnreadKept are applied when the source is opened",
	"owner":    "as payload",
	"seq":      "as payload",
}

// TestEveryColumn requires that the statements of this package name each table and column of both
// schemas. A migration that adds one must move it, or name it above with a reason.
func TestEveryColumn(t *testing.T) {
	var text strings.Builder
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	dir := filepath.Join(t.TempDir(), "data")
	closing(t, openLite(t, dir))
	l, err := openEmbedded(ctx, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	named(t, text.String(), l.db, "select m.name, p.name from sqlite_schema m, "+
		"pragma_table_info(m.name) p where m.type = 'table' and m.name not like 'sqlite_%'")
	m := databases(t)
	if err := schemaOf(t, m); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", m.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	named(t, text.String(), db, "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS "+
		"WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME NOT IN ('IMAdmin', 'IMDiscovery')")
}

// named checks that a text has each word in the rows of a query.
func named(t *testing.T, text string, db *sql.DB, query string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		n++
		table = regexp.MustCompile(`_\d$`).ReplaceAllString(table, "_") // IMMessage_0 to _7
		for _, word := range []string{table, column} {
			found, err := regexp.MatchString(`(?i)\b`+word, text)
			if err != nil {
				t.Fatal(err)
			}
			if !found && unmoved[word] == "" && table != "schema_migrations" {
				t.Errorf("nothing here names %s of %s: is it moved?", word, table)
			}
		}
	}
	if err := rows.Err(); err != nil || n < 50 {
		t.Errorf("%d columns, %v", n, err)
	}
}
