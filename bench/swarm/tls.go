package swarm

import (
	"crypto/tls"
	"net/netip"

	"teamtalk/core/tlsconn"
)

// secure is the TLS of a connection. Loop only.
type secure struct {
	*tlsconn.Conn
	c     *Conn
	plain []byte // frames to encrypt; borrowed from the loop, nil when empty
	rest  []byte // beginning of a frame; borrowed from the loop, nil when empty
}

// established is called once the socket is connected. With TLS the handshake begins.
func (c *Conn) established() {
	if c.loop.swarm.tls == nil {
		c.secured()
		return
	}
	c.state = shaking
	c.tls = &secure{c: c}
	c.tls.Conn = tlsconn.Client(c.loop.swarm.tls, c.loop.tlsConfig(c.peer.Addr()), c.tls)
}

// secured is called once the handshake of TLS has ended, if there is one.
func (c *Conn) secured() {
	if c.loop.swarm.opt.WebSocket {
		c.upgrade()
		return
	}
	c.connected()
}

// tlsConfig returns the configuration for a server, which names it.
func (l *Loop) tlsConfig(peer netip.Addr) *tls.Config {
	base := l.swarm.opt.TLS
	if base.ServerName != "" {
		return base
	}
	if l.configs[peer] == nil {
		named := base.Clone()
		named.ServerName = peer.String()
		if l.configs == nil {
			l.configs = map[netip.Addr]*tls.Config{}
		}
		l.configs[peer] = named
	}
	return l.configs[peer]
}

// shared returns what the connections of the loop share for TLS.
func (l *Loop) shared() *tlsconn.Buffers {
	if l.buffers == nil {
		l.buffers = tlsconn.NewBuffers()
	}
	return l.buffers
}

// take decrypts b, which is the rest of the last read and the bytes read after it, and keeps
// what remains.
func (x *secure) take(b []byte) {
	used, err := x.Input(b, x.c.loop.shared(), x.frames)
	switch {
	case x.c.state == closed:
	case err != nil:
		x.c.fail(err) // io.EOF is the end of the other side
	default:
		x.c.in = x.c.loop.keep(x.c.in, b[used:])
	}
}

// frames passes the frames in plain text to the handler, and keeps the rest.
func (x *secure) frames(plain []byte) {
	if x.c.ws != nil {
		x.c.ws.take(plain)
		return
	}
	if x.rest != nil {
		x.rest = append(x.rest, plain...)
		plain = x.rest
	}
	rest := x.c.cut(plain)
	if x.c.state == opened {
		x.rest = x.c.loop.keep(x.rest, rest)
	}
}

// seal encrypts the queued frames.
func (x *secure) seal() {
	if len(x.plain) == 0 {
		return
	}
	plain := x.plain
	x.plain = nil
	err := x.Write(plain, x.c.loop.shared())
	x.c.loop.give(plain)
	if err != nil {
		x.c.fail(err)
	}
}

// release returns the buffers to the loop.
func (x *secure) release() {
	x.End()
	x.c.loop.give(x.plain)
	x.c.loop.give(x.rest)
	x.plain, x.rest = nil, nil
}

// Send implements tlsconn.Transport: it queues bytes for the end of the loop's turn.
func (x *secure) Send(p []byte) error {
	if x.c.live() {
		x.c.out = append(x.c.queue(x.c.out), p...)
	}
	return nil
}

// Post implements tlsconn.Transport.
func (x *secure) Post(f func()) { x.c.loop.Do(f) }

// Ready implements tlsconn.Transport.
func (x *secure) Ready(err error) {
	if x.c.state != shaking {
		return
	}
	if err != nil {
		x.c.fail(err)
		return
	}
	x.c.secured()
	if err := x.Flush(x.c.loop.shared(), x.frames); err != nil && x.c.live() {
		x.c.fail(err)
	}
}
