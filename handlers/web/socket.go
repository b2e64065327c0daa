package web

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"teamtalk/core/mono"
	port "teamtalk/core/web"
	"teamtalk/core/websocket"
)

// The shortest and the longest buffer of a direction, in bytes. A WebSocket that is idle holds two
// of the shortest. A buffer that is filled doubles, so that large messages take few calls.
const (
	minChunk = 512
	maxChunk = 16 << 10
)

// Open returns the number of WebSockets that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bridges)
}

// refuse answers a request that becomes no WebSocket.
func (s *Server) refuse(w http.ResponseWriter, result string, status int, text string) {
	s.metrics.sockets.WithLabelValues(result).Inc()
	http.Error(w, text, status)
}

// socket connects a page to a message server, which answers the request. One of this process takes
// over the connection. Otherwise the bytes of both directions are carried as they are.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	head, err := opening(r)
	if err != nil {
		w.Header().Set("Upgrade", "websocket")
		s.refuse(w, resultUpgrade, http.StatusUpgradeRequired, "WebSocket only: "+err.Error())
		return
	}
	if from := r.Header.Values("Origin"); len(from) > 0 && !s.opt.Origins.Allow(from[0], r.Host) {
		s.refuse(w, resultOrigin, http.StatusForbidden, "pages of this origin may not connect")
		s.warn("WebSocket refused: pages of this origin may not connect (setting "+
			"msg.websocket_origins)", "origin", from[0])
		return
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		s.refuse(w, resultUpgrade, http.StatusBadRequest, "the client has no address")
		return
	}
	if s.opt.Adopt != nil {
		s.adopt(w, r, client, head)
		return
	}
	to, err := s.opt.Messages(r.Context(), client, port.Secure(r))
	if err != nil {
		s.refuse(w, resultNoServer, http.StatusServiceUnavailable, "no message server is available")
		s.warn("no message server for a page", "err", err)
		return
	}
	first, err := s.ask(to, head)
	if err != nil {
		_ = to.Close() // the first error is the cause
		s.refuse(w, resultSilent, http.StatusServiceUnavailable,
			"the message server does not answer")
		s.warn("no answer of a message server to a page", "err", err)
		return
	}
	if !bytes.HasPrefix(first, []byte("HTTP/1.1 101 ")) {
		s.metrics.sockets.WithLabelValues(resultRefused).Inc()
		s.warn("a message server refuses the WebSocket of a page: its proxy.networks must name "+
			"this server", "answer", line(first))
	}
	s.connect(w, to, first)
}

// adopt lets a message server of this process take over the connection of a page, with the request.
func (s *Server) adopt(w http.ResponseWriter, r *http.Request, client netip.AddrPort, head []byte) {
	page, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.notHijacked(w, err)
		return
	}
	taken, err := port.Take(page, port.Taken{Client: client, Secure: port.Secure(r),
		Begin: append(head, early(rw)...)}, s.opt.Adopt)
	if taken {
		s.metrics.sockets.WithLabelValues(resultAdopted).Inc()
		return
	}
	s.metrics.sockets.WithLabelValues(resultNoServer).Inc()
	s.warn("the message server takes no page", "err", err)
	_ = page.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout)) // an error shows in the write
	_, _ = io.WriteString(page, noRoom)
	_ = page.Close()
}

// noRoom is the answer to a page that the message server of this process does not take.
const noRoom = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Connection: close\r\n\r\nno message server is available\n"

// early returns what a page has sent behind its request: it need not wait for the answer.
func early(rw *bufio.ReadWriter) []byte {
	p := make([]byte, rw.Reader.Buffered())
	_, _ = io.ReadFull(rw.Reader, p) // it has as many
	return p
}

// notHijacked answers on a port that does not give its connections away.
func (s *Server) notHijacked(w http.ResponseWriter, err error) {
	s.refuse(w, resultStopping, http.StatusInternalServerError, "no WebSocket on this port")
	s.log.Error("the connection of a page cannot be taken over", "err", err)
}

// warn logs a line about requests of pages, at most once a second.
func (s *Server) warn(text string, args ...any) { s.often.Warn(s.log, mono.Now(), text, args...) }

// line returns the first line of an answer.
func line(p []byte) string {
	first, _, _ := bytes.Cut(p, []byte("\r\n"))
	return string(first[:min(len(first), 100)])
}

