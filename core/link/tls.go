package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

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

// advise adds to the error of a handshake what to change. It returns other errors unchanged.
func advise(err error) error {
	var record tls.RecordHeaderError
	var wrong *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var network *net.OpError
	advice := ""
	switch {
	case errors.As(err, &unknown):
		advice = "make the certificate of that server with the CA of this one, or put both CAs " +
			"into link_tls.ca"
	case errors.As(err, &invalid), errors.As(err, &wrong):
		advice = "give that server a new certificate: teamtalk cert server NAME"
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		advice = "that server seems to have no TLS: give it the section link_tls, or set " +
			"link_tls.cpp_plaintext = \"dial\" here"
	case errors.As(err, &network) && network.Op == "remote error":
		advice = "that server refuses this one: both need certificates of the same CA"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, advice)
}

// errNothing reports a peer that closes the connection of a link without TLS before it sends
// anything. A port that needs TLS does so.
var errNothing = errors.New("link: the peer closed the connection before it sent anything: if it " +
	"has the section link_tls, this server needs it too")

// DialTLS connects to another server with TLS. It returns when the peer has accepted the
// certificate of this server: it then sends a heartbeat. With TLS 1.3 the end of our own
// handshake does not say so.
func DialTLS(ctx context.Context, d *tls.Dialer, addr string) (net.Conn, error) {
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, advise(err)
	}
	c := encrypted{nc.(*tls.Conn)}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the read
	defer stop()
	var head [pdu.HeaderLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		_ = c.Close() // the first error is the cause
		return nil, fmt.Errorf("the peer refuses the certificate of this server: %w: "+
			"both need one of the same CA, for the usages server and client, such as those of "+
			"teamtalk cert server (section link_tls)", err)
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
