package link

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/mono"
)

// A call on a quiet link is written by the goroutine that makes it. To wake the writer for it
// costs two switches between threads, more than the write. On a busy link the writer writes many
// frames at once.

// quiet is the time without a write after which a frame is written at once.
const quiet = time.Millisecond

// rawOf returns the file descriptor of a TCP connection, nil for others: a write to a connection
// with TLS may wait.
func rawOf(nc net.Conn) syscall.RawConn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// writeNow writes the buffer of a quiet link, and reports whether it is written whole. It does
// not wait. The writer writes the rest, and meets the errors. The caller holds c.mu.
func (c *conn) writeNow() bool {
	if c.raw == nil || c.writing || c.opening || c.ended ||
		mono.Of(time.Now())-c.lastOut.Load() < int64(quiet) {
		return false
	}
	out, n := c.out.Waiting, 0
	err := c.raw.Write(func(fd uintptr) bool {
		n, _ = unix.Write(int(fd), out)
		return true
	})
	if err != nil || n <= 0 {
		return false
	}
	c.lastOut.Store(mono.Of(time.Now()))
	c.r.metrics.writes.Inc()
	c.r.metrics.outBytes.Add(float64(n))
	c.out.Waiting = out[:copy(out, out[n:])]
	if len(c.out.Waiting) > 0 {
		return false
	}
	c.items = 0
	return true
}
