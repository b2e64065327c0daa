package web

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"

	"teamtalk/core/tlsconn"
)

// detecting is a connection that has TLS if its first byte says so: a request begins with a
// letter. net/http reads before it
// writes, and calls Read on one goroutine at a time.
type detecting struct {
	*conn
	secure *tlsconn.Blocking // after the first byte of a handshake
	plain  bool              // after another first byte
}

// Read reads plain text. The first call finds out whether the connection has TLS.
func (c *detecting) Read(p []byte) (int, error) {
	switch {
	case c.secure != nil:
		return c.secure.Read(p)
	case c.plain || len(p) == 0:
		return c.conn.Read(p)
	}
	n, err := c.conn.Read(p[:1])
	if n == 0 {
		return n, err
	}
	if p[0] != tlsconn.FirstByte {
		c.plain = true
		return n, err
	}
	c.secure = tlsconn.NewBlocking(&prefixed{conn: c.conn, first: bytes.Clone(p[:1])},
		c.s.opt.TLS)
	return c.secure.Read(p)
}

// Write writes plain text.
func (c *detecting) Write(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Write(p)
	}
	return c.conn.Write(p)
}

// ReadFrom writes what r holds. Without TLS the kernel copies files to the socket.
func (c *detecting) ReadFrom(r io.Reader) (int64, error) {
	if c.secure != nil {
		return io.Copy(struct{ io.Writer }{c.secure}, r)
	}
	return c.conn.ReadFrom(r)
}

// WriteTo writes what arrives to w.
func (c *detecting) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// CloseWrite tells the client that nothing more will come.
func (c *detecting) CloseWrite() error {
	if c.secure != nil {
		if err := c.secure.CloseWrite(); err != nil {
			return err
		}
	}
	return c.conn.CloseWrite()
}

// Close closes the connection, also while a write waits for the client.
func (c *detecting) Close() error {
	if c.secure != nil {
		return c.secure.Close()
	}
	return c.conn.Close()
}

// prefixed is a connection whose first bytes were read before.
type prefixed struct {
	*conn
	first []byte
}

// Read reads the first bytes, and then the connection.
func (c *prefixed) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.conn.Read(p)
}

// needsTLS is the answer to a client that must use TLS.
const needsTLS = "This port needs TLS: use https.\n"

// mayAnswer reports whether a request may be answered: with TLS, or from an address that may
// do without.
func (s *Server) mayAnswer(r *http.Request) bool {
	if s.opt.TLS == nil || Secure(r) {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.opt.Plain != nil && s.opt.Plain(from.Addr())
}

// Secure reports whether a request came over TLS, which may end in a proxy.
func Secure(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		return false
	}
	d, ok := c.(*detecting)
	return ok && d.secure != nil || counted(c).overTLS
}
