package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
)

// Blocking is the server's end of a TLS connection that goroutines read and write, and that an
// event loop may take over later, with Adopt. One goroutine at a time reads, and one writes.
type Blocking struct {
	*tls.Conn
	at *transport
}

// NewBlocking returns the server's end of a TLS connection on c.
func NewBlocking(c net.Conn, config *tls.Config) *Blocking {
	at := &transport{Conn: c}
	return &Blocking{tls.Server(at, config), at}
}

// transport moves the bytes of a Blocking: a socket, and after Adopt a loop.
type transport struct{ net.Conn }

// ErrKept reports a connection that a loop cannot take over.
var ErrKept = errors.New("tlsconn: this build cannot take over a TLS connection")

// Adopts reports whether Adopt works in this build: it depends on the release of Go.
func (p *Handshakes) Adopts() bool { return p.lends }

// Adopt returns the connection of b, which nobody else uses from now on: a loop moves its bytes,
// and t has its socket. early is what the client has sent and nobody has read. Its handshake must
// have ended. The socket that b had is not closed. ErrKept when Adopts is false. Loop only.
func Adopt(pool *Handshakes, b *Blocking, t Transport) (c *Conn, early []byte, err error) {
	if !pool.lends || !b.ConnectionState().HandshakeComplete {
		return nil, nil, ErrKept
	}
	c = &Conn{pool: pool, t: t, tls: b.Conn, open: true}
	b.at.Conn = (*wire)(c)
	// Records that crypto/tls has read from the socket, also the begin of one.
	buf := make([]byte, 1<<10)
	for err == nil {
		var n int
		n, err = b.Conn.Read(buf)
		early = append(early, buf[:n]...)
	}
	if !errors.Is(err, errAgain) {
		return nil, nil, err
	}
	if begin := buffer(c.tls, rawInput); begin.Len() > 0 {
		c.left = bytes.Clone(begin.Bytes())
		begin.Reset()
	}
	c.dropHandshake()
	return c, early, nil
}
