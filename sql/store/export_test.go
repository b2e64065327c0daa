package store

import (
	"slices"
	"testing"
)

// TestPeersOfLostRows asks for the peers of a user whose rows in lists are lost: an export has all
// that the store has.
func TestPeersOfLostRows(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 4)
	send(t, s, texts(u[1], u[0], 1)...)
	send(t, s, texts(u[1], u[2], 1)...)
	send(t, s, texts(u[3], u[1], 1)...)
	send(t, s, texts(u[0], u[2], 1)...)
	e.exec(t, "DELETE FROM IMRecentSession")
	var got []uint32
	for after := uint32(0); ; after = got[len(got)-1] {
		part, err := s.PeersOf(t.Context(), u[1], after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
	}
	if want := []uint32{u[0], u[2], u[3]}; !slices.Equal(got, want) {
		t.Errorf("the peers of user %d are %v, want %v", u[1], got, want)
	}
}
