package budget

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// shedWait bounds the wait for a connection that is refused with the spare descriptor. It is
// also the pause before the next accept when no connection waits.
const shedWait = 20 * time.Millisecond

// Accept returns the next connection of l. It refuses a connection while the process is
// short of descriptors, whatever has taken them: connections, links, databases or files.
// Then it pauses, so that new connections wait in the kernel, and tries again. An error
// means that l is closed or broken.
//
// The kernel gives each file the lowest free descriptor. So the number of a connection's
// descriptor tells how many the process has, and counting costs nothing.
func (b *Budget) Accept(l *net.TCPListener) (*net.TCPConn, error) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil && descriptor(c) < b.ceiling:
			return c, nil
		case err == nil:
			b.refuse(c)
			time.Sleep(shedWait)
		case final(err):
			return nil, err
		default:
			if c := b.spareAccept(l); c != nil && descriptor(c) < b.ceiling {
				return c, nil
			} else if c != nil {
				b.refuse(c)
			}
		}
	}
}

// refuse closes a connection on arrival.
func (b *Budget) refuse(c *net.TCPConn) {
	b.shed.Add(1)
	if b.Refused != nil {
		b.Refused(c.LocalAddr())
	}
	_ = c.Close() // the client gets no answer, so the error is of no use
}

// Shed returns the number of connections that Accept refused.
func (b *Budget) Shed() int64 { return b.shed.Load() }

// Enroll waits for a place among the connections that are on their way to a loop. Enrolled
// returns the place.
func (b *Budget) Enroll() { b.enroll <- struct{}{} }

// Enrolled returns the place that Enroll took.
func (b *Budget) Enrolled() { <-b.enroll }

// final reports whether an error of accept means that the listener is closed or broken. All
// others pass: a lack of descriptors or of memory, and errors of single connections.
func final(err error) bool {
	for _, e := range []error{net.ErrClosed, unix.EBADF, unix.EINVAL, unix.ENOTSOCK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// descriptor returns the number of c's descriptor.
func descriptor(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n = int(fd) })
	}
	if err != nil {
		return 0
	}
	return n
}

// spare is a descriptor of the process that is free for a moment when all others are taken.
var spare struct {
	sync.Mutex
	file *os.File
}

// spareAccept accepts one connection that waits in the kernel with the spare descriptor. It
// closes the connection, so that its client need not wait for a timeout, and returns nil
// unless descriptors are free again.
func (b *Budget) spareAccept(l *net.TCPListener) *net.TCPConn {
	spare.Lock()
	defer spare.Unlock()
	if spare.file == nil {
		time.Sleep(shedWait)
		openSpare()
		return nil
	}
	_ = spare.file.Close() // a descriptor of /dev/null has nothing to lose
	spare.file = nil
	_ = l.SetDeadline(time.Now().Add(shedWait)) // an error shows in the next Accept
	c, err := l.AcceptTCP()
	_ = l.SetDeadline(time.Time{})
	if openSpare(); err != nil || spare.file != nil {
		return c
	}
	b.refuse(c)
	openSpare()
	return nil
}

// keepSpare opens the spare descriptor unless it is open.
func keepSpare() {
	spare.Lock()
	defer spare.Unlock()
	openSpare()
}

// openSpare is keepSpare for a caller that holds the lock. When the process has no
// descriptor, the next refused connection tries again.
func openSpare() {
	if spare.file == nil {
		spare.file, _ = os.Open(os.DevNull)
	}
}
