package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// encrypted is a connection with TLS.
type encrypted struct{ *tls.Conn }

// Close closes the socket at once. That of tls.Conn may wait seconds for a peer that does
// not read, and the callers of Close hold locks that event loops need. Frames have a length,
// so the peer sees whether the last one is whole.
func (c encrypted) Close() error { return c.NetConn().Close() }

// errNoHeartbeat reports a peer that is no server of ours with TLS.
var errNoHeartbeat = errors.New("link: the peer does not begin with a heartbeat")

// DialTLS connects to another server with TLS. It returns when the peer has accepted the
// certificate of this server: it then sends a heartbeat. With TLS 1.3 the end of our own
// handshake does not say so.
func DialTLS(ctx context.Context, d *tls.Dialer, addr string) (net.Conn, error) {
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := encrypted{nc.(*tls.Conn)}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the read
	defer stop()
	var head [pdu.HeaderLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		_ = c.Close() // the first error is the cause
		return nil, fmt.Errorf("the peer refuses the certificate of this server: %w", err)
	}
	h, _, _, err := pdu.Next(head[:], len(head))
	if err == nil && h.Command != pb.CmdHeartBeat {
		err = errNoHeartbeat
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
