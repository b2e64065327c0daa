package systemd

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns the time since the machine has started, by which the manager orders reloads.
func monotonic() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
