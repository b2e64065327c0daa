package embedded

import (
	"fmt"
	"testing"
	"time"

	"teamtalk/core/im"
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
		return w.dropFailuresBeyond(3)
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
