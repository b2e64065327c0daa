// Package tlsconn is TLS for connections whose bytes an event loop moves: the side of the server,
// and that of the client for the load generator.
//
// crypto/tls reads and writes a net.Conn that blocks. An event loop has one thread for many
// connections and must not wait. So a connection has two phases:
//
//   - The handshake runs on a goroutine of its own. The loop passes it the bytes that arrive,
//     and it posts what it sends to the loop. The goroutine starts when the whole ClientHello
//     has arrived, so a silent connection costs none. That of a client starts at once.
//   - Afterwards everything runs on the loop: crypto/tls gets whole records only, and an error
//     that is temporary when they are used up.
//
// Between two turns an idle connection holds no buffers: those of crypto/tls are lent by the
// loop for the time of a call (lend.go).
//
// A connection whose handshake ran on a goroutine that blocks joins a loop in the second phase
// (adopt.go).
package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// The lengths of a record, in bytes (RFC 8446, section 5.2, and RFC 5246, section 6.2.3).
const (
	headerLen     = 5
	maxCiphertext = 16<<10 + 2048
)

// FirstByte is the first byte of a client with TLS: the type of a record of the handshake.
const FirstByte = 22

// maxHello bounds the first record of a client. A ClientHello has up to 2 kB.
const maxHello = 16 << 10

// maxHandshake bounds the bytes of a client that wait for its handshake. A client may send
// frames right behind its last message of the handshake, before the server has read that.
const maxHandshake = 1 << 20

// The errors of a connection.
var (
	// ErrHello reports that the first bytes are no TLS handshake.
	ErrHello = errors.New("tlsconn: the first bytes are no TLS handshake")
	// ErrFlood reports that the client sent more than 1 MiB before the end of the handshake.
	ErrFlood = errors.New("tlsconn: too many bytes before the end of the handshake")
	// ErrCrowd reports that a handshake gave its place to another one, because its client
	// was silent.
	ErrCrowd = errors.New("tlsconn: handshake ended to make room")
	errEnded = errors.New("tlsconn: connection ended")
)

// Transport moves the bytes of a connection.
type Transport interface {
	// Send writes bytes to the socket and does not keep the slice. It does nothing after
	// the end of the connection. Loop only.
	Send(p []byte) error
	// Post runs f on the loop, in the order of the calls. Any goroutine.
	Post(f func())
	// Ready is called once, on the loop, when the handshake has ended. After an error the
	// transport closes the connection.
	Ready(err error)
}

// Refuser is a Transport that is told why a handshake failed, also when the peer has closed
// the connection by then, as one that gets an alert does.
type Refuser interface {
	// Refused is called before Ready, on the goroutine of the handshake.
	Refused(err error)
}

// Conn is one end of a connection. Loop only.
type Conn struct {
	pool  *Handshakes
	t     Transport
	tls   *tls.Conn  // nil before the ClientHello
	shake *handshake // while the handshake runs
	open  bool       // the handshake has succeeded
	ended bool
	left  []byte   // bytes that arrived during the handshake, up to the end of a record
	early []byte   // written before the end of the handshake
	buf   *Buffers // lent for the time of a call
}

// New returns a connection whose client has sent nothing yet.
func New(pool *Handshakes, t Transport) *Conn { return &Conn{pool: pool, t: t} }

// Client returns the client's end of a connection, whose handshake has begun. config names the
// server. Loop only.
func Client(pool *Handshakes, config *tls.Config, t Transport) *Conn {
	c := New(pool, t)
	c.tls = tls.Client((*wire)(c), config)
	c.shake = newHandshake(c)
	pool.begin(c.shake)
	return c
}

