package schema

import (
	"embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed migrations/*.sql
var files embed.FS

// Tables is the number of tables for the messages of each family: IMMessage_0 to
// IMMessage_7, by relateId % Tables.
const Tables = 8

// kind is the kind of thing that a step makes. It decides how to check whether the thing
// exists.
type kind uint8

const (
	createTable kind = iota
	addColumn
	addIndex
	widenColumn
)

// step is one statement of a migration. It makes one thing.
type step struct {
	kind  kind
	table string
	name  string // of the column or index
	width int    // new width of a column, in characters
	sql   string
}

// String names the thing that the step makes.
func (s step) String() string {
	switch s.kind {
	case addColumn:
		return "column " + s.table + "." + s.name
	case addIndex:
		return "index " + s.table + "." + s.name
	case widenColumn:
		return "width of column " + s.table + "." + s.name
	}
	return "table " + s.table
}

// migration is a numbered file of statements.
type migration struct {
	version int
	name    string
	steps   []step
}

// migrations returns all migrations in order. The files are part of the program and a
// test reads them, so an error in a file is a panic. They are read once: each start of a store
// asks for them, and the tests start hundreds.
var migrations = sync.OnceValue(func() []migration {
	entries, err := files.ReadDir("migrations") // sorted by name, so by number
	if err != nil {
		panic(err)
	}
	var list []migration
	for _, e := range entries {
		number, name, _ := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			continue // finalize.sql has the final steps
		}
		list = append(list, migration{version: version, name: name, steps: load(e.Name())})
	}
	return list
})

// finalSteps returns the statements that add the unique keys.
var finalSteps = sync.OnceValue(func() []step { return load("finalize.sql") })

// The four forms of a statement. A statement makes one thing, because a statement with
// two could be half done.
var (
	createForm = regexp.MustCompile(`^CREATE TABLE (\w+) \(`)
	widenForm  = regexp.MustCompile(
		`^ALTER TABLE (\w+) MODIFY COLUMN (\w+) VARCHAR\((\d+)\) [^;]*$`)
	alterForm = regexp.MustCompile(
		`^ALTER TABLE (\w+) ADD (COLUMN|INDEX|UNIQUE INDEX) (\w+) [^;]*$`)
)

// load reads the steps of a file. A statement with {n} stands for one on each of the
// eight message tables.
func load(file string) []step {
	text, err := files.ReadFile("migrations/" + file)
	if err != nil {
		panic(err)
	}
	var lines []string
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	var steps []step
	for _, stmt := range strings.Split(strings.Join(lines, "\n"), ";") {
		stmt = strings.TrimSpace(stmt)
		switch {
		case stmt == "":
		case strings.Contains(stmt, "{n}"):
			for n := range Tables {
				steps = append(steps, parse(strings.ReplaceAll(stmt, "{n}", strconv.Itoa(n))))
			}
		default:
			steps = append(steps, parse(stmt))
		}
	}
	return steps
}

// parse determines the thing that a statement makes.
func parse(stmt string) step {
	if m := createForm.FindStringSubmatch(stmt); m != nil {
		return step{kind: createTable, table: m[1], sql: stmt}
	}
	if m := widenForm.FindStringSubmatch(stmt); m != nil {
		width, err := strconv.Atoi(m[3])
		if err != nil {
			panic(fmt.Sprintf("schema: %q: %v", stmt, err))
		}
		return step{kind: widenColumn, table: m[1], name: m[2], width: width, sql: stmt}
	}
	m := alterForm.FindStringSubmatch(stmt)
	if m == nil {
		panic(fmt.Sprintf("schema: the statement has no known form: %q", stmt))
	}
	k := addIndex
	if m[2] == "COLUMN" {
		k = addColumn
	}
	return step{kind: k, table: m[1], name: m[3], sql: stmt}
}
