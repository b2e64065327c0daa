package engine

import (
	"fmt"

	"github.com/panjf2000/gnet/v2"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// conn is a session's carrier.
type conn struct {
	c    gnet.Conn
	s    *session.Conn
	loop *loop
	tls  *secure   // nil without TLS
	ws   *upgraded // nil without WebSocket
	// stranger is nil when there are no bounds for clients without a login, and after the
	// login. Set before the loop has the connection, then loop only.
	stranger *stranger
	need     int32 // bytes that must have arrived before the next frame is complete
	opened   bool
	closed   bool
	traits   traits
}

// refused reports whether the connection has got no session. Loop only.
func (cn *conn) refused() bool { return cn.s == nil }

// OnTraffic passes whole frames to the session.
func (e *events) OnTraffic(c gnet.Conn) gnet.Action {
	cn := c.Context().(*conn)
	if cn.refused() {
		return gnet.Close
	}
	stranger := cn.stranger != nil
	if c.InboundBuffered() < int(cn.need) {
		if stranger {
			cn.heard(e.server.opt.Strangers)
		}
		return gnet.None
	}
	cn.loop.Begin()
	if asks := cn.read(); asks && cn.stranger != nil {
		e.server.opt.Strangers.ask(cn.stranger)
	}
	cn.loop.End()
	if cn.stranger != nil {
		cn.heard(e.server.opt.Strangers)
	}
	return gnet.None
}

// lengthBytes is the size of a frame's length field. The length is checked as soon as
// these bytes have arrived.
const lengthBytes = 4

// limit returns the longest frame that the connection may send.
func (cn *conn) limit() int {
	limit := cn.loop.server.opt.MaxFrame
	if cn.stranger != nil {
		limit = min(limit, MaxStrangerFrame)
	}
	return limit
}

// read passes all whole frames to the handler. Bodies alias gnet's buffer, which is valid
// until Discard. It reports whether one was no heartbeat.
func (cn *conn) read() (asks bool) {
	// For gnet, Peek(-1) and Peek(0) both mean everything.
	buf, err := cn.c.Peek(-1)
	if err != nil {
		cn.s.Close(err)
		return false
	}
	if cn.traits&detected == 0 && len(buf) > 0 {
		cn.detect(buf[0])
	}
	if cn.tls != nil {
		return cn.tls.read(buf)
	}
	if cn.ws != nil && cn.ws.rest != nil {
		asks = cn.join(buf)
		if len(buf) > 0 && !cn.closed { // Discard(0) would discard everything
			_, _ = cn.c.Discard(len(buf))
		}
		return asks
	}
	used, asks := cn.frames(buf)
	if used > 0 { // Discard(0) would discard everything
		_, _ = cn.c.Discard(used)
	}
	return asks
}

// frames passes the whole frames at the begin of buf to the handler, and returns their
// length. It reports whether one was no heartbeat.
func (cn *conn) frames(buf []byte) (used int, asks bool) {
	if cn.ws != nil {
		return cn.messages(buf)
	}
	limit := cn.limit()
	for {
		h, body, n, err := pdu.Next(buf[used:], limit)
		if err != nil {
			cn.s.Close(cn.loop.server.tooLong(h, err))
		}
		if err != nil || cn.s.IsClosed() && !cn.s.Lingers() {
			cn.need = 0
			return len(buf), asks // the bytes after a closing frame are discarded
		}
		if n == 0 {
			cn.need = int32(max(h.Length, lengthBytes))
			if used < len(buf) {
				cn.rouse() // the rest of the frame may be short
			}
			return used, asks
		}
		cn.arrived(h)
		cn.loop.Deliver(cn.s, h, body)
		used += n
		asks = asks || h.Command != pb.CmdHeartBeat
	}
}

// longestSetting is the highest value of the setting link.max_frame.
const longestSetting = 1 << 30

// A handshake of TLS, read as the length of a frame, begins with the type of its record and
// the first byte of its version (RFC 8446, section 5.1).
const handshakeBits, handshakeBytes = 16, 0x1603

// tooLong adds to the error of a frame between servers the setting to change.
func (s *Server) tooLong(h pdu.Header, err error) error {
	if s.opt.Links != nil && h.Length>>handshakeBits == handshakeBytes &&
		int64(h.Length) > int64(s.opt.MaxFrame) {
		return fmt.Errorf("the peer begins TLS, and this server has none (section link_tls): %w",
			err)
	}
	if s.opt.Links == nil || int64(h.Length) <= int64(s.opt.MaxFrame) || h.Length > longestSetting {
		return err
	}
	return fmt.Errorf("%w; raise link.max_frame on all servers", err)
}

// Write sends p. gnet closes the connection when the write fails.
func (cn *conn) Write(p []byte) error {
	if cn.ws != nil {
		return cn.framed(p)
	}
	return cn.send(p)
}

// Writev sends ps in one system call. gnet copies the part that the kernel does not take.
func (cn *conn) Writev(ps [][]byte) error {
	if cn.ws != nil {
		return cn.framed(ps...)
	}
	return cn.sendAll(ps)
}

// send sends p as it is.
func (cn *conn) send(p []byte) error {
	if cn.closed {
		return errClosed // the descriptor may belong to another connection by now
	}
	if cn.tls != nil {
		return cn.tls.Write(p, cn.loop.tlsBuffers())
	}
	_, err := cn.c.Write(p)
	return err
}

// sendAll sends ps as they are.
func (cn *conn) sendAll(ps [][]byte) error {
	if cn.closed {
		return errClosed
	}
	if cn.tls != nil {
		return cn.tls.Writev(ps, cn.loop.tlsBuffers())
	}
	_, err := cn.c.Writev(ps)
	return err
}

// Buffered returns the number of bytes in gnet's outbound buffer, and of those that wait for
// the end of a TLS handshake.
func (cn *conn) Buffered() int {
	if cn.closed {
		return 0
	}
	n := cn.c.OutboundBuffered()
	if cn.tls != nil {
		n += cn.tls.Waiting()
	}
	return n
}

// Close closes the connection now, which calls OnClose.
func (cn *conn) Close() {
	if !cn.closed && cn.tls != nil {
		cn.tls.Close(cn.loop.tlsBuffers())
	}
	if !cn.closed { // a write that fails closes it
		_ = cn.loop.el.Close(cn.c)
	}
}
