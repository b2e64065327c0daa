package embedded

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/sql/embedded/marks"
)

// TestLoginMarksAreBounded: of the failures those that expire first go, and not the networks
// of users.
func TestLoginMarksAreBounded(t *testing.T) {
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(kind im.LoginMarkKind, key string, at uint32) {
		t.Helper()
		if err := s.ChangeLoginMarks(t.Context(), nil, []im.NewLoginMark{{
			LoginMarkKey: im.LoginMarkKey{Kind: kind, Key: key}, Keep: time.Hour,
			LoginMark: im.LoginMark{Value: "a", At: at}}}); err != nil {
			t.Fatal(err)
		}
	}
	put(im.NetworksOfUser, "7", 1000)
	for i := range uint32(5) {
		put(im.FailuresOfName, fmt.Sprint(i), 1000+i)
	}
	if err := s.transact(t.Context(), func(w *writer) error {
		return marks.KeepFailures(w.exec, 3)
	}); err != nil {
		t.Fatal(err)
	}
	wantRows := func(want string) {
		t.Helper()
		var got string
		if err := s.transact(t.Context(), func(w *writer) error {
			return w.one("select group_concat(kind || ':' || key, ' ' order by kind, key) "+
				"from LoginMark", &got)
		}); err != nil || got != want {
			t.Errorf("marks %q, want %q: %v", got, want, err)
		}
	}
	wantRows("1:2 1:3 1:4 3:7")
	put(im.FailuresOfName, "new", 1003+3600)
	wantRows("1:4 1:new")
}

// TestWrongPasswordsAreCheap: a network may have 1,024 wrong passwords on record, and the
// next one does not sort them. That took 5 ms of the writer, for which messages waited.
func TestWrongPasswordsAreCheap(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	defer s.Close()
	for _, text := range []string{marks.ExpireKey, marks.BoundKey} {
		rows, err := s.readers.QueryContext(t.Context(), "explain query plan "+text, 1, "k", 3)
		if err != nil {
			t.Fatal(err)
		}
		byAge := false
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			byAge = byAge || strings.Contains(detail, "INDEX LoginMark_age")
			if strings.Contains(detail, "ORDER BY") {
				t.Errorf("%s\nof %s", detail, text)
			}
		}
		if err := rows.Err(); err != nil || !byAge {
			t.Errorf("%s: uses the index: %v, %v", text, byAge, err)
		}
		rows.Close()
	}
}

// BenchmarkWrongPassword puts a mark of a network that has as many as a store keeps.
func BenchmarkWrongPassword(b *testing.B) {
	s, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	at := uint32(time.Now().Unix())
	next := func() im.NewLoginMark {
		at++
		return im.NewLoginMark{Keep: time.Hour, LoginMark: im.LoginMark{Value: "n", At: at},
			LoginMarkKey: im.LoginMarkKey{Kind: im.FailuresOfNetwork, Key: "10.1.1.0/24"}}
	}
	var puts []im.NewLoginMark
	for i := range im.FailuresOfNetwork.Most() {
		puts = append(puts, next())
		puts[i].Value = fmt.Sprint(i)
	}
	if err := s.ChangeLoginMarks(b.Context(), nil, puts); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		p := next()
		p.Value = fmt.Sprint("later ", i)
		if err := s.ChangeLoginMarks(b.Context(), nil, []im.NewLoginMark{p}); err != nil {
			b.Fatal(err)
		}
	}
}
