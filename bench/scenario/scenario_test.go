package scenario

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestFields checks that the defaults of each kind are valid, that each setting has a
// description, and that text set and read back is equal.
func TestFields(t *testing.T) {
	for _, kind := range Kinds() {
		s := New(kind)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: the defaults are not valid: %v", kind, err)
		}
		seen := map[string]bool{}
		for _, f := range Fields(kind) {
			if f.Doc == "" || f.Key == "" || seen[f.Flag()] {
				t.Errorf("%s: setting %q: no unique name, or no description", kind, f.Key)
			}
			seen[f.Flag()] = true
			for _, k := range f.Kinds {
				if !strings.Contains(strings.Join(Kinds(), ","), k) {
					t.Errorf("%s: unknown kind %q", f.Key, k)
				}
			}
			again := s
			if err := f.Set(&again, f.Get(&s)); err != nil || !reflect.DeepEqual(again, s) {
				t.Errorf("%s: %s = %q does not read back: %v", kind, f.Key, f.Get(&s), err)
			}
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Scenario
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if back.Password != "" {
			t.Error("the password is in the result")
		}
		back.Password = s.Password
		if !reflect.DeepEqual(back, s) {
			t.Errorf("%s: %+v was read back from JSON as %+v", kind, s, back)
		}
	}
}

func TestParseScenario(t *testing.T) {
	s, err := Parse([]byte(`
kind = "group"
addr = ["a:1", "b:2"]
groups = 3
group_ids = [7, 8, 9]
members = 10
senders = 2
size = "1KiB"
rate = 2.5
duration = "1m"
acks = false
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != "group" || len(s.Addrs) != 2 || s.Groups != 3 || len(s.IDs) != 3 ||
		s.IDs[2] != 9 || int(s.Size) != 1024 || s.Rate != 2.5 ||
		time.Duration(s.Duration) != time.Minute || s.Acks || s.Window != 16 || s.Users() != 30 {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct{ file, want string }{
		{``, "kind: want one of"},
		{`kind = "nonsense"`, "kind: want one of"},
		{`kind = `, "line 1"},
		{"kind = 'single'\npairs = 'two'", "pairs: want a number"},
		{"kind = 'single'\npairs = 0", "pairs: want 1 or more, got 0"},
		{"kind = 'single'\nsize = 31", "size: want 32 or more"},
		{"kind = 'single'\nduration = 10", `duration: want a duration in quotes`},
		{"kind = 'single'\nduration = 'ten'", `duration: want a duration such as`},
		{"kind = 'single'\nmembers = 3", "members: no such setting of single"},
		{"kind = 'single'\nformat = 'user'", "format: want one place"},
		{"kind = 'single'\narrivals = 'never'", "arrivals: want one of constant, poisson"},
		{"kind = 'single'\naddr = 'a:1'", "addr: want a list"},
		{"kind = 'single'\naddr = []", "addr: want a message server"},
		{"kind = 'single'\nacks = 'yes'", "acks: want a bool"},
		{"kind = 'group'\nmembers = 3\nsenders = 4", "senders: 4 is more than the 3 members"},
		{"kind = 'group'\ngroups = 2\ngroup_ids = [0, 1]",
			"group_ids: want ids from 1 to 4294967295, got 0"},
		{"kind = 'group'\ngroup_ids = [1, 2]", "group_ids: got 2 ids for 1 groups"},
		{"kind = 'single'\nrate = 'x'\npairs = -1\nnothing = 1", "nothing: no such setting"},
	} {
		if _, err := Parse([]byte(c.file)); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.file, err, c.want)
		}
	}
}

func FuzzParseScenario(f *testing.F) {
	f.Add("kind = 'single'\npairs = 3\nduration = '5s'\nsize = 64\nacks = true\naddr = ['x:1']")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse([]byte(text))
		if err != nil {
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("accepted and invalid: %v", err)
		}
	})
}

// TestEachFieldIsDefined checks that no field of a scenario lacks a definition. Fields
// compares the keys.
func TestEachFieldIsDefined(t *testing.T) {
	if n := reflect.TypeFor[Scenario]().NumField(); n != len(definitions) {
		t.Errorf("%d fields, %d definitions", n, len(definitions))
	}
}