// Input takes bytes that have arrived, and passes what they say to deliver. It returns how
// many it has used: the caller presents the others again, with those that arrive later. The
// plain text is valid until deliver returns. deliver may call Write and Close.
//
// io.EOF means that the client ended the connection. After another error the connection must
// be closed.
func (c *Conn) Input(p []byte, b *Buffers, deliver func(plain []byte)) (used int, err error) {
	switch {
	case c.ended:
		return len(p), nil
	case c.shake != nil:
		return len(p), c.shake.feed(p)
	case !c.open:
		return c.hello(p)
	case len(c.left) > 0:
		c.left = append(c.left, p...)
		n, err := c.decrypt(c.left, b, deliver)
		if c.left = c.left[n:]; len(c.left) == 0 {
			c.left = nil
		}
		return len(p), err
	}
	return c.decrypt(p, b, deliver)
}

// Need returns how many bytes must be there before Input uses some of those that it left. p
// are the bytes that it left.
func (c *Conn) Need(p []byte) int {
	if len(p) < headerLen || len(c.left) > 0 {
		return 1
	}
	return headerLen + length(p)
}

// length returns the length of a record's body. p holds its header.
func length(p []byte) int { return int(p[3])<<8 | int(p[4]) }

// hello starts the handshake when the first record is whole.
func (c *Conn) hello(p []byte) (used int, err error) {
	const clientHello = 1
	if len(p) > 0 && p[0] != FirstByte || len(p) > 1 && p[1] != 3 ||
		len(p) > headerLen && p[headerLen] != clientHello ||
		len(p) >= headerLen && (length(p) == 0 || length(p) > maxHello) {
		return len(p), ErrHello
	}
	if len(p) < headerLen || len(p) < headerLen+length(p) {
		return 0, nil
	}
	c.tls = tls.Server((*wire)(c), c.pool.config)
	c.shake = newHandshake(c)
	err = c.shake.feed(p)
	c.pool.begin(c.shake)
	return len(p), err
}

// finish ends the handshake.
func (c *Conn) finish(h *handshake, err error) {
	if c.shake != h {
		return
	}
	c.shake = nil
	if c.ended {
		return
	}
	c.left = h.rest()
	if err == nil {
		c.open = true
		c.dropHandshake()
	}
	c.t.Ready(err)
}

// Flush sends what was written during the handshake, and passes what arrived during it to
// deliver. The transport calls it when it is ready.
func (c *Conn) Flush(b *Buffers, deliver func(plain []byte)) error {
	early := c.early
	c.early = nil
	if err := c.Write(early, b); err != nil {
		return err
	}
	left := c.left
	c.left = nil
	n, err := c.decrypt(left, b, deliver)
	if n < len(left) {
		c.left = left[n:]
	}
	return err
}

// Write sends p in records. Before the end of the handshake p is kept.
func (c *Conn) Write(p []byte, b *Buffers) error {
	switch {
	case c.ended || len(p) == 0:
		return nil
	case !c.open:
		c.early = append(c.early, p...)
		return nil
	}
	return c.send(b, func() error {
		_, err := c.tls.Write(p)
		return err
	})
}

