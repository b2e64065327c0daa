package login

import "testing"

// TestFilesURL: clients append paths to the announced URLs, so these end in one slash.
func TestFilesURL(t *testing.T) {
	for _, c := range []struct{ prior, backup, wantPrior, wantBackup string }{
		{"http://a:8700", "", "http://a:8700/", "http://a:8700/"},
		{"http://a:8700/", "https://b/files", "http://a:8700/", "https://b/files/"},
		{"http://a:8700///", "https://b/files/", "http://a:8700/", "https://b/files/"},
		{"", "", "", ""},
	} {
		s := New(Options{MSFSPrior: c.prior, MSFSBackup: c.backup})
		if s.opt.MSFSPrior != c.wantPrior || s.opt.MSFSBackup != c.wantBackup {
			t.Errorf("%q, %q: announced as %q, %q", c.prior, c.backup, s.opt.MSFSPrior, s.opt.MSFSBackup)
		}
	}
}
