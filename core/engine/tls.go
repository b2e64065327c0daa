package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/tlsconn"
	"teamtalk/proto/pb"
)

// secure is the TLS of a connection. Loop only.
type secure struct {
	*tlsconn.Conn
	cn   *conn
	rest []byte // the begin of a frame in plain text
	// proven reports that the handshake has ended well.
	proven bool
}

// newSecure returns the TLS of a connection.
func newSecure(cn *conn) *secure {
	x := &secure{cn: cn}
	x.Conn = tlsconn.New(cn.loop.server.opt.TLS, x)
	return x
}

// detect decides by the first byte that has arrived whether a connection has TLS. The first
// byte of a frame is the highest one of its length, at most 4: one port serves both.
func (cn *conn) detect(first byte) {
	s := cn.loop.server
	cn.traits |= detected
	switch {
	case first == tlsconn.FirstByte && s.opt.TLS != nil:
		if cn.tls == nil {
			cn.tls = newSecure(cn)
		}
	case cn.traits&proxiedTLS == 0 && !s.plain(cn.s.RemoteAddr().Addr()):
		s.notePlain(cn)
		if cn.tls != nil {
			cn.tls.TakeWaiting() // it never leaves, and closing would wait for it
		}
		cn.s.Close(session.ErrPlain)
	case cn.tls != nil: // a link whose role waited to know whether it has TLS
		waiting := cn.tls.TakeWaiting()
		cn.tls = nil
		if err := cn.Write(waiting); err != nil {
			cn.s.Close(err)
		}
	}
}

// prove makes a heartbeat the first frame of a link with TLS. The dialling server waits for
// it: with TLS 1.3 its own handshake ends before this one has checked its certificate.
func (cn *conn) prove() {
	if cn.loop.server.opt.Links != nil {
		// Before the handshake the frame is kept, which cannot fail.
		_ = cn.tls.Write(pdu.AppendHeader(nil, pb.CmdHeartBeat, 0), cn.loop.tlsBuffers())
	}
}

// remedies say what to change when a peer of a link is refused, by the reason of tlsconn.Reason.
var remedies = map[string]string{
	"plaintext": "give that server certificates too (section link_tls), or allow links without " +
		"TLS with link_tls.cpp_plaintext",
	"no certificate": "give that server one: teamtalk cert server NAME (section link_tls)",
	"certificate of another CA": "make its certificate with the CA of this server, or put " +
		"both CAs into link_tls.ca",
	"expired certificate": "give that server a new one: teamtalk cert server NAME. If its CA has " +
		"ended, make a CA and all certificates anew: teamtalk cert ca",
	"wrong certificate": "give that server one for the usages server and client: " +
		"teamtalk cert server NAME",
	"failed handshake": "that server may refuse the certificate of this one: both need " +
		"certificates of the same CA (link_tls.ca)",
}

// notePlain counts and logs a connection that must use TLS and does not.
func (s *Server) notePlain(cn *conn) {
	if s.opt.Links != nil {
		s.noteUnproven(cn, tlsconn.ErrHello)
		return
	}
	s.noteRefused("plaintext", fmt.Errorf("%s: a client without TLS is not in tls.plain_networks",
		cn.s.RemoteAddr().Addr()))
}

// noteUnproven counts and logs the peer of a link that has not proved that it is a server
// of this deployment.
func (s *Server) noteUnproven(cn *conn, err error) {
	if s.opt.Links != nil {
		why := tlsconn.Reason(err)
		err = fmt.Errorf("%s: %w", cn.s.RemoteAddr(), err)
		if remedy := remedies[why]; remedy != "" {
			err = fmt.Errorf("%w: %s", err, remedy)
		}
		s.noteRefused(why, err)
	}
}

// plain reports whether a connection may do without TLS.
func (s *Server) plain(from netip.Addr) bool {
	return s.opt.TLS == nil || s.opt.Plain != nil && s.opt.Plain(from)
}

// tlsBuffers returns what the connections of the loop share. Loop only.
func (l *loop) tlsBuffers() *tlsconn.Buffers {
	if l.buffers == nil {
		l.buffers = tlsconn.NewBuffers()
	}
	return l.buffers
}

// read decrypts buf, the bytes that have arrived, and passes whole frames to the handler.
// It reports whether one was no heartbeat.
func (x *secure) read(buf []byte) (asks bool) {
	cn := x.cn
	used, err := x.Input(buf, cn.loop.tlsBuffers(), func(plain []byte) {
		asks = x.frames(plain) || asks
	})
	if err == nil {
		cn.need = int32(x.Need(buf[used:]))
	}
	if used > 0 && !cn.closed { // Discard(0) would discard everything
		_, _ = cn.c.Discard(used)
	}
	x.ended(err)
	return asks
}

// ended closes the connection after an error. io.EOF is the client's end.
func (x *secure) ended(err error) {
	switch {
	case err == nil || x.cn.closed:
	case errors.Is(err, io.EOF):
		x.cn.Close()
	default:
		if !x.proven {
			if errors.Is(err, tlsconn.ErrHello) {
				x.Refused(err) // no handshake has begun
			}
			x.TakeWaiting() // it never leaves, and closing would wait for it
		}
		x.cn.s.Close(err)
	}
}

// frames passes the whole frames of the plain text to the handler, and keeps the rest.
func (x *secure) frames(plain []byte) (asks bool) {
	if x.rest == nil {
		used, asks := x.cn.frames(plain)
		if used < len(plain) {
			x.rest = bytes.Clone(plain[used:])
		}
		return asks
	}
	x.rest = append(x.rest, plain...)
	used, asks := x.cn.frames(x.rest)
	if x.rest = x.rest[used:]; len(x.rest) == 0 {
		x.rest = nil // an idle connection holds no buffer
	}
	return asks
}

// Send implements tlsconn.Transport.
func (x *secure) Send(p []byte) error {
	if x.cn.closed {
		return errClosed
	}
	_, err := x.cn.c.Write(p)
	return err
}

// Post implements tlsconn.Transport.
func (x *secure) Post(f func()) { x.cn.loop.Post(f) }

// Ready implements tlsconn.Transport.
func (x *secure) Ready(err error) {
	if err == nil {
		x.proven = true
		err = x.Flush(x.cn.loop.tlsBuffers(), func(plain []byte) { x.frames(plain) })
		x.cn.need = 0 // frames counts plain text
	}
	x.ended(err)
	if cn := x.cn; cn.stranger != nil {
		cn.heard(cn.loop.server.opt.Strangers) // the memory of the handshake is free
	}
}

// Refused implements tlsconn.Refuser.
func (x *secure) Refused(err error) { x.cn.loop.server.noteUnproven(x.cn, err) }

// held returns the bytes that wait beside those of gnet.
func (x *secure) held() int { return x.Held() + len(x.rest) }