// Writev sends the slices of ps, one after the other, with one call of Send.
func (c *Conn) Writev(ps [][]byte, b *Buffers) error {
	if c.ended {
		return nil
	}
	if !c.open {
		for _, p := range ps {
			c.early = append(c.early, p...)
		}
		return nil
	}
	return c.send(b, func() error {
		for _, p := range ps {
			if _, err := c.tls.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close tells the client that no more will come, and ends a handshake. The transport closes
// the socket.
func (c *Conn) Close(b *Buffers) {
	if c.ended {
		return
	}
	c.CloseWrite(b)
	c.End()
}

// CloseWrite tells the client that nothing will follow. Bytes of the client still arrive.
func (c *Conn) CloseWrite(b *Buffers) {
	if c.open && !c.ended {
		_ = c.send(b, c.tls.CloseWrite) // an error means that the connection ends
	}
}

// End ends the state of a connection whose socket is closed.
func (c *Conn) End() {
	c.ended = true
	c.early, c.left = nil, nil
	if c.shake != nil {
		c.shake.end(errEnded)
	}
}

// EndInput tells the handshake that the other side sends nothing more. Ready reports the reason
// for which the handshake ends: what this side found wrong, if it found something, or io.EOF.
// Loop only.
func (c *Conn) EndInput() {
	if c.shake != nil {
		c.shake.end(io.EOF)
	}
}

// Held returns the bytes that the connection holds beside those of the socket.
func (c *Conn) Held() int {
	n := len(c.early) + len(c.left)
	if c.shake != nil {
		n += handshakeBytes + len(c.shake.rest())
	}
	return n
}

// Waiting returns the bytes that were written and not sent.
func (c *Conn) Waiting() int { return len(c.early) }

// TakeWaiting ends the use of a connection that turned out to have no TLS. It returns what
// was written and not sent.
func (c *Conn) TakeWaiting() []byte {
	early := c.early
	c.End()
	return early
}

// decrypt passes the content of the whole records in p to deliver, and returns their length.
func (c *Conn) decrypt(p []byte, b *Buffers, deliver func(plain []byte)) (used int, err error) {
	if used = whole(p); used == 0 {
		return 0, nil
	}
	c.lend(b, p[:used])
	defer c.takeBack(b)
	for !c.ended {
		n, err := c.tls.Read(b.plain)
		// crypto/tls writes an alert, or the answer to a change of keys. It leaves before
		// deliver, whose handler may write to other connections of the loop.
		if sent := c.flush(b); sent != nil {
			return used, sent
		}
		if n > 0 {
			deliver(b.plain[:n])
		}
		if errors.Is(err, errAgain) {
			return used, nil
		}
		if err != nil {
			return used, err
		}
	}
	return used, nil
}

// whole returns the length of the whole records at the begin of p. A record that is too long
// counts as whole, because crypto/tls refuses it by its header.
func whole(p []byte) int {
	n := 0
	for len(p)-n >= headerLen {
		size := length(p[n:])
		if size > maxCiphertext {
			return len(p)
		}
		if len(p)-n < headerLen+size {
			break
		}
		n += headerLen + size
	}
	return n
}

// send collects the records that f writes, and sends them together.
func (c *Conn) send(b *Buffers, f func() error) error {
	if c.buf != nil { // within deliver: the records of the handler leave at the end
		outer := c.buf
		if err := f(); err != nil {
			return err
		}
		return c.flush(outer)
	}
	c.buf = b
	defer func() { c.buf = nil }()
	if err := f(); err != nil {
		return err
	}
	return c.flush(b)
}

// flush sends the records that were collected.
func (c *Conn) flush(b *Buffers) error {
	if len(b.out) == 0 {
		return nil
	}
	out := b.out
	b.out = nil // Send may end the connection, whose handler writes to other connections
	err := c.t.Send(out)
	if cap(out) <= keepOut {
		b.out = out[:0]
	}
	return err
}

// wire is a Conn as crypto/tls sees it.
type wire Conn

// errAgain says that the records of this call are used up. crypto/tls does not keep an error
// that is temporary.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "tlsconn: no more bytes yet" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// Read reads what has arrived. During the handshake it waits.
func (w *wire) Read(p []byte) (int, error) {
	if h := w.shake; h != nil {
		return h.read(p)
	}
	if w.buf == nil || len(w.buf.raw) == 0 {
		return 0, errAgain
	}
	n := copy(p, w.buf.raw)
	w.buf.raw = w.buf.raw[n:]
	return n, nil
}

// Write collects records. Those of the handshake are posted to the loop.
func (w *wire) Write(p []byte) (int, error) {
	if h := w.shake; h != nil {
		record := bytes.Clone(p)
		w.t.Post(func() { _ = w.t.Send(record) }) // the loop learns of the end by itself
		return len(p), nil
	}
	if w.buf == nil {
		return 0, io.ErrClosedPipe
	}
	w.buf.out = append(w.buf.out, p...)
	return len(p), nil
}

// Close does nothing: the transport closes the socket.
func (w *wire) Close() error { return nil }

// LocalAddr returns no address: crypto/tls needs none.
func (w *wire) LocalAddr() net.Addr { return nil }

// RemoteAddr returns no address.
func (w *wire) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing: the loop has the deadlines.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
