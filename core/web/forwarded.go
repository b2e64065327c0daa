package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// forwarded gives a request of a proxy in Options.Forwarders the address of its client. A
// request without a usable header keeps the address of the proxy, and its headers.
func (s *Server) forwarded(r *http.Request) {
	if len(s.opt.Forwarders) == 0 {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.opt.Forwarders.Contains(peer.Addr()) {
		return
	}
	client := s.clientOf(r.Header)
	if !client.IsValid() {
		return
	}
	r.RemoteAddr = netip.AddrPortFrom(client, 0).String() // no header tells the port
	// Handlers take these headers for those of a proxy that nobody trusts.
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"} {
		r.Header.Del(name)
	}
}

// clientOf returns the address of the client: the last one in X-Forwarded-For that is not of a
// proxy, since a client can send the ones before it. Without this header, it is the one in
// X-Real-IP. The address is not valid when there is none.
func (s *Server) clientOf(h http.Header) (client netip.Addr) {
	lines := h.Values("X-Forwarded-For")
	if len(lines) == 0 {
		if lines = h.Values("X-Real-Ip"); len(lines) != 1 {
			return netip.Addr{}
		}
	}
	all := strings.Split(strings.Join(lines, ","), ",")
	for i := len(all) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(all[i]))
		if err != nil || a.Zone() != "" {
			return netip.Addr{}
		}
		client = a.Unmap()
		if !s.opt.Forwarders.Contains(client) {
			break
		}
	}
	return client
}
