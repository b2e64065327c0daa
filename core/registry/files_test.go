package registry

import (
	"slices"
	"testing"
)

// TestFileURLs: all processes prefer the same small file server. One that drains is used only when
// no other one is registered, and addresses that are no URLs are not.
func TestFileURLs(t *testing.T) {
	a := Node{Name: "a", Clients: []string{"http://10.0.0.1:8700"}}
	b := Node{Name: "b", Clients: []string{"https://files.example.com/small", "http://other"}}
	drains := a
	drains.Draining = true
	for i, c := range []struct {
		nodes []Node
		want  []string
	}{
		{nil, nil},
		{[]Node{a, b}, []string{a.Clients[0], b.Clients[0]}},
		{[]Node{drains, b}, []string{b.Clients[0], a.Clients[0]}},
		{[]Node{drains}, []string{a.Clients[0]}},
		{[]Node{{Name: "0"}, {Name: "1", Clients: []string{"10.0.0.1:8700"}},
			{Name: "2", Clients: []string{"javascript:alert(1)"}},
			{Name: "3", Clients: []string{"http://:8700"}},
			{Name: "4", Clients: []string{"ftp://files"}}, b}, []string{b.Clients[0]}},
	} {
		if got := FileURLs(c.nodes); !slices.Equal(got, c.want) {
			t.Errorf("%d: %q, want %q", i, got, c.want)
		}
	}
}
