// Package address finds the addresses that clients are told for the ports of a process.
package address

import (
	"net"
	"net/netip"
	"strconv"

	"teamtalk/core/config"
	"teamtalk/handlers/file"
)

// Msg returns the address of the message server that clients are told: the settings', else
// the host and port listened on, else an address of this machine. at is the address that its
// port listens on.
func Msg(cfg *config.Msg, at net.Addr) (ip1, ip2 string, number int) {
	ip1, ip2, number = cfg.AdvertiseIP1, cfg.AdvertiseIP2, cfg.AdvertisePort
	if ip1 == "" {
		if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
			ip1 = host
		}
		if addr, err := netip.ParseAddr(ip1); ip1 == "" || (err == nil && addr.IsUnspecified()) {
			ip1 = Own()
		}
	}
	if ip2 == "" {
		ip2 = ip1
	}
	if number == 0 {
		number = at.(*net.TCPAddr).Port
	}
	return ip1, ip2, number
}

// Own returns the first global IPv4 address of this machine's interfaces, under
// which other machines probably reach it; 127.0.0.1 without a network.
func Own() string {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// Reachable returns addr, an address listened on, in the form in which it can be dialed
// on this machine.
func Reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, bad := netip.ParseAddr(host); host == "" || bad == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// public returns the host for clients of ports that listen on all addresses: the one at which
// clients reach the message server of this process, else an address of this machine. A
// certificate holds the former.
func public(cfg *config.Config) string {
	if cfg.Runs("msg") && cfg.Msg.AdvertiseIP1 != "" {
		return cfg.Msg.AdvertiseIP1
	}
	return Own()
}

// Web returns the URL that clients are told: the setting's, which is set, else that of the host
// and the port of l. l is nil when no port is open; the URL is empty then, unless it is set.
func Web(cfg *config.Config, set string, l *net.TCPListener) string {
	if set != "" || l == nil {
		return set
	}
	at := l.Addr().(*net.TCPAddr)
	host := at.IP.String()
	if ip, ok := netip.AddrFromSlice(at.IP); ok && ip.IsUnspecified() {
		host = public(cfg)
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(at.Port))
}

// File returns the address of the file server that clients are told: the
// settings', else the address listened on, else that of the message server of this process, else
// an address of this machine.
func File(cfg *config.Config, at *net.TCPAddr) file.Address {
	a := file.Address{IP: cfg.File.AdvertiseIP, Port: uint32(cfg.File.AdvertisePort)}
	if a.IP == "" {
		a.IP = at.IP.String()
		if ip, ok := netip.AddrFromSlice(at.IP); !ok || ip.IsUnspecified() {
			a.IP = public(cfg)
		}
	}
	if a.Port == 0 {
		a.Port = uint32(at.Port)
	}
	return a
}
