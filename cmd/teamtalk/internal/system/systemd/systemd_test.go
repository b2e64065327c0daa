package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen returns the environment of a process with a service manager, and what it is told.
func listen(t *testing.T, watchdog string) (getenv func(string) string, read func() string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	buf := make([]byte, 4096)
	read = func() string {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	return func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": watchdog}[name]
	}, read
}

// TestStates sends each state. A status is one line, whatever it quotes.
func TestStates(t *testing.T) {
	getenv, read := listen(t, "")
	m := Open(getenv)
	m.Ready("Serving\nSTOPPING=1")
	if got := read(); got != "READY=1\nSTATUS=Serving STOPPING=1" {
		t.Errorf("ready: %q", got)
	}
	before := monotonic()
	m.Reloading()
	if got := read(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || before == 0 {
		t.Errorf("reloading: %q", got)
	}
	m.Stopping()
	if got := read(); !strings.HasPrefix(got, "STOPPING=1\n") {
		t.Errorf("stopping: %q", got)
	}
}

// TestWatch sends a sign of life when the process is alive, and none otherwise.
func TestWatch(t *testing.T) {
	getenv, read := listen(t, "3000")
	m := Open(getenv)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	m.Watch(ctx, func(context.Context) error {
		if calls++; calls == 3 {
			cancel()
			return nil
		}
		return errors.New("hangs")
	})
	m.Status("the end")
	if first, second := read(), read(); first != "WATCHDOG=1" || second != "STATUS=the end" {
		t.Errorf("%q, %q after %d checks", first, second, calls)
	}
	if m.watchdog != 3*time.Millisecond {
		t.Errorf("watched every %v", m.watchdog)
	}
}

// TestNoManager does nothing outside a service, and for a watchdog of another process.
func TestNoManager(t *testing.T) {
	var m *Manager
	m.Ready("")
	m.Watch(t.Context(), nil)
	if m = Open(func(string) string { return "" }); m != nil {
		t.Error("a manager without a socket")
	}
	m = Open(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": "@none", "WATCHDOG_USEC": "1000",
			"WATCHDOG_PID": "1"}[name]
	})
	m.Ready("nobody reads this")
	m.Watch(t.Context(), nil)
}
