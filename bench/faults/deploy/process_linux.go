package deploy

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// starter runs functions on one thread that lives as long as the process. The kernel
// sends the death signal to a child when the thread that started it ends, and the Go
// runtime may end any other thread.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// startBound starts a process that does not outlive this one. Its process group is its
// own: Ctrl-C at the terminal reaches only this process, which ends the others.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err := make(chan error)
	starter() <- func() { err <- cmd.Start() }
	return <-err
}

func signalTerminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
func signalStop(p *os.Process) error      { return p.Signal(syscall.SIGSTOP) }
func signalContinue(p *os.Process) error  { return p.Signal(syscall.SIGCONT) }

// ports holds reserved ports.
type ports []int

// reserve returns loopback addresses on which only processes of the deployment listen
// until release. Each is a socket that is bound and does not listen: the kernel gives its
// port to no other process that asks for any port, and a process that asks for the port
// by number gets it, any number of times.
func (p *ports) reserve(n int) (addrs []string, err error) {
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		*p = append(*p, fd)
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		if err != nil {
			return nil, err
		}
		loopback := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if err := syscall.Bind(fd, loopback); err != nil {
			return nil, err
		}
		sa, err := syscall.Getsockname(fd)
		if err != nil {
			return nil, err
		}
		port := sa.(*syscall.SockaddrInet4).Port
		addrs = append(addrs, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	return addrs, nil
}

// release gives the ports back.
func (p *ports) release() {
	for _, fd := range *p {
		_ = syscall.Close(fd)
	}
	*p = nil
}
