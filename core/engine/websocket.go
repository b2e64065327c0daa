package engine

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/core/websocket"
	"teamtalk/proto/pb"
)

// WebSocket makes a port for clients one for WebSocket: each connection begins with a request of
// HTTP, and each of its binary messages is one PDU.
type WebSocket struct {
	// Origins are the pages that may open connections.
	Origins websocket.Origins
	// LoginDeadline is the longest time from connecting to the login, once the connection is
	// WebSocket. A page opens its connection before its user types a password. 0: that of the
	// handler, which holds until then.
	LoginDeadline time.Duration
}

// webSocketMetrics count the connections of a port for WebSocket.
type webSocketMetrics struct{ refused, closed *prometheus.CounterVec }

func newWebSocketMetrics(reg prometheus.Registerer, name string) *webSocketMetrics {
	labels := prometheus.Labels{"listener": name}
	m := &webSocketMetrics{
		prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "teamtalk_websocket_refused_total",
			Help:        "Requests that did not become a WebSocket connection, by reason.",
			ConstLabels: labels}, []string{"reason"}),
		prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "teamtalk_websocket_closed_total",
			Help:        "Connections closed, by the side that was first.",
			ConstLabels: labels}, []string{"by", "code"}),
	}
	if reg != nil {
		reg.MustRegister(m.refused, m.closed)
	}
	return m
}

// noteClosed counts a close frame. Codes of applications count together.
func (m *webSocketMetrics) noteClosed(by string, code int) {
	label := strconv.Itoa(code)
	switch {
	case code >= 3000:
		label = "application"
	case code == websocket.CodeNone:
		label = "none"
	}
	m.closed.WithLabelValues(by, label).Inc()
}

// upgraded is the WebSocket of a connection. Loop only.
type upgraded struct {
	in    websocket.Reader
	out   websocket.Writer
	pong  []byte // a pong that waits for the end of a PDU; nil: none
	rest  []byte // what another port has read, see Adopt; nil: nothing
	state wsState
	deaf  bool   // what arrives is dropped
	code  uint16 // of the close frame that the peer sent
}

type wsState uint8

const (
	wsRequest wsState = iota // the request has not arrived
	wsOpen                   // frames in both directions
	wsHeard                  // the peer has sent a close frame
	wsTold                   // this side has sent one, or has refused the request
)

// refusals are the reasons of refused requests, as metrics name them.
var refusals = []struct {
	err  error
	name string
}{
	{websocket.ErrOrigin, "origin"}, {websocket.ErrUpgrade, "no_upgrade"},
	{websocket.ErrVersion, "version"}, {websocket.ErrHead, "not_http"},
}

// upgrade answers the request at the begin of buf, and returns its length.
func (cn *conn) upgrade(buf []byte) (used int) {
	n, err := websocket.Head(buf)
	if err == nil && n == 0 {
		cn.need = int32(len(buf) + 1)
		return 0
	}
	s := cn.loop.server
	var answer []byte
	if err == nil {
		answer, err = websocket.Accept(buf[:n], &s.opt.WebSocket.Origins)
	} else {
		answer = []byte(websocket.BadRequest)
	}
	if writeErr := cn.send(answer); writeErr != nil {
		cn.s.Close(writeErr)
		return len(buf)
	}
	if err != nil {
		cn.ws.state, cn.ws.deaf = wsTold, true
		why := "malformed"
		for _, r := range refusals {
			if errors.Is(err, r.err) {
				why = r.name
				break
			}
		}
		s.webSocket.refused.WithLabelValues(why).Inc()
		s.often.Warn(s.log, s.now(), "WebSocket refused", "reason", why, "err", err)
		// The client reads the answer before it sees the end, which a reset would destroy.
		cn.s.Leave(fmt.Errorf("%w: %w", session.ErrMalformed, err))
		return len(buf)
	}
	cn.ws.state = wsOpen
	if d := s.opt.WebSocket.LoginDeadline; d > 0 {
		cn.s.SetDeadline(d)
	}
	return n
}

// messages passes the whole messages at the begin of buf to the handler, see frames. A session that
// is closed gets none, but the close frame of its peer is still looked for.
func (cn *conn) messages(buf []byte) (used int, asks bool) {
	x := cn.ws
	if x.state == wsRequest {
		if used = cn.upgrade(buf); x.state == wsRequest {
			return used, false
		}
	}
	for !x.deaf {
		f, err := x.in.Next(buf[used:], cn.limit())
		if err == nil && f.Kind == websocket.Message {
			err = cn.message(f.Payload, &asks)
		}
		switch {
		case err != nil:
			x.deaf = true
			cn.s.Close(webSocketError(err))
		case f.Kind == websocket.More:
			cn.need = int32(f.Need)
			return used, asks
		case f.Kind == websocket.Ping:
			cn.answer(f.Payload)
		case f.Kind == websocket.Close:
			cn.heardClose(f.Code)
		}
		used += f.Used
	}
	cn.need = 0
	return len(buf), asks
}

