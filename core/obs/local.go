package obs

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The port asks for no password, and an operator's browser reaches it. A page of another site can
// make that browser send requests: directly, which the browser says in Sec-Fetch-Site, or through a
// name of its own that leads to this machine (DNS rebinding), which shows in Host.

// local refuses requests that a page of another site has caused. addr is the port's own.
func local(addr net.Addr, next http.Handler) http.Handler {
	tcp, ok := addr.(*net.TCPAddr)
	loopback := ok && tcp.IP.IsLoopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case foreign(r.Header):
			http.Error(w, "not for the pages of another site", http.StatusForbidden)
		case loopback && !ownHost(r.Host):
			http.Error(w, "this port is for this machine: use localhost or an IP address, not "+
				"another name", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// foreign reports whether a page of another site has caused a request. A link there that the
// operator follows is allowed.
func foreign(h http.Header) bool {
	switch h.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return h.Get("Sec-Fetch-Mode") != "navigate" || h.Get("Sec-Fetch-Dest") != "document"
	}
	return false
}

// ownHost reports whether a request names this machine by a name that nobody else can have. Old
// clients name none.
func ownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
	_, err := netip.ParseAddr(name)
	return err == nil || name == "" || strings.EqualFold(name, "localhost") ||
		strings.HasSuffix(strings.ToLower(name), ".localhost")
}

// tell returns a function that tells a listener which of its connections are being answered; nil
// for a listener that does not ask.
func tell(l net.Listener) func(net.Conn, http.ConnState) {
	b, ok := l.(interface{ Busy(c net.Conn, busy bool) })
	if !ok {
		return nil
	}
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateActive: // the header of a request has arrived
			b.Busy(c, true)
		case http.StateIdle:
			b.Busy(c, false)
		}
	}
}
