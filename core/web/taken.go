package web

import (
	"net"
	"net/netip"

	"teamtalk/core/tlsconn"
)

// Taken is a connection that has left net/http, for a part of this process that moves its bytes in
// another way.
type Taken struct {
	// TCP is the socket.
	TCP *net.TCPConn
	// TLS is nil without TLS.
	TLS *tlsconn.Blocking
	// Client is the address of the client.
	Client netip.AddrPort
	// Secure says that the client has TLS, which a proxy may end.
	Secure bool
	// Begin is what the client has sent and the new owner has to read first, in plain text.
	Begin []byte
}

// Take passes a connection that a handler has got from Hijack to another owner, which closes the
// socket. t holds what this package does not know: Client, Secure and Begin. With false the
// connection is still the handler's, and the error is that of owner.
func Take(c net.Conn, t Taken, owner func(Taken) error) (taken bool, err error) {
	switch c := c.(type) {
	case *detecting:
		t.TCP, t.TLS = c.TCPConn, c.secure
	case *conn:
		t.TCP = c.TCPConn
	default:
		return false, nil
	}
	if err := owner(t); err != nil {
		return false, err
	}
	counted(c).end()
	return true, nil
}
