package websocket

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/gobwas/ws"
)

// MaxHead is the longest request that opens a connection, in bytes. Browsers send some hundred.
const MaxHead = 8 << 10

// headEnd ends a request.
var headEnd = []byte("\r\n\r\n")

// Head returns the length of the request at the begin of p, 0 before it is whole. The error is
// ErrHead when it is longer than MaxHead, or when p begins with no request for a connection.
func Head(p []byte) (int, error) {
	const method = "GET "
	if n := min(len(p), len(method)); string(p[:n]) != method[:n] {
		return 0, ErrHead
	}
	n := bytes.Index(p[:min(len(p), MaxHead)], headEnd)
	if n >= 0 {
		return n + len(headEnd), nil
	}
	if len(p) >= MaxHead {
		return 0, ErrHead
	}
	return 0, nil
}

// The reasons for which Accept refuses a request.
var (
	// ErrHead reports bytes that are no request of HTTP/1.1, or too long a one.
	ErrHead = errors.New("websocket: no request of HTTP/1.1 of up to 8 KiB")
	// ErrOrigin reports a page that may not connect.
	ErrOrigin = ws.RejectConnectionError(ws.RejectionStatus(http.StatusForbidden),
		ws.RejectionReason("websocket: pages of this origin may not connect"))
	// ErrUpgrade reports a request that does not open a connection, such as that of a page.
	ErrUpgrade = ws.ErrHandshakeBadUpgrade
	// ErrVersion reports a version of WebSocket other than 13.
	ErrVersion = ws.ErrHandshakeUpgradeRequired
)

// errTwice refuses a request that names its host, origin or key twice: a proxy before this server
// may have looked at the other one.
var errTwice = ws.RejectConnectionError(ws.RejectionStatus(http.StatusBadRequest),
	ws.RejectionReason("websocket: a header stands twice"))

// BadRequest is the answer to bytes for which Head returns an error.
const BadRequest = "HTTP/1.1 400 Bad Request\r\n" +
	"Content-Length: 0\r\nConnection: close\r\n\r\n"

// Accept answers a whole request, see Head. The answer is to be sent also when err is not nil, and
// then the connection must be closed. Any path is accepted. The first subprotocol that the client
// offers is agreed on, and no extension is. Any goroutine.
func Accept(head []byte, pages *Origins) (answer []byte, err error) {
	if err := checkHead(head); err != nil {
		return []byte(BadRequest), err
	}
	var origin, host string
	asks := false
	u := ws.Upgrader{
		ReadBufferSize: MaxHead,
		Protocol:       func([]byte) bool { return true },
		OnHost: func(value []byte) error {
			host = string(value)
			return nil
		},
		OnHeader: func(key, value []byte) error {
			if string(key) == "Origin" {
				origin, asks = string(value), true
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if asks && !pages.Allow(origin, host) {
				return nil, ErrOrigin
			}
			return nil, nil
		},
	}
	c := &exchange{in: bytes.NewReader(head)}
	_, err = u.Upgrade(c)
	if err != nil && c.out.Len() == 0 {
		return []byte(BadRequest), ErrHead
	}
	return c.out.Bytes(), err
}

// exchange is a request and its answer.
type exchange struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *exchange) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *exchange) Write(p []byte) (int, error) { return c.out.Write(p) }

// once are the headers that must not stand twice.
var once = []string{"host", "origin", "sec-websocket-key", "sec-websocket-version"}

// checkHead refuses lines that Upgrader and a proxy may read differently.
func checkHead(head []byte) error {
	var seen [4]bool
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	for i, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") {
			return ErrHead
		}
		name, _, ok := strings.Cut(line, ":")
		if i == 0 {
			continue
		}
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return ErrHead // also a value of two lines
		}
		for k, known := range once {
			if strings.EqualFold(name, known) {
				if seen[k] {
					return errTwice
				}
				seen[k] = true
			}
		}
	}
	return nil
}
