package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// lowWater sets the number of bytes from which on a socket is readable. The end of the connection
// makes it readable too. It reports whether the system knows the option.
func lowWater(fd, n int) bool {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) == nil
}

// peek copies the bytes that have arrived to buf, which is not empty, and leaves them in the
// socket. It returns their number, or less than 1. It is the only call for a client that has sent
// nothing, so it is made directly: unix.Recvfrom allocates the address of the sender.
func peek(fd int, buf []byte) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)),
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}

// take fills buf with bytes that peek has seen.
func take(fd int, buf []byte) bool {
	n, err := unix.Read(fd, buf)
	return err == nil && n == len(buf)
}
