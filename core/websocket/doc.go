// Package websocket is the part of WebSocket (RFC 6455) that a server needs whose event loops move
// the bytes of its connections. It reads and writes no socket:
//
//   - Accept answers the request that opens a connection.
//   - A Reader cuts messages and control frames out of the bytes that have arrived.
//   - A Writer puts a frame's header before each PDU that leaves.
//
// One binary message is exactly one PDU with its header, in both directions. No extension is
// agreed on, so no frame is compressed.
package websocket

import (
	"errors"
	"fmt"

	"github.com/gobwas/ws"
)

// The codes with which a connection is closed (RFC 6455, section 7.4.1, and IANA's registry).
// CodeNone stands for a close frame without a code, and is never sent.
const (
	CodeNormal    = 1000
	CodeGoingAway = 1001
	CodeProtocol  = 1002
	CodeNone      = 1005
	CodeData      = 1007
	CodePolicy    = 1008
	CodeTooLong   = 1009
	CodeFault     = 1011
	CodeLater     = 1013
)

// The faults of a peer. Code returns the code to close the connection with.
var (
	// ErrProtocol reports a frame that RFC 6455 forbids.
	ErrProtocol = errors.New("websocket: wrong frame")
	// ErrTooLong reports a message above the limit.
	ErrTooLong = errors.New("websocket: message too long")
	// ErrMessage reports a message that is not exactly one PDU.
	ErrMessage = errors.New("websocket: a message must be exactly one PDU")
)

// Code returns the code that tells a peer of one of this package's faults; 0 for other errors.
func Code(err error) int {
	switch {
	case errors.Is(err, ErrProtocol):
		return CodeProtocol
	case errors.Is(err, ErrTooLong):
		return CodeTooLong
	case errors.Is(err, ErrMessage):
		return CodeData
	}
	return 0
}

func wrong(err error) error { return fmt.Errorf("%w: %w", ErrProtocol, err) }

// validCode reports whether an endpoint may put code into a close frame.
func validCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// The bits of a frame's first two bytes.
const (
	bitFin    = 0x80
	bitsRsv   = 0x70
	bitsOp    = 0x0F
	bitMask   = 0x80
	bitsLen   = 0x7F
	length16  = 126
	length64  = 127
	maskLen   = 4
	shortest  = 2
	opMessage = bitFin | byte(ws.OpBinary)
)
