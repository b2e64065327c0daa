package login

import "testing"

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
		if s.opt.MSFSPrior != c.wantPrior || s.opt.MSFSBackup != c.wantBackup {
			t.Errorf("%q, %q: announced as %q, %q", c.prior, c.backup, s.opt.MSFSPrior,
				s.opt.MSFSBackup)
		}
	}
}
