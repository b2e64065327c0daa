package dbtest

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
)

// Template is the state of a database that many tests of a process begin with. The first test
// makes it, and the others get a copy: a migration asks before each step whether the step is
// needed, and changes tables that it made before. A copy creates each table as it is at the end.
// Any goroutine.
type Template struct {
	fill func(tb testing.TB, dsn string)

	mu     sync.Mutex
	script string // empty before the first database
}

// NewTemplate returns a template of the tables and rows that fill makes in an empty database.
// The tables have no triggers and no foreign keys.
func NewTemplate(fill func(tb testing.TB, dsn string)) *Template { return &Template{fill: fill} }

// NewDatabase makes a database in the state of the template, and returns its DSN as
// Server.NewDatabase does. It is dropped at the end of the test.
func (m *Template) NewDatabase(tb testing.TB) string {
	tb.Helper()
	server := MariaDB(tb)
	dsn := server.NewDatabase(tb)
	if script := m.begin(tb, server, dsn); script != "" {
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			tb.Fatal(err)
		}
		cfg.MultiStatements = true
		db, err := sql.Open("mysql", cfg.FormatDSN())
		if err != nil {
			tb.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(script); err != nil {
			tb.Fatalf("copy the template: %v", err)
		}
	}
	return dsn
}

// begin returns the script of the template. Without one it fills the database, reads the script
// from it, and returns an empty one.
func (m *Template) begin(tb testing.TB, server *Server, dsn string) string {
	tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.script != "" {
		return m.script
	}
	m.fill(tb, dsn)
	db := server.Open(tb, dsn)
	var script strings.Builder
	for _, row := range query(tb, db, "SHOW TABLES") {
		table := *row[0]
		script.WriteString(*query(tb, db, "SHOW CREATE TABLE "+table)[0][1] + ";\n")
		for _, row := range query(tb, db, "SELECT * FROM "+table) {
			script.WriteString("INSERT INTO " + table + " VALUES (" + literals(row) + ");\n")
		}
	}
	m.script = script.String()
	return ""
}

// query returns the rows of a query. NULL is nil.
func query(tb testing.TB, db *sql.DB, stmt string) (list [][]*string) {
	tb.Helper()
	rows, err := db.Query(stmt)
	if err != nil {
		tb.Fatalf("%s: %v", stmt, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	for rows.Next() {
		row, into := make([]*string, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			tb.Fatalf("%s: %v", stmt, err)
		}
		list = append(list, row)
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("%s: %v", stmt, err)
	}
	return list
}

// escape is for values between apostrophes.
var escape = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// literals returns the values of a row in SQL. MariaDB converts a number between apostrophes.
func literals(row []*string) string {
	list := make([]string, len(row))
	for i, v := range row {
		switch {
		case v == nil:
			list[i] = "NULL"
		case !utf8.ValidString(*v):
			list[i] = fmt.Sprintf("x'%x'", *v) // of a binary column
		default:
			list[i] = fmt.Sprintf("'%s'", escape.Replace(*v))
		}
	}
	return strings.Join(list, ", ")
}
