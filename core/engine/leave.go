package engine

import "golang.org/x/sys/unix"

// CloseWrite sends the peer the end of the stream. gnet still reads what the peer sends,
// and ends the connection when the peer closes it.
func (cn *conn) CloseWrite() {
	if !cn.closed && cn.tls != nil {
		cn.tls.CloseWrite(cn.loop.tlsBuffers())
	}
	if !cn.closed { // a write that fails closes it
		_ = unix.Shutdown(cn.c.Fd(), unix.SHUT_WR) // the peer may be gone
	}
}

// Unread returns the number of bytes in the kernel, in gnet's inbound buffer, and in a part of a
// frame that is decrypted.
func (cn *conn) Unread() int {
	if cn.closed {
		return 0
	}
	n, err := unix.IoctlGetInt(cn.c.Fd(), unix.TIOCINQ)
	if err != nil {
		n = 0 // the connection ends
	}
	if cn.tls != nil {
		n += cn.tls.held()
	}
	if cn.ws != nil {
		n += cn.ws.in.Held()
	}
	return n + cn.c.InboundBuffered()
}
