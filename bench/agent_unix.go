//go:build unix

package bench

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the interrupt of a terminal from an agent. The process that started it
// reads its results first and then ends it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