// carried are the headers that the message server reads.
var carried = []string{"Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"}

// upgrades reports whether a request opens a WebSocket. A proxy before this server passes other
// requests on as plain ones: it would take what follows for further requests and answers.
func upgrades(r *http.Request) bool {
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1 ||
		r.ContentLength != 0 || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for _, line := range r.Header.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "Upgrade") {
				return true
			}
		}
	}
	return false
}

// opening returns the request that the message server gets. The origin of the page is checked here.
func opening(r *http.Request) ([]byte, error) {
	if !upgrades(r) || len(r.Header.Values("Origin")) > 1 {
		return nil, websocket.ErrUpgrade
	}
	var b bytes.Buffer
	b.WriteString("GET /ws HTTP/1.1\r\nHost: " + r.Host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
	for _, name := range carried {
		for _, value := range r.Header.Values(name) { // a second one is refused there
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	if b.Len() > websocket.MaxHead {
		return nil, websocket.ErrHead
	}
	return b.Bytes(), nil
}

// ask sends the request to a message server, and returns the first bytes of its answer.
func (s *Server) ask(to net.Conn, head []byte) ([]byte, error) {
	if err := to.SetDeadline(time.Now().Add(s.opt.AnswerTimeout)); err != nil {
		return nil, err
	}
	if _, err := to.Write(head); err != nil {
		return nil, err
	}
	buf := make([]byte, minChunk)
	n, err := to.Read(buf)
	if n == 0 {
		return nil, err
	}
	return buf[:n], to.SetDeadline(time.Time{})
}

// bridge joins the connection of a page with one to a message server.
type bridge struct {
	s            *Server
	page, server net.Conn
	ended        atomic.Int32 // directions
	closed       atomic.Bool
}

// connect takes over the connection of the page, sends it the begin of the answer, and carries the
// rest.
func (s *Server) connect(w http.ResponseWriter, to net.Conn, first []byte) {
	page, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close() // the first error is the cause
		s.notHijacked(w, err)
		return
	}
	b := &bridge{s: s, page: page, server: to}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.metrics.sockets.WithLabelValues(resultStopping).Inc()
		b.close()
		return
	}
	s.bridges[b] = struct{}{}
	s.done.Add(2)
	s.mu.Unlock()
	if bytes.HasPrefix(first, []byte("HTTP/1.1 101 ")) {
		s.metrics.sockets.WithLabelValues(resultOpen).Inc()
	}
	// The handler returns, which frees the memory of the request.
	go b.carry(to, page, early(rw))
	go b.carry(page, to, first)
}

// carry sends what was read from a connection, and what it reads from there, to another one, until
// either ends.
func (b *bridge) carry(to, from net.Conn, read []byte) {
	defer b.s.done.Done()
	err := b.send(to, read)
	buf := make([]byte, minChunk)
	for err == nil {
		var n int
		n, err = from.Read(buf)
		if failed := b.send(to, buf[:n]); failed != nil {
			b.close()
			break
		}
		buf = fitting(buf, n)
	}
	// The peer learns that nothing follows, and has a while to end its own direction.
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // the peer may be gone
	}
	_ = to.SetReadDeadline(time.Now().Add(b.s.opt.Linger)) // a closed one has ended
	if b.ended.Add(1) == 2 {
		b.close()
		b.s.mu.Lock()
		delete(b.s.bridges, b)
		b.s.mu.Unlock()
	}
}

// fitting returns the buffer for the next read, after one of n bytes into buf.
func fitting(buf []byte, n int) []byte {
	switch {
	case n == len(buf) && n < maxChunk:
		return make([]byte, 2*n)
	case n < len(buf)/8 && len(buf) > minChunk:
		return make([]byte, minChunk)
	}
	return buf
}

// send sends p.
func (b *bridge) send(to net.Conn, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := to.SetWriteDeadline(time.Now().Add(b.s.opt.WriteTimeout)); err != nil {
		return err
	}
	_, err := to.Write(p)
	return err
}

// close closes both connections, once. Any goroutine.
func (b *bridge) close() {
	if b.closed.CompareAndSwap(false, true) {
		_ = b.page.Close() // nothing is left to do about an error
		_ = b.server.Close()
	}
}
