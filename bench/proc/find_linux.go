package proc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// found describes a process to watch.
type found struct {
	pid   int
	stat  stat
	args  []string
	kind  string   // name of the program or role, the same after a restart: "msg", "mariadbd"
	ports []uint16 // TCP ports that it listens on
}

// describe reads the status, the command line and the ports of process pid. A nil s
// leaves the ports out.
func describe(pid int, s *sockets) (found, error) {
	st, err := readStat(pid)
	if err != nil {
		return found{}, err
	}
	f := found{pid: pid, stat: st, args: arguments(pid), kind: st.comm}
	if s != nil {
		f.ports = s.ports(pid)
	}
	if len(f.args) > 0 {
		// Some programs write a title over their command line, as Redis does:
		// "redis-server 127.0.0.1:6379".
		command, _, _ := strings.Cut(f.args[0], " ")
		f.kind = filepath.Base(command)
	}
	if roles := rolesOf(f.args); roles != "" {
		f.kind = roles
	}
	return f, nil
}

// rolesOf returns the roles that a command line of "teamtalk serve" names, as "msg" or
// "login+msg"; "" when it names none.
func rolesOf(args []string) string {
	if !slices.Contains(args, "serve") {
		return ""
	}
	for i, arg := range args {
		roles, ok := strings.CutPrefix(arg, "--roles=")
		if arg == "--roles" && i+1 < len(args) {
			roles, ok = args[i+1], true
		}
		if ok {
			return strings.ReplaceAll(strings.ReplaceAll(roles, " ", ""), ",", "+")
		}
	}
	return ""
}

// called reports whether a process has a name: as its command, as the file of its
// program, or as the kind that describe set.
func called(f found, name string) bool {
	if f.stat.comm == name || f.kind == name || len(name) > 15 && f.stat.comm == name[:15] {
		return true
	}
	exe, err := os.Readlink(of(f.pid, "exe"))
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == name
}

// program returns the file that a process runs; "" when it cannot be read.
func program(pid int) string {
	exe, _ := os.Readlink(of(pid, "exe"))
	return strings.TrimSuffix(exe, " (deleted)")
}

// lookupTimeout bounds the look-up of the name of a host under test.
const lookupTimeout = 5 * time.Second

// resolve returns the addresses of host:port.
func resolve(addr string) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	p, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	var list []netip.AddrPort
	for _, ip := range ips {
		list = append(list, netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(p)))
	}
	return list, nil
}

// localAddrs returns the addresses of this machine.
func localAddrs() map[netip.Addr]bool {
	local := map[netip.Addr]bool{}
	addrs, _ := net.InterfaceAddrs() // after an error loopback remains
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				local[ip.Unmap()] = true
			}
		}
	}
	return local
}

// servers returns the processes that serve the addresses, and the processes that those
// work with. notes says which addresses have no visible process, and why.
func servers(s *sockets, addrs []string, self map[int]bool) (list []int, notes []string) {
	local := localAddrs()
	for _, addr := range addrs {
		targets, err := resolve(addr)
		if err != nil {
			notes = append(notes, err.Error())
			continue
		}
		here := false
		var inodes []uint64
		for _, t := range targets {
			if t.Addr().IsLoopback() || local[t.Addr()] {
				here = true
				inodes = append(inodes, s.listeners(t)...)
			}
		}
		known := false
		for _, inode := range inodes {
			if pid, ok := s.owner[inode]; ok && !self[pid] {
				list, known = append(list, pid), true
			}
		}
		switch {
		case known:
		case !here:
			notes = append(notes,
				fmt.Sprintf("%s is another machine; its processes are not watched", addr))
		case len(inodes) > 0:
			notes = append(notes,
				fmt.Sprintf("the process behind %s belongs to another user, or is this process: "+
					"run as root, or name it with --watch name=pid", addr))
		default:
			notes = append(notes, fmt.Sprintf("no process listens on %s in this network namespace",
				addr))
		}
	}
	return s.reach(distinct(list), self), notes
}

// reach adds to list the processes to which a listed one has opened connections, and the
// listening processes of the same program that have opened connections to a listed one.
// It repeats this for each process that it adds.
func (s *sockets) reach(list []int, self map[int]bool) []int {
	seen := map[int]bool{}
	for _, pid := range list {
		seen[pid] = true
	}
	for i := 0; i < len(list); i++ {
		opened, accepted := s.neighbours(list[i])
		exe := program(list[i])
		accepted = slices.DeleteFunc(accepted, func(pid int) bool {
			return exe == "" ||
				program(pid) != exe || len(s.ports(pid)) == 0
		})
		for _, pid := range append(opened, accepted...) {
			if !seen[pid] && !self[pid] {
				seen[pid] = true
				list = append(list, pid)
			}
		}
	}
	return list
}

// names gives each process a distinct name: its kind; where several have the same kind,
// the kind with the lowest port that it listens on; then the kind with the process id.
// taken are the names in use already.
func names(list []found, taken map[string]bool) []string {
	count := map[string]int{}
	for _, f := range list {
		count[f.kind]++
	}
	result := make([]string, len(list))
	used := map[string]bool{}
	for i, f := range list {
		choices := []string{f.kind}
		if count[f.kind] > 1 || taken[f.kind] {
			choices = nil
			if len(f.ports) > 0 {
				choices = append(choices, fmt.Sprintf("%s :%d", f.kind, f.ports[0]))
			}
		}
		choices = append(choices, fmt.Sprintf("%s #%d", f.kind, f.pid))
		for _, c := range choices {
			if !used[c] && !taken[c] {
				result[i] = c
				break
			}
		}
		if result[i] == "" {
			result[i] = choices[len(choices)-1]
		}
		used[result[i]] = true
	}
	return result
}

// byName returns the processes with a name, in order of their ports and then their ids,
// without those of skip.
func byName(name string, s *sockets, skip map[int]bool) ([]found, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var list []found
	for _, pid := range all {
		if skip[pid] {
			continue
		}
		f, err := describe(pid, s)
		if err != nil || !called(f, name) {
			continue // the process has just ended, or has another name
		}
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b found) int { return slices.Compare(a.ports, b.ports) })
	return list, nil
}

// successor returns the process that has replaced old, which ended: it has the same kind
// and started at since or later, in ticks since the machine started. A process with the
// same command line is preferred, then the one started last.
func successor(old found, since uint64, skip map[int]bool) (found, bool) {
	all, err := pids()
	if err != nil {
		return found{}, false
	}
	var best found
	for _, pid := range all {
		if skip[pid] {
			continue
		}
		f, err := describe(pid, nil)
		if err != nil || f.kind != old.kind || f.stat.start < since || pid == old.pid &&
			f.stat.start == old.stat.start || len(f.args) == 0 {
			continue
		}
		if slices.Equal(f.args, old.args) {
			return f, true
		}
		if best.pid == 0 || f.stat.start > best.stat.start {
			best = f
		}
	}
	return best, best.pid != 0
}
