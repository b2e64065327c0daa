// Package systemd tells the service manager that started the process its state, as sd_notify(3)
// describes: ready, reloading, stopping, and that it is alive.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager. A nil one is told nothing. Any goroutine.
type Manager struct {
	socket   string
	watchdog time.Duration // 0: it does not watch the process
}

// Open returns the service manager that the environment names; nil without one.
func Open(getenv func(string) string) *Manager {
	socket := getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return nil
	}
	m := &Manager{socket: socket}
	pid := getenv("WATCHDOG_PID")
	if micros, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && micros > 0 &&
		(pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(micros) * time.Microsecond
	}
	return m
}

// Ready says that the process serves, and what it does. It also ends a reload.
func (m *Manager) Ready(status string) { m.tell("READY=1\nSTATUS=" + line(status)) }

// Reloading says that the process reads its settings again. Ready must follow.
func (m *Manager) Reloading() {
	m.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=Reading the settings again",
		monotonic()/time.Microsecond))
}

// Stopping says that the process finishes its work and ends.
func (m *Manager) Stopping() { m.tell("STOPPING=1\nSTATUS=Finishing accepted work") }

// Status says what the process does.
func (m *Manager) Status(status string) { m.tell("STATUS=" + line(status)) }

// Watch tells the manager that the process is alive, until ctx ends, whenever alive returns nil.
// The context of alive ends when it is too late for that. Watch returns at once when the manager
// does not watch.
func (m *Manager) Watch(ctx context.Context, alive func(context.Context) error) {
	if m == nil || m.watchdog == 0 {
		return
	}
	tick := time.NewTicker(m.watchdog / 3)
	defer tick.Stop()
	for {
		check, cancel := context.WithTimeout(ctx, m.watchdog/2)
		if alive(check) == nil {
			m.tell("WATCHDOG=1")
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// line returns a text in one line.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }

// tell sends a state. The manager does without one that cannot be sent: the process must not fail
// for that.
func (m *Manager) tell(state string) {
	if m == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(state))
}
