package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// RunWithDisks runs a program that may mount small disks, without root: in a user namespace
// and a mount namespace of its own, which end with it. When ctx ends, the program gets
// SIGINT. The error says when the kernel or a container does not allow it.
func RunWithDisks(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("a full disk needs a user namespace, which this machine does not allow: "+
			"%w", err)
	}
	end := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
	defer end()
	return cmd.Wait()
}

// mountDisk mounts an empty disk in memory.
func mountDisk(dir string, size int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size))
	if err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	return nil
}

// unmountDisk removes a disk, also while a file is open.
func unmountDisk(dir string) { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }

// fillPause is the pause between two looks at a disk that was filled: a server may have
// removed a file since.
const fillPause = 20 * time.Millisecond

// Fill leaves no room on the disk of the store for a time.
func (s *System) Fill(ctx context.Context, d time.Duration) error {
	ballast, err := os.Create(filepath.Join(s.disk, "ballast"))
	if err != nil {
		return err
	}
	defer os.Remove(ballast.Name())
	defer ballast.Close()
	block := make([]byte, 64<<10)
	for until := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(until); {
		for n := len(block); n >= 512; {
			if _, err := ballast.Write(block[:n]); errors.Is(err, syscall.ENOSPC) {
				n /= 2
			} else if err != nil {
				return err
			}
		}
		time.Sleep(fillPause)
	}
	return nil
}
