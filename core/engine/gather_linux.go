package engine

import "golang.org/x/sys/unix"

// lowWater sets the number of bytes from which on a socket is readable. The end of the connection
// makes it readable too. It reports whether the system knows the option.
func lowWater(fd, n int) bool {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) == nil
}

// peek copies the bytes that have arrived to buf, and leaves them in the socket. It returns their
// number, or less than 1.
func peek(fd int, buf []byte) int {
	n, _, _ := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT) // an error makes n -1
	return n
}

// take fills buf with bytes that peek has seen.
func take(fd int, buf []byte) bool {
	n, err := unix.Read(fd, buf)
	return err == nil && n == len(buf)
}
