package login

import (
	"testing"

	"teamtalk/core/registry"
)

// TestFilesURL: the announced URLs end in exactly one slash, because clients append paths
// to them.
func TestFilesURL(t *testing.T) {
	for _, c := range []struct{ prior, backup, wantPrior, wantBackup string }{
		{"http://a:8700", "", "http://a:8700/", "http://a:8700/"},
		{"http://a:8700/", "https://b/files", "http://a:8700/", "https://b/files/"},
		{"http://a:8700///", "https://b/files/", "http://a:8700/", "https://b/files/"},
		{"", "", "", ""},
	} {
		s := New(Options{MSFSPrior: c.prior, MSFSBackup: c.backup})
		if prior, backup := s.filesURLs(); prior != c.wantPrior || backup != c.wantBackup {
			t.Errorf("%q, %q: announced as %q, %q", c.prior, c.backup, prior, backup)
		}
	}
}

// TestRegisteredFilesURL: a small file server that registers is announced with its slash, unless a
// setting names one. Another one takes the place of one that is gone.
func TestRegisteredFilesURL(t *testing.T) {
	v := registry.NewView()
	follows := New(Options{Registered: v})
	backup := New(Options{Registered: v, MSFSBackup: "https://b"})
	set := New(Options{Registered: v, MSFSPrior: "http://set"})
	a := registry.Node{Role: "msfs", Name: "a", Clients: []string{"http://a:8700"}}
	b := registry.Node{Role: "msfs", Name: "b", Clients: []string{"http://b:8700/"}}
	for _, c := range []struct {
		nodes []registry.Node
		want  string
	}{
		{nil, ""}, {[]registry.Node{b, a}, "http://a:8700/"}, {[]registry.Node{b}, "http://b:8700/"},
		{nil, ""},
	} {
		v.Update(c.nodes, true)
		for s, want := range map[*Server][2]string{follows: {c.want, c.want},
			backup: {c.want, "https://b/"}, set: {"http://set/", "http://set/"}} {
			if prior, second := s.filesURLs(); prior != want[0] || second != want[1] {
				t.Errorf("%d servers: announced %q and %q, want %q", len(c.nodes), prior, second,
					want)
			}
		}
	}
}
