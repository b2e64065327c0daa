//go:build linux && !swarm_portable

package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eventsPerTurn bounds the connections that are read before the loop writes and checks
// its timers.
const eventsPerTurn = 128

// wakeSlot is the slot of the event that wakes the loop.
const wakeSlot = -1

// poll is the Linux part of a Loop.
// file descriptors: epoll, and the eventfd that wakes it
type poll struct {
	ep, event int // file descriptors: epoll, and eventfd to wake it
	events    []unix.EpollEvent
	slots     []*Conn // connections by slot, the number that an event carries
	freeSlots []int32
	gen       int32 // generation of the connection made last
	noPwait2  bool  // the kernel is older than 5.11
	source    byte  // last byte of the loopback address to connect from; 0: the kernel chooses
}

// sysConn is the Linux part of a Conn.
type sysConn struct {
	fd       int32
	slot     int32
	gen      int32 // distinguishes its events from those of the slot's last connection
	writable bool  // epoll reports when it can be written to
}

// noSocket is the value for a Conn without a socket.
var noSocket = sysConn{fd: -1}

func (l *Loop) openPoll() error {
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", openFilesError(err))
	}
	if l.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.ep)
		return os.NewSyscallError("eventfd", openFilesError(err))
	}
	l.events = make([]unix.EpollEvent, eventsPerTurn)
	err = unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, l.event,
		&unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot})
	if err != nil {
		l.closePoll()
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (l *Loop) closePoll() {
	unix.Close(l.ep)
	unix.Close(l.event)
}

func (l *Loop) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.event, one[:]) // a full counter wakes the loop too
}

func (l *Loop) run() {
	defer close(l.done)
	defer l.closePoll()
	for {
		n := l.wait(l.patience())
		l.now = l.swarm.Now()
		for i := range n {
			l.handle(&l.events[i])
		}
		if !l.turn() {
			break
		}
	}
	for _, c := range l.slots {
		if c != nil {
			c.release()
		}
	}
}

// wait returns the number of events, after at most nanos nanoseconds; negative: without a
// limit.
func (l *Loop) wait(nanos int64) int {
	// Under load there are always events. A raw call without a timeout returns them
	// without giving the processor to the scheduler of the runtime.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno == 0 && n > 0 || nanos == 0 {
		return eventCount(n, errno)
	}
	if l.noPwait2 {
		return l.waitMillis(nanos)
	}
	var until *[2]int64 // seconds and nanoseconds, 64 bits each on each architecture
	if nanos > 0 {
		until = &[2]int64{nanos / 1e9, nanos % 1e9}
	}
	n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.ep),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
		uintptr(unsafe.Pointer(until)), 0, 0)
	// an old kernel, or a sandbox without this call
	if errno == unix.ENOSYS || errno == unix.EPERM {
		l.noPwait2 = true
		return l.waitMillis(nanos)
	}
	return eventCount(n, errno)
}

// waitMillis waits whole milliseconds, and does not wait for the rest.
func (l *Loop) waitMillis(nanos int64) int {
	ms := -1
	if nanos >= 0 {
		ms = int(nanos / 1e6)
	}
	n, err := unix.EpollWait(l.ep, l.events, ms)
	if err != nil {
		return 0
	}
	return n
}