// message passes a message, which must be one PDU, to the handler.
func (cn *conn) message(p []byte, asks *bool) error {
	h, body, n, err := pdu.Next(p, cn.limit())
	if err != nil || n != len(p) {
		return fmt.Errorf("%w: %d bytes, a PDU of %d", websocket.ErrMessage, len(p), h.Length)
	}
	if cn.s.IsClosed() && !cn.s.Lingers() {
		return nil
	}
	cn.loop.Deliver(cn.s, h, body)
	*asks = *asks || h.Command != pb.CmdHeartBeat
	return nil
}

// webSocketError adds the reason for metrics to a fault of the peer.
func webSocketError(err error) error {
	if errors.Is(err, websocket.ErrTooLong) {
		return fmt.Errorf("%w: %w", pdu.ErrLength, err)
	}
	return fmt.Errorf("%w: %w", session.ErrMalformed, err)
}

// maxPongs bounds what the peer leaves unread, in bytes, before its pings wait for an answer. Of
// those that wait the last one is answered.
const maxPongs = 16 << 10

// answer answers a ping.
func (cn *conn) answer(payload []byte) {
	x := cn.ws
	if x.state != wsOpen {
		return // nothing follows a close frame
	}
	if !x.out.Between() || cn.Buffered() > maxPongs {
		x.pong = websocket.AppendPong(nil, payload)
		return
	}
	l := cn.loop
	l.framed = websocket.AppendPong(l.framed[:0], payload)
	if err := cn.send(l.framed); err != nil {
		cn.s.Close(err)
	}
}

// heardClose ends the session because the peer closes the connection, or ends the wait for it.
func (cn *conn) heardClose(code int) {
	x := cn.ws
	x.deaf = true
	if x.state != wsTold {
		x.state, x.code = wsHeard, uint16(code)
		cn.loop.server.webSocket.noteClosed("client", code)
	}
	cn.s.Close(nil) // ends lingering
}

// closeCodes are the codes that tell a client why the server closes its connection.
var closeCodes = []struct {
	err  error
	code int
}{
	{session.ErrShutdown, websocket.CodeGoingAway}, {session.ErrIdle, websocket.CodePolicy},
	{session.ErrLoginDeadline, websocket.CodePolicy}, {session.ErrMalformed, websocket.CodeData},
	{session.ErrOverflow, websocket.CodeLater}, {session.ErrDisplaced, websocket.CodeLater},
	{session.ErrPanic, websocket.CodeFault}, {pdu.ErrLength, websocket.CodeTooLong},
}

// codeOf returns the code for the end of a session.
func codeOf(err error) int {
	if code := websocket.Code(err); code != 0 {
		return code
	}
	for _, c := range closeCodes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	if im.KindOf(err) == im.Denied {
		return websocket.CodePolicy // kicked
	}
	return websocket.CodeNormal
}

// Farewell implements session.Farewell: it sends the close frame. Afterwards the client closes the
// connection. When it has sent its close frame first, this side ends its direction too.
func (cn *conn) Farewell(err error) bool {
	x := cn.ws
	if x == nil || cn.closed || x.state == wsTold || x.state == wsRequest || !x.out.Between() {
		return false
	}
	heard := x.state == wsHeard
	code := int(x.code)
	if !heard {
		code = codeOf(err)
		cn.loop.server.webSocket.noteClosed("server", code)
	}
	x.state, x.pong = wsTold, nil
	if cn.send(websocket.AppendClose(nil, code)) == nil && heard {
		cn.CloseWrite()
	}
	return true
}

// directRun is the length, in bytes, from which a part of a PDU is sent without a copy.
const directRun = 8 << 10

// maxSlices bounds the slices of one write. The kernel takes 1,024.
const maxSlices = 1022

// keepFramed is the capacity, in bytes, of the largest buffer that a loop keeps for framing.
const keepFramed = 64 << 10

// framed sends ps, the next bytes of the stream of PDUs, in frames and in one write.
func (cn *conn) framed(ps ...[]byte) error {
	x, l := cn.ws, cn.loop
	if x.state == wsTold || x.state == wsRequest {
		return nil // not a WebSocket connection yet, or not any more
	}
	buf, out := l.framed[:0], l.slices[:0]
	begin := 0
	for _, p := range ps {
		for len(p) > 0 {
			var run []byte
			buf, run, p = x.out.Next(buf, p)
			if len(run) < directRun {
				buf = append(buf, run...)
			} else {
				out = append(out, buf[begin:len(buf):len(buf)], run)
				begin = len(buf)
			}
			if len(out) == maxSlices {
				if err := cn.sendAll(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
	}
	if x.pong != nil && x.out.Between() {
		buf, x.pong = append(buf, x.pong...), nil
	}
	var err error
	switch {
	case len(out) > 0:
		if len(buf) > begin {
			out = append(out, buf[begin:])
		}
		err = cn.sendAll(out)
	case len(buf) > 0:
		err = cn.send(buf)
	}
	if cap(buf) <= keepFramed {
		l.framed = buf[:0]
	}
	clear(out)
	l.slices = out[:0]
	return err
}
