package proc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// sockets holds the sockets of the machine at one moment. The inode identifies a socket.
type sockets struct {
	listening []listener
	conns     map[uint64]ends // TCP connections by inode
	at        map[ends]uint64 // inodes by TCP connection
	// unix sockets that have a name: listeners, and the ends that they accepted
	paths map[uint64]string
	peers map[uint64]uint64 // inode of the other end of a unix connection
	owner map[uint64]int    // process that has the socket open, as far as it can be read
	of    map[int][]uint64  // sockets of each process
}

type listener struct {
	addr  netip.AddrPort
	inode uint64
}

type ends struct{ local, remote netip.AddrPort }

func (e ends) swapped() ends { return ends{e.remote, e.local} }

// readSockets reads all sockets. Those that this user cannot read are missing. The owners
// of the sockets of processes in skip are missing too: skip names generators, which have
// very many sockets.
func readSockets(skip map[int]bool) (*sockets, error) {
	s := &sockets{conns: map[uint64]ends{}, at: map[ends]uint64{}, paths: map[uint64]string{},
		owner: map[uint64]int{}, of: map[int][]uint64{}}
	if list, err := tcpSockets(); err == nil {
		for _, c := range list {
			s.addSocket(c)
		}
	} else if err := s.readTCP(); err != nil {
		return nil, err
	}
	if b, err := os.ReadFile(proc + "/net/unix"); err == nil {
		s.addUnix(string(b))
		s.peers = unixPeers()
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	for _, pid := range all {
		if !skip[pid] {
			s.addOwner(pid)
		}
	}
	return s, nil
}

// readTCP reads the tables of TCP sockets, for kernels that do not list them.
func (s *sockets) readTCP() error {
	for _, name := range []string{"/net/tcp", "/net/tcp6"} {
		b, err := os.ReadFile(proc + name)
		if err != nil {
			if name == "/net/tcp6" {
				continue // no IPv6 here
			}
			return err
		}
		if err := s.addTCP(string(b)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// addSocket adds a TCP socket.
func (s *sockets) addSocket(c tcpSocket) {
	if c.listens {
		s.listening = append(s.listening, listener{c.local, c.inode})
	} else {
		s.conns[c.inode], s.at[c.ends] = c.ends, c.inode
	}
}

// addTCP parses a table such as
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//	 0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 123 …
func (s *sockets) addTCP(table string) error {
	const established, listen = "01", "0A"
	first := true
	for line := range strings.Lines(table) {
		if first {
			first = false
			continue
		}
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != established && f[3] != listen {
			continue
		}
		local, err := parseHexAddr(f[1])
		if err != nil {
			return err
		}
		inode, err := strconv.ParseUint(f[9], 10, 64)
		if err != nil {
			return fmt.Errorf("inode %q: %w", f[9], err)
		}
		remote, err := parseHexAddr(f[2])
		if err != nil {
			return err
		}
		s.addSocket(tcpSocket{f[3] == listen, ends{local, remote}, inode})
	}
	return nil
}

// parseHexAddr parses an address as the kernel prints it: words of four bytes, each in
// the byte order of the machine.
func parseHexAddr(text string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("unexpected address %q", text)
	}
	for word := range slices.Chunk(b, 4) {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("unexpected address %q", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), nil
}

// addUnix parses the names in a table such as
//
//	Num               RefCount Protocol Flags    Type St Inode Path
//	0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/mysqld/mysqld.sock
func (s *sockets) addUnix(table string) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		if inode, err := strconv.ParseUint(f[6], 10, 64); err == nil {
			s.paths[inode] = f[7]
		}
	}
}

// addOwner records which sockets a process has. Only root can read those of the processes
// of other users.
func (s *sockets) addOwner(pid int) {
	names, err := readNames(of(pid, "fd"))
	if err != nil {
		return
	}
	dir := of(pid, "fd") + "/"
	for _, name := range names {
		target, err := os.Readlink(dir + name)
		if err != nil {
			continue
		}
		text, ok := strings.CutPrefix(target, "socket:[")
		if !ok {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64); err == nil {
			s.of[pid] = append(s.of[pid], inode)
			// a child that inherited the socket mostly has a higher pid
			if _, taken := s.owner[inode]; !taken {
				s.owner[inode] = pid
			}
		}
	}
}

// listeners returns the sockets that accept connections to an address.
func (s *sockets) listeners(addr netip.AddrPort) []uint64 {
	var exact, wild []uint64
	for _, l := range s.listening {
		switch {
		case l.addr.Port() != addr.Port():
		case l.addr.Addr() == addr.Addr():
			exact = append(exact, l.inode)
		case l.addr.Addr().IsUnspecified():
			wild = append(wild, l.inode)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return wild
}

// ports returns the TCP ports that a process listens on, in increasing order.
func (s *sockets) ports(pid int) []uint16 {
	mine := map[uint64]bool{}
	for _, inode := range s.of[pid] {
		mine[inode] = true
	}
	var list []uint16
	for _, l := range s.listening {
		if mine[l.inode] {
			list = append(list, l.addr.Port())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// neighbours returns the processes to which pid has opened connections, and those that
// have opened connections to pid.
func (s *sockets) neighbours(pid int) (opened, accepted []int) {
	ports := s.ports(pid)
	for _, inode := range s.of[pid] {
		if e, ok := s.conns[inode]; ok {
			other, ok := s.owner[s.at[e.swapped()]]
			switch {
			case !ok || other == pid:
			case slices.Contains(ports, e.local.Port()):
				accepted = append(accepted, other)
			default:
				opened = append(opened, other)
			}
			continue
		}
		// An end that a unix listener accepted carries the name of the listener. The end
		// that connected has no name.
		peer, ok := s.peers[inode]
		if other := s.owner[peer]; ok && other != 0 && other != pid && s.paths[peer] != "" &&
			s.paths[inode] == "" {
			opened = append(opened, other)
		}
	}
	return distinct(opened), distinct(accepted)
}

func distinct(list []int) []int {
	slices.Sort(list)
	return slices.Compact(list)
}
