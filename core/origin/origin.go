// Package origin groups connections by the address from which they come.
package origin

import (
	"fmt"
	"math/bits"
	"net/netip"
)

// Networks is a set of networks.
type Networks []netip.Prefix

// ParseNetworks parses networks such as 10.0.0.0/8. An error names the setting.
func ParseNetworks(setting string, list []string) (Networks, error) {
	var n Networks
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("setting %s: %w", setting, err)
		}
		n = append(n, p.Masked())
	}
	return n, nil
}

// ParseNetwork parses a network. One of IPv4 in the form of IPv6 would contain no address, since
// the addresses of clients are compared in the form of IPv4.
func ParseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no network such as 10.0.0.0/8", s)
	case p.Addr().Is4In6() && p.Bits() >= 96:
		v4 := netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
		return p, fmt.Errorf("%q is IPv4 in the form of IPv6: write %s", s, v4)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is no network of IPv6, nor one of IPv4", s)
	}
	return p, nil
}

// Contains reports whether a network of the set contains a. An IPv4 address in the form of
// IPv6 counts as IPv4.
func (n Networks) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Key returns the address under which the connections from a count: a itself, or its IPv6
// network of 64 bits, which belongs to one household or one host.
func Key(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	if p, err := a.WithZone("").Prefix(64); err == nil {
		return p.Addr()
	}
	return a
}

// Classes is the number of classes.
const Classes = 32

// Class returns the class of a connection whose address has n connections, itself included:
// the logarithm of n to the base 2. At most 2^(k+1)-1 connections of one address are in the
// classes up to k, in whatever order they open and close. So when a port closes a connection
// of the highest class first, an address with many connections loses its own, and another
// address keeps its few.
func Class(n int) int { return min(bits.Len(uint(max(1, n)))-1, Classes-1) }
