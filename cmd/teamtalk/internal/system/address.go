package system

import (
	"net"
	"net/netip"
)

// advertised is where clients reach the message server: as set, else the host listened on, else an address of this machine.
func (s *system) advertised(p *port) (ip1, ip2 string, number int) {
	cfg := s.cfg.Msg
	ip1, ip2, number = cfg.AdvertiseIP1, cfg.AdvertiseIP2, cfg.AdvertisePort
	if ip1 == "" {
		if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
			ip1 = host
		}
		if addr, err := netip.ParseAddr(ip1); ip1 == "" || (err == nil && addr.IsUnspecified()) {
			ip1 = ownAddress()
		}
	}
	if ip2 == "" {
		ip2 = ip1
	}
	if number == 0 {
		number = p.Addr().(*net.TCPAddr).Port
	}
	return ip1, ip2, number
}

// ownAddress is an IPv4 address under which others reach this machine, as far as it can tell; 127.0.0.1 where it has no network.
func ownAddress() string {
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

// reachable is an address listened on as somebody on this machine would type it.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
