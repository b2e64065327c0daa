package proxyproto

import (
	"encoding/binary"
	"net/netip"
)

// Append appends a header of version 2 that names a client to b, for a server that connects to
// another one for its clients. to is the address that the client connected to; not valid: that of
// the client stands in its place. A header without a valid Source is that of the proxy itself.
func Append(b []byte, h Header, to netip.AddrPort) []byte {
	b = append(b, signature...)
	if !h.Source.IsValid() {
		return append(b, version2<<4|local, unspecified, 0, 0)
	}
	if !to.IsValid() {
		to = h.Source
	}
	source, target := h.Source.Addr().Unmap(), to.Addr().Unmap()
	family := byte(tcp4)
	if source.Is6() || target.Is6() {
		family = tcp6
		source, target = netip.AddrFrom16(source.As16()), netip.AddrFrom16(target.As16())
	}
	b = append(b, version2<<4|proxied, family, 0, 0)
	begin := len(b)
	b = append(b, source.WithZone("").AsSlice()...)
	b = append(b, target.WithZone("").AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	if h.Secure {
		// The client has TLS, and has shown no certificate (a result that is not 0).
		b = append(b, typeSSL, 0, 5, clientSSL, 0, 0, 0, 1)
	}
	binary.BigEndian.PutUint16(b[begin-2:], uint16(len(b)-begin))
	return b
}
