package system

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestNodeWithAFullDisk checks that a node with less free space than reserved for files
// stays ready, because its other roles work, and names the parts and their settings. A
// process that only holds files is not ready.
func TestNodeWithAFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		roles string
		ready bool
	}{"all roles": {"", true}, "files only": {"file,msfs", false}} {
		t.Run(name, func(t *testing.T) {
			set := map[string]string{"file.min_free": "1024GiB", "msfs.min_free": "1024GiB"}
			if c.roles != "" {
				set["roles"] = c.roles
			}
			opt := testOptions(t, set)
			var log bytes.Buffer
			opt.Log, opt.Demo = slog.New(slog.NewTextHandler(&log, nil)), false
			s, err := start(t.Context(), opt)
			if err != nil {
				t.Fatal(err)
			}
			report := s.ready.Check(t.Context())
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if report.Ready != c.ready {
				t.Errorf("report %+v, want ready %t", report, c.ready)
			}
			for _, role := range []string{"file", "msfs"} {
				setting := role + ".min_free"
				if !strings.Contains(report.Checks[role], setting) {
					t.Errorf("check of %s: %s", role, report.Checks[role])
				}
				if !strings.Contains(log.String(), setting) {
					t.Errorf("the log does not name %s: %s", setting, log.String())
				}
			}
		})
	}
}
