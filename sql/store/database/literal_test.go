package database

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"teamtalk/sql/dbtest"
	"teamtalk/sql/store/use"
)

// TestTextLiteral reads texts that would end a quoted literal, in connections with every
// sql_mode and character set in which they would.
func TestTextLiteral(t *testing.T) {
	server := dbtest.MariaDB(t)
	conn, err := server.Open(t, server.NewDatabase(t)).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, setting := range []string{"sql_mode=''", "sql_mode='NO_BACKSLASH_ESCAPES'",
		"sql_mode='ANSI'", "sql_mode='ORACLE'", "character_set_client=gbk",
		"character_set_client=sjis", "character_set_connection=big5"} {
		if _, err := conn.ExecContext(t.Context(), "SET "+setting); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"", `'`, `\`, `\'`, `''`, `"`, "\x00", "縗\\'", "\u00bf'",
			"😀'\\"} {
			var got []byte
			q := append(AppendText([]byte("SELECT CAST("), []byte(want)), " AS BINARY)"...)
			if err := conn.QueryRowContext(t.Context(), string(q)).Scan(&got); err != nil {
				t.Errorf("%s: %q: %v", setting, want, err)
			} else if string(got) != want {
				t.Errorf("%s: %q is %q", setting, want, got)
			}
		}
	}
}

// BenchmarkQuoting inserts 256 texts in one statement, in the ways in which a text can enter
// it. The texts have the length of an encrypted message.
//
//	go test ./sql/store/database -run '^$' -bench Quoting -benchmem
func BenchmarkQuoting(b *testing.B) {
	const rows = 256
	server := dbtest.MariaDB(b)
	db, err := openMySQL(server.NewDatabase(b), nil, 1, masterSilence, use.New())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE t (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, " +
		"content VARCHAR(128)) ENGINE=MEMORY CHARACTER SET utf8mb4"); err != nil {
		b.Fatal(err)
	}
	text := bytes.Repeat([]byte("x"), 88)
	args := make([]any, rows)
	for i := range args {
		args[i] = text
	}
	literals := func(add func(b, text []byte) []byte) func(context.Context) error {
		var buf []byte
		return func(ctx context.Context) error {
			buf = append(buf[:0], "INSERT INTO t (content) VALUES "...)
			for i := range rows {
				if i > 0 {
					buf = append(buf, ',')
				}
				buf = append(add(append(buf, '('), text), ')')
			}
			_, err := db.ExecContext(ctx, string(buf))
			return err
		}
	}
	for _, way := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"AppendText", literals(AppendText)},
		{"quoted", literals(func(b, text []byte) []byte { // right only because of text
			return append(append(append(b, '\''), text...), '\'')
		})},
		{"arguments", func(ctx context.Context) error {
			return insert(ctx, db, rows, args)
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%20 == 0 {
					b.StopTimer()
					if _, err := db.Exec("TRUNCATE t"); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				if err := way.run(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// insert inserts texts as arguments of the driver.
func insert(ctx context.Context, db *sql.DB, rows int, args []any) error {
	q := "INSERT INTO t (content) VALUES (?)" + strings.Repeat(",(?)", rows-1)
	_, err := db.ExecContext(ctx, q, args...)
	if err != nil {
		return fmt.Errorf("%d rows: %w", rows, err)
	}
	return nil
}