// eventCount treats an interrupted wait as one without events. Other errors would be
// faults of this package, because the epoll descriptor is always valid.
func eventCount(n uintptr, errno unix.Errno) int {
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (l *Loop) handle(e *unix.EpollEvent) {
	if e.Fd == wakeSlot {
		var b [8]byte
		_, _ = unix.Read(l.event, b[:])
		return
	}
	c := l.slots[e.Fd]
	if c == nil || c.sys.gen != e.Pad {
		return // closed earlier in this turn
	}
	if c.state == connecting {
		c.finishConnect()
		return
	}
	if e.Events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 &&
		c.live() {
		c.read()
	}
}

func (c *Conn) read() {
	l := c.loop
	n := copy(l.buf, c.in)
	got, err := unix.Read(int(c.sys.fd), l.buf[n:])
	l.look()
	switch {
	case !c.live(): // a timer closed it
	case got > 0:
		c.take(l.buf[:n+got])
	case err == nil:
		c.ended()
	case err != unix.EAGAIN && err != unix.EINTR:
		c.fail(os.NewSyscallError("read", err))
	}
}

// flush writes the queued bytes, and asks epoll to report when the rest can be written.
func (c *Conn) flush() {
	if !c.live() {
		return
	}
	if len(c.out) > 0 {
		n, err := unix.Write(int(c.sys.fd), c.out)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			c.fail(os.NewSyscallError("write", err))
			return
		}
		c.sent(max(0, n))
		if c.tooSlow() {
			return
		}
	}
	if want := len(c.out) > 0; want != c.sys.writable {
		c.sys.writable = want
		if err := c.watch(unix.EPOLL_CTL_MOD); err != nil {
			c.fail(err)
		}
	}
}

func (c *Conn) lastWrite() { _, _ = unix.Write(int(c.sys.fd), c.out) }

func (c *Conn) watch(op int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: c.sys.slot, Pad: c.sys.gen}
	if c.sys.writable {
		e.Events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(c.loop.ep, op, int(c.sys.fd), &e))
}

func (c *Conn) closeSocket() {
	l := c.loop
	if c.sys.fd < 0 {
		return // it never had a socket
	}
	unix.Close(int(c.sys.fd)) // removes it from epoll too
	l.slots[c.sys.slot] = nil
	l.freeSlots = append(l.freeSlots, c.sys.slot)
	c.sys.fd = -1
}

// perSource is the number of connections that a loop makes from one loopback address. An
// address has about 28,000 ports, and the kernel searches long for a free one when half
// of them are used.
const perSource = 4096

// dial starts to connect. On loopback it uses further source addresses as the number of
// connections grows, and when all ports of one address are used.
func (l *Loop) dial(c *Conn, addr netip.AddrPort) error {
	if !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
		return l.dialFrom(c, addr, netip.Addr{})
	}
	var err error
	for range 250 {
		var from netip.Addr
		if n := (len(l.slots)-len(l.freeSlots))/perSource + int(l.source); n > 0 {
			from = netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n%250)})
		}
		if err = l.dialFrom(c, addr, from); !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		l.source = (l.source + 1) % 250
	}
	return fmt.Errorf("all ports of all source addresses are used: %w", err)
}

func (l *Loop) dialFrom(c *Conn, addr netip.AddrPort, from netip.Addr) error {
	family := unix.AF_INET
	if !addr.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC,
		unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", openFilesError(err))
	}
	fail := func(call string, err error) error {
		unix.Close(fd)
		return os.NewSyscallError(call, err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fail("setsockopt", err)
	}
	if from.IsValid() {
		// Without this option bind reserves the port for one connection to any address.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT,
			1); err != nil {
			return fail("setsockopt", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return fail("bind", err)
		}
	}
	if err := unix.Connect(fd, sockaddr(addr)); err != nil && err != unix.EINPROGRESS {
		return fail("connect", err)
	}
	c.sys.fd = int32(fd)
	if n := len(l.freeSlots); n > 0 {
		c.sys.slot = l.freeSlots[n-1]
		l.freeSlots = l.freeSlots[:n-1]
		l.slots[c.sys.slot] = c
	} else {
		c.sys.slot = int32(len(l.slots))
		l.slots = append(l.slots, c)
	}
	l.gen++
	c.sys.gen, c.sys.writable = l.gen, true
	if err := c.watch(unix.EPOLL_CTL_ADD); err != nil {
		c.closeSocket()
		return err
	}
	return nil
}

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
}

func (c *Conn) finishConnect() {
	errno, err := unix.GetsockoptInt(int(c.sys.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil {
		c.fail(os.NewSyscallError("connect", err))
		return
	}
	c.sys.writable = false
	if err := c.watch(unix.EPOLL_CTL_MOD); err != nil {
		c.fail(err)
		return
	}
	c.established()
}
