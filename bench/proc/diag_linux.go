package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// dump asks the kernel for all sockets of a kind, see sock_diag(7). request is the structure behind
// the header. Each answer goes to add.
func dump(request []byte, add func(message []byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	req := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(request))
	binary.NativeEndian.PutUint32(req, uint32(cap(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req = append(req, request...)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		if done, err := parseDump(buf[:n], add); done || err != nil {
			return err
		}
	}
}

// parseDump calls add for each netlink message. It reports whether the last one has arrived.
func parseDump(b []byte, add func(message []byte)) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return true, fmt.Errorf("netlink message of %d bytes in %d", n, len(b))
		}
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return true, errors.New("the kernel does not list sockets")
		}
		add(b[unix.NLMSG_HDRLEN:n])
		b = b[min(aligned(n), len(b)):]
	}
	return len(b) > 0, nil
}

// aligned rounds a length in a netlink message up.
func aligned(n int) int { return (n + 3) &^ 3 }

// States of TCP sockets, for the kernel.
const (
	tcpEstablished = 1
	tcpListen      = 10
)

// tcpSocket is a listening or connected TCP socket. A listening one has no remote address.
type tcpSocket struct {
	listens bool
	ends
	inode uint64
}

// tcpSockets asks the kernel for the listening and the connected sockets. The tables in /proc have
// those that have ended too: with 10,000 of them, as a run leaves for a minute, to read them takes
// 59 ms of processor time, and to ask 9 ms.
func tcpSockets() (list []tcpSocket, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, 56) // struct inet_diag_req_v2
		request[0], request[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(request[4:], 1<<tcpEstablished|1<<tcpListen)
		if err := dump(request, func(m []byte) {
			if s, ok := parseInetDiag(m); ok {
				list = append(list, s)
			}
		}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseInetDiag parses a struct inet_diag_msg.
func parseInetDiag(m []byte) (s tcpSocket, ok bool) {
	if len(m) < 72 {
		return s, false
	}
	length := 4
	if m[0] == unix.AF_INET6 {
		length = 16
	}
	addr := func(port, at int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(m[at : at+length]) // 4 or 16 bytes
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(m[port:]))
	}
	s = tcpSocket{m[1] == tcpListen, ends{addr(4, 8), addr(6, 24)},
		uint64(binary.NativeEndian.Uint32(m[68:]))}
	return s, s.listens || m[1] == tcpEstablished
}

// unixPeers asks the kernel which unix sockets are connected to each other, which /proc
// does not tell. It returns what the kernel has told before an error.
func unixPeers() map[uint64]uint64 {
	const showPeer = 4          // UDIAG_SHOW_PEER
	request := make([]byte, 24) // struct unix_diag_req
	request[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0)) // in every state
	binary.NativeEndian.PutUint32(request[12:], showPeer)
	peers := map[uint64]uint64{}
	_ = dump(request, func(m []byte) { addUnixPeer(m, peers) })
	return peers
}

// addUnixPeer parses a struct unix_diag_msg with its attributes.
func addUnixPeer(m []byte, peers map[uint64]uint64) {
	const message, attrPeer = 16, 2 // bytes of struct unix_diag_msg; UNIX_DIAG_PEER
	if len(m) < message {
		return
	}
	inode := uint64(binary.NativeEndian.Uint32(m[4:]))
	for attrs := m[message:]; len(attrs) >= 4; {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < 4 || size > len(attrs) {
			return
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrPeer && size >= 8 {
			peers[inode] = uint64(binary.NativeEndian.Uint32(attrs[4:]))
		}
		attrs = attrs[min(aligned(size), len(attrs)):]
	}
}
