package proc

import (
	"strings"
	"testing"
)

func TestGeneratorBound(t *testing.T) {
	for _, c := range []struct {
		name string
		load Load
		want string // part of the answer
	}{
		{"nothing measured", Load{}, ""},
		{"idle", Load{Cores: 2, Machine: 0.2, Generators: []float64{0.1}, Loops: 1, Servers: 0.1},
			""},
		{"its loop is full", Load{Cores: 8, Machine: 3, Generators: []float64{0.95}, Loops: 1,
			Servers: 2}, "0.95 of the 1 cores"},
		{"two loops have room", Load{Cores: 8, Machine: 3, Generators: []float64{0.95}, Loops: 2,
			Servers: 2}, ""},
		{"one of two generators is full", Load{Cores: 8, Machine: 5,
			Generators: []float64{0.3, 1.9}, Loops: 2, Servers: 2}, "1.90 of the 2"},
		{"more loops than cores", Load{Cores: 2, Machine: 1.95, Generators: []float64{1.85},
			Loops: 8, Servers: 0.1}, "1.85 of the 2 cores"},
		{"full machine, fair share", Load{Cores: 2, Machine: 2, Generators: []float64{0.8},
			Loops: 2, Servers: 1.2}, ""},
		{"full machine, more than its share", Load{Cores: 2, Machine: 1.96,
			Generators: []float64{0.6, 0.5}, Loops: 2, Servers: 0.8}, "the generators used 1.10"},
		{"more than its share, but cores are idle",
			Load{Cores: 2, Machine: 1.5, Generators: []float64{1}, Loops: 2, Servers: 0.5}, ""},
		{"the servers are elsewhere", Load{Cores: 4, Machine: 3.9, Generators: []float64{3},
			Loops: 4}, "all 4 cores"},
	} {
		got := GeneratorBound(c.load)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParseWatch(t *testing.T) {
	got, err := parseWatch([]string{"mariadbd", " msg = 12 "})
	if err != nil || len(got) != 2 || got[0] != (target{name: "mariadbd"}) ||
		got[1] != (target{name: "msg", pid: 12}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "=12", "msg=", "msg=x", "msg=-1", "msg=0", "msg=99999999999",
		Machine, Watched + "=1"} {
		if _, err := parseWatch([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
