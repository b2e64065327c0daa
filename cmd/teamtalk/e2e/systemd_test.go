//go:build linux

package e2e

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServiceManager starts the program as systemd does, with a socket for its states. It tells
// that it is ready when it is, that it is alive, that it reloads, and that it stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	// told reads states until one begins with want, and returns its lines.
	told := func(want string) string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := manager.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			got := string(buf[:n])
			if strings.HasPrefix(got, want+"\n") || got == want {
				return got
			}
			if strings.HasPrefix(got, "READY=1") || strings.HasPrefix(got, "STOPPING=1") {
				t.Fatalf("%q before %s", got, want)
			}
		}
	}
	s := newServer(t, "all", "serve", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--msg.listen", "127.0.0.1:0", "--login.client-listen", "127.0.0.1:0",
		"--login.http-listen", "127.0.0.1:0", "--msfs.listen", "127.0.0.1:0",
		"--file.listen", "127.0.0.1:0", "--msfs.min-free", "0B", "--file.min-free", "0B")
	s.env = []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=300000"}
	s.launch()
	if state := told("READY=1"); !strings.Contains(state, "STATUS=Serving login, msg,") {
		t.Errorf("ready: %q", state)
	}
	if status := s.probe("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d to a process that has said that it is ready", status)
	}
	told("WATCHDOG=1")
	s.signal(syscall.SIGHUP)
	if state := told("RELOADING=1"); !strings.Contains(state, "\nMONOTONIC_USEC=") {
		t.Errorf("reloading: %q", state)
	}
	told("READY=1")
	s.terminate()
	told("STOPPING=1")
	if code := s.awaitExit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
