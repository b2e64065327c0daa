package session

import (
	"strings"
	"testing"
)

// TestLinkName: a server that has named itself stands before its address, shortened.
func TestLinkName(t *testing.T) {
	l := NewLink(1, "10.0.0.7:5000", nil)
	for _, c := range []struct{ name, want string }{
		{"", "10.0.0.7:5000"}, {"msg/m1", "msg/m1@10.0.0.7:5000"}, {"", "msg/m1@10.0.0.7:5000"},
		{strings.Repeat("x", 200), strings.Repeat("x", 128) + "@10.0.0.7:5000"},
		{strings.Repeat("x", 127) + "é", strings.Repeat("x", 127) + "@10.0.0.7:5000"},
	} {
		if l.SetName(c.name); l.Remote() != c.want {
			t.Errorf("named %q: %q", c.name, l.Remote())
		}
	}
}
