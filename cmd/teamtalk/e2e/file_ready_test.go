//go:build linux

package e2e

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestFileReady checks the readiness of file servers. One that checks whether receivers
// are online is not ready without a route server. One that does not check needs no other
// server.
func TestFileReady(t *testing.T) {
	t.Parallel()
	program(t)
	route := reserve(t)
	start := func(name string, args ...string) *server {
		s := newServer(t, name, append([]string{"serve", "--roles", "file", "--file.listen",
			reserve(t), "--file.server-listen", reserve(t), "--file.min-free", "0B",
			"--link.backoff-max", "1s", "--data-dir", filepath.Join(t.TempDir(), "files")},
			args...)...)
		s.launch()
		return s
	}
	start("alone").awaitReady()
	start("unchecked", "--file.route", route, "--file.check-online", "off").awaitReady()
	checked := start("checked", "--file.route", route)
	// The test waits until the route server is the only missing condition.
	until(t, "a file server that lacks only a route server", func() bool {
		resp, err := admins.Get("http://" + checked.admin + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		got := string(text)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable &&
			strings.Contains(got, `"file route":"no route server is connected"`) &&
			strings.Contains(got, `"file":"ok"`) && strings.Contains(got, `"start":"ok"`)
	})
	r := newServer(t, "route", "serve", "--roles", "route", "--route.listen", route)
	r.start()
	checked.awaitReady()
	r.stop()
	until(t, "a file server that lacks the route server", func() bool {
		return checked.probe("/readyz") == http.StatusServiceUnavailable
	})
	r.start()
	checked.awaitReady()
}
