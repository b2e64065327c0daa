package web

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The headers in which proxies name the client of a request. Options.ClientHeader has one of
// them.
const (
	// HeaderXForwardedFor is a list of addresses, and in its absence X-Real-IP.
	HeaderXForwardedFor = "x-forwarded-for"
	// HeaderXRealIP is one address.
	HeaderXRealIP = "x-real-ip"
	// HeaderForwarded is the list of RFC 7239.
	HeaderForwarded = "forwarded"
)

// forwarded gives a request of a proxy in Options.Forwarders the address of its client. A
// request without a usable header keeps the address of the proxy, and its headers, and
// HidesClient reports it.
//
// One header counts, since a proxy passes on what a client sent in the others.
func (s *Server) forwarded(r *http.Request) *http.Request {
	if len(s.opt.Forwarders) == 0 {
		return r
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.opt.Forwarders.Contains(peer.Addr()) {
		return r
	}
	client := s.clientOf(r.Header)
	if !client.IsValid() {
		if !Proxied(r) {
			return r // a program on the machine of the proxy
		}
		return r.WithContext(context.WithValue(r.Context(), hiddenKey{}, true))
	}
	r.RemoteAddr = netip.AddrPortFrom(client, 0).String() // most headers tell no port
	// Handlers take these headers for those of a proxy that nobody trusts.
	for _, name := range forwardedBy {
		r.Header.Del(name)
	}
	return r
}

// forwardedBy are the headers in which proxies name themselves, or the client of a request.
var forwardedBy = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"}

// Proxied reports whether a request has a header of a proxy. A proxy of Options.Forwarders that
// names the client leaves none.
func Proxied(r *http.Request) bool {
	return slices.ContainsFunc(forwardedBy, func(h string) bool { return len(r.Header[h]) > 0 })
}

type hiddenKey struct{}

// HidesClient reports whether a proxy of Options.Forwarders passed on a request without a usable
// address of its client. Then the address of the request is that of the proxy.
func HidesClient(r *http.Request) bool { return r.Context().Value(hiddenKey{}) != nil }

// clientOf returns the address of the client. In a list it is the last one that is not of a
// proxy, since a client can send the ones before it. The address is not valid when there is
// none.
func (s *Server) clientOf(h http.Header) (client netip.Addr) {
	switch s.opt.ClientHeader {
	case HeaderForwarded:
		return s.lastOf(h.Values("Forwarded"), cutForwarded)
	case HeaderXRealIP:
		return realIP(h)
	}
	if lines := h.Values("X-Forwarded-For"); len(lines) > 0 {
		return s.lastOf(lines, cutXForwardedFor)
	}
	return realIP(h)
}

// realIP returns the address in X-Real-IP.
func realIP(h http.Header) netip.Addr {
	if lines := h.Values("X-Real-Ip"); len(lines) == 1 {
		return plainAddress(lines[0])
	}
	return netip.Addr{}
}

// lastOf returns the last address in the lines of a header that is not of a proxy; not valid
// after an element without one. cut removes the last element of a line.
func (s *Server) lastOf(
	lines []string, cut func(line string) (before string, last netip.Addr, more bool),
) (client netip.Addr) {
	for i := len(lines) - 1; i >= 0; i-- {
		for line, more := lines[i], true; more; {
			line, client, more = cut(line)
			if !client.IsValid() || !s.opt.Forwarders.Contains(client) {
				return client
			}
		}
	}
	return client
}

// plainAddress returns an address, behind which some proxies write a port; not valid for another
// text.
func plainAddress(text string) netip.Addr {
	text = strings.TrimSpace(text)
	a, err := netip.ParseAddr(text)
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(text) // 192.0.2.1:80 or [2001:db8::1]:80
		a = ap.Addr()
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// cutXForwardedFor removes the last address of a line of X-Forwarded-For.
func cutXForwardedFor(line string) (before string, last netip.Addr, more bool) {
	i := strings.LastIndexByte(line, ',')
	return line[:max(0, i)], plainAddress(line[i+1:]), i >= 0
}

// cutForwarded removes the last element of a line of Forwarded (RFC 7239, section 4), and
// returns the address in its parameter "for"; not valid without one, or when the element is
// malformed. It reads from the right: what a client sent before the element of a proxy, such as
// a quote that is never closed, has no influence on that element.
func cutForwarded(line string) (before string, last netip.Addr, more bool) {
	var bad netip.Addr
	found := false
	for {
		begin, sep := lastPair(line)
		name, value, _ := strings.Cut(strings.TrimSpace(line[begin:]), "=")
		switch {
		case name == "" && value == "": // the grammar allows empty pairs
		case !token(name), strings.EqualFold(name, "for") && found:
			return "", bad, false
		case strings.EqualFold(name, "for"):
			last, found = node(value), true
		}
		line = line[:max(0, begin-1)]
		if sep != ';' {
			return line, last, sep == ','
		}
	}
}

// lastPair returns the begin of the last pair of name and value in a text, and the separator
// before it, a comma or a semicolon; 0 for none.
func lastPair(text string) (begin int, separator byte) {
	quoted := false
	for i := len(text) - 1; i >= 0; i-- {
		switch c := text[i]; {
		case c == '"' && (!quoted || !escaped(text[:i])):
			quoted = !quoted
		case !quoted && (c == ',' || c == ';'):
			return i + 1, c
		}
	}
	return 0, 0
}

// escaped reports whether a backslash before a character takes away its meaning.
func escaped(before string) bool {
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

// token reports whether a name is a token of HTTP (RFC 9110, section 5.6.2).
func token(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}

// node returns the address in the value of "for" (RFC 7239, section 6), whose port is optional;
// not valid for "unknown" and the other names that hide an address.
func node(value string) netip.Addr {
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		if inner, ok = strings.CutSuffix(inner, `"`); !ok {
			return netip.Addr{}
		}
		value = strings.ReplaceAll(inner, `\`, "") // no address has an escaped backslash
	}
	host, port, bracketed := value, "", strings.HasPrefix(value, "[")
	switch {
	case bracketed:
		var closed bool
		if host, port, closed = strings.Cut(value[1:], "]"); !closed {
			return netip.Addr{}
		}
	case strings.Count(value, ":") == 1:
		i := strings.IndexByte(value, ':')
		host, port = value[:i], value[i:]
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || bracketed != a.Is6() && a.Is4() ||
		port != "" && (port[0] != ':' || !token(port[1:])) {
		return netip.Addr{}
	}
	return a.Unmap()
}
