package tcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"teamtalk/core/im"
)

// ValidHost reports whether s is an IP address or a host name.
func ValidHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, "%") // a zone has no meaning on another machine
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return true
}

// Dialer opens a connection, as net.Dialer does.
type Dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// DialFirst returns a connection to the first address that accepts one.
func DialFirst(ctx context.Context, dial Dialer, addrs []string) (net.Conn, error) {
	var all error
	for i, addr := range addrs {
		nc, err := dialShare(ctx, dial, addr, len(addrs)-i)
		if err == nil {
			return nc, nil
		}
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return nil, im.WithKind(im.Unavailable, "connect to message server", all)
}

// dialShare dials with an equal share of the time until the deadline of ctx; left is the
// number of addresses that remain to be tried, this one included.
func dialShare(ctx context.Context, dial Dialer, addr string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return dial(ctx, "tcp", addr)
}
