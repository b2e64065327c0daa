package system

import (
	"net"
	"net/netip"
)

// advertised returns the address of the message server that clients are told: the
// settings', else the host and port listened on, else an address of this machine.
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

// ownAddress returns the first global IPv4 address of this machine's interfaces, under
// which other machines probably reach it; 127.0.0.1 without a network.
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

// reachable returns addr, an address listened on, in the form in which it can be dialed
// on this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, bad := netip.ParseAddr(host); host == "" || bad == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
