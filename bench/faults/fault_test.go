package faults

import (
	"slices"
	"strings"
	"testing"

	"teamtalk/bench/faults/deploy"
)

// TestChoose selects faults by their names.
func TestChoose(t *testing.T) {
	s := &deploy.System{Roles: []*deploy.Role{{Kind: "mariadb"}, {Kind: "msg"}, {Kind: "msg"}},
		Links: []*deploy.Proxy{{Kind: "msg"}, {Kind: "msg"}}}
	for _, c := range []struct{ names, want string }{
		{"", "kill:mariadb kill:msg down:mariadb down:msg stop:mariadb stop:msg " +
			"term:msg cut:msg slow:msg hang:msg clock:msg skew:msg kill-all rolling dying:mariadb"},
		{"rolling kill", "rolling kill:mariadb kill:msg"},
		{"cut:msg", "cut:msg"},
	} {
		list, err := choose(s, strings.Fields(c.names))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range list {
			got = append(got, f.name)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", c.names, got, want)
		}
	}
	for _, name := range []string{"kill:", "term:mariadb", "kill:m"} {
		if _, err := choose(s, []string{name}); err == nil {
			t.Errorf("%q is a fault", name)
		}
	}
}

// TestSchedule draws the numbers of a fault. They depend on the seed and on the fault, and
// not on the other faults of a run.
func TestSchedule(t *testing.T) {
	draw := func(seed uint64, name string) uint64 {
		r := &run{Options: Options{Seed: seed}}
		return r.schedule(fault{name: name}).Uint64()
	}
	first := draw(1, "a")
	if draw(1, "a") != first || draw(2, "a") == first || draw(1, "b") == first {
		t.Error("a schedule does not follow the seed and the fault")
	}
}
